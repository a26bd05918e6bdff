"""Recipe d for every mixer and several seeds, on encoder states that are computed once for all of them:

python benchmarks/zero_shot_heads.py ENCODER TEXT/emoji --seeds 3 --json OUT

Trains on the English train rows; scores the dev and test rows of every other language. The heads are the product's
mixers and a linear layer, with the rates, epochs and dropout of recipes/emoji_classifier.yaml; `lrengine train` on that
file trains one mixer and seed, with a model directory at its end. Intervals draw emoji, each with all its names.

--unlabelled 100 500 scores every mixer also with the two biases a language of language_bias.py, from 100 and from 500
of its train names, without their labels; on dev and test rows together and, as all mixers, on test rows alone."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from language_bias import with_biases
from torch import Tensor, nn

from lrengine.data.examples import Example
from lrengine.data.files import read_rows
from lrengine.evaluation import baselines
from lrengine.evaluation.bootstrap import MEAN, Bootstrap, interval, mean_over_seeds
from lrengine.evaluation.statistics import CLASSIFICATION, Rows
from lrengine.models.encoders import all_layer_states, load_encoder
from lrengine.models.mixer import build_mixer, mixer_settings
from lrengine.text import TextCodec

TEMPERATURE = {"temperature_base": 10.0, "temperature_factor": 0.0}
SMALL = {"ffn_dim": 128}
MIXERS: dict[str, dict[str, Any]] = {
    "last": {"type": "last"},
    "global": {"type": "global", **TEMPERATURE},
    "transformer": {"type": "transformer", **SMALL},
    "transformer + global": {"type": "transformer", "add_global": True, **SMALL, **TEMPERATURE},
}
EPOCHS, BATCH, RATE, MIXER_RATE, WARMUP, DECAY, DROPOUT = 10, 32, 1e-2, 3e-4, 0.05, 0.01, 0.3
BOTH, TEST = "dev and test", "test"  # rows that are scored
NONE = "none"  # of the biases
States = list[Tensor]  # one [S, L, D] a text
Runs = list[Mapping[str, Rows]]  # one a seed


@torch.no_grad()
def encoder_states(encoder: Any, codec: TextCodec, texts: list[str]) -> States:
    """Texts of like length are run together."""
    rows = [codec.source(text) for text in texts]
    found: States = [torch.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        ids = nn.utils.rnn.pad_sequence([torch.tensor(rows[i]) for i in chosen], True, encoder.config.pad_token_id)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(rows[i]), dtype=torch.long) for i in chosen], True)
        states = torch.stack(all_layer_states(encoder, ids, mask), 2)
        for place, index in enumerate(chosen):
            found[index] = states[place, : len(rows[index])].half()
    return found


class Head(nn.Module):
    """Mixer, mean over the tokens, dropout, linear layer."""

    def __init__(self, mixer: dict[str, Any], layers: int, width: int, classes: int) -> None:
        super().__init__()
        self.mixer = build_mixer(mixer_settings(mixer), layers, width)
        self.dropout, self.linear = nn.Dropout(DROPOUT), nn.Linear(width, classes)

    def forward(self, states: States) -> Tensor:
        padded = nn.utils.rnn.pad_sequence([state.float() for state in states], True)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(state)) for state in states], True)
        fused, _ = self.mixer(list(padded.unbind(2)), mask)
        return self.linear(self.dropout(fused.sum(1) / mask.sum(1, keepdim=True)))  # type: ignore[no-any-return]


def trained(
    mixer: dict[str, Any], states: States, labels: Tensor, classes: int, seed: int, epochs: int = EPOCHS
) -> Head:
    torch.manual_seed(seed)
    _, layers, width = states[0].shape
    head = Head(mixer, layers, width, classes)
    groups: list[dict[str, Any]] = [
        {"params": list(head.mixer.parameters()), "lr": MIXER_RATE},
        {"params": list(head.linear.parameters())},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=RATE, weight_decay=DECAY)
    steps = epochs * math.ceil(len(states) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, step / (WARMUP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for _ in range(epochs):
        for chosen in torch.randperm(len(states)).split(BATCH):
            loss = nn.functional.cross_entropy(head([states[i] for i in chosen.tolist()]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.no_grad()
def logits(head: Head, states: States) -> Tensor:
    """[n, C]"""
    return torch.cat([head(states[start : start + BATCH]) for start in range(0, len(states), BATCH)])


def predicted(head: Head, states: States, names: list[str]) -> list[str]:
    return [names[index] for index in logits(head, states).argmax(1).tolist()]


@dataclass(frozen=True)
class Texts:
    """`test` says which of `rest` are test rows. `unlabelled` is a language's train names in random order, which hangs
    on the language alone."""

    train: list[Example] = field(default_factory=list)  # English
    dev: list[Example] = field(default_factory=list)  # English
    rest: list[Example] = field(default_factory=list)  # dev and test rows of the other languages
    test: list[int] = field(default_factory=list)
    unlabelled: dict[str, list[str]] = field(default_factory=dict)


def read(folder: Path) -> Texts:
    found = Texts()
    for path in sorted(folder.glob("*.jsonl")):
        language, names = path.stem, list[str]()
        for row in read_rows(str(path)):
            values, split = row.values, row.values["split"]
            example = Example(values["text"], values["label"], language, "labels", language, group=values["id"])
            if language == "en" and split != "test":
                (found.train if split == "train" else found.dev).append(example)
            elif language != "en" and split == "train":
                names.append(example.source)
            elif language != "en":
                found.test.extend([len(found.rest)] if split == "test" else [])
                found.rest.append(example)
        if language != "en":
            found.unlabelled[language] = random.Random(language).sample(names, len(names))
    return found


@dataclass(frozen=True)
class Encoded:
    """The states of Texts; unlabelled names only as many as are asked for."""

    train: States
    dev: States
    rest: States
    unlabelled: dict[str, States]


def encoded(texts: Texts, folder: Path, names: int) -> Encoded:
    encoder, codec = load_encoder(folder).eval(), TextCodec.load(folder)
    assert codec is not None
    train, dev, rest = (
        encoder_states(encoder, codec, [example.source for example in part])
        for part in (texts.train, texts.dev, texts.rest)
    )
    unlabelled = {
        language: encoder_states(encoder, codec, found[:names]) for language, found in texts.unlabelled.items() if names
    }
    return Encoded(train, dev, rest, unlabelled)


def baseline_answers(texts: Texts, states: Encoded) -> dict[str, list[str]]:
    pooled = {
        example.source: state[:, -1].float().mean(0)
        for example, state in zip([*texts.train, *texts.rest], states.train + states.rest, strict=True)
    }
    return {
        "majority": baselines.majority(texts.train, texts.rest),
        "tfidf": baselines.tfidf_classifier(texts.train, texts.rest),
        "linear": baselines.linear_probe(
            texts.train, texts.rest, lambda found: torch.stack([pooled[text] for text in found])
        ),
    }


def head_answers(
    head: Head, texts: Texts, states: Encoded, names: list[str], labels: Tensor, counts: list[int]
) -> dict[str, list[str]]:
    """Bias -> answers for `texts.rest`."""
    plain = logits(head, states.rest)
    biased = with_biases(
        plain,
        [example.task for example in texts.rest],
        {language: logits(head, found) for language, found in states.unlabelled.items()},
        logits(head, states.train),
        torch.bincount(labels) / len(labels),
        counts,
    )
    return {
        bias: [names[index] for index in values.argmax(1).tolist()] for bias, values in {NONE: plain, **biased}.items()
    }


def part_figures(runs: dict[str, dict[str, Runs]]) -> dict[str, Any]:
    """Of one part's rows: mixer -> bias -> one run a seed, to bias -> mixer -> figures, those of "mean" over
    the mixers."""
    means = {
        mixer: {bias: mean_over_seeds(found)[MEAN] for bias, found in biases.items()} for mixer, biases in runs.items()
    }
    figures: dict[str, Any] = {}
    for bias in next(iter(runs.values())):
        leads = {mixer: found[bias] - found[NONE] for mixer, found in means.items()}
        figures[bias] = {
            mixer: {
                "seeds": [round(float(run[MEAN][0]), 2) for run in runs[mixer][bias]],
                "score": vars(interval(found[bias])),
                "lead_over_unbiased": vars(interval(leads[mixer])),
                "lead_over_last": vars(interval(found[bias] - means["last"][bias])),
            }
            for mixer, found in means.items()
        }
        figures[bias]["mean"] = {
            "score": vars(interval(np.mean([found[bias] for found in means.values()], axis=0))),
            "lead_over_unbiased": vars(interval(np.mean(list(leads.values()), axis=0))),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--unlabelled", type=int, nargs="+", default=[], metavar="COUNT")
    parser.add_argument("--json", type=Path, required=True, help="written anew after every mixer")
    args = parser.parse_args()
    texts = read(args.texts)
    names = sorted({str(example.target) for example in texts.train})
    labels = torch.tensor([names.index(str(example.target)) for example in texts.train])
    started = time.monotonic()
    states = encoded(texts, args.encoder, max(args.unlabelled, default=0))
    document: dict[str, Any] = {
        "encoder_seconds": round(time.monotonic() - started),
        "examples": len(texts.rest),
        "mixers": {},
    }
    accuracy = CLASSIFICATION["accuracy"]
    parts = {BOTH: list(range(len(texts.rest))), TEST: texts.test}
    bootstraps = {part: Bootstrap([texts.rest[index] for index in chosen], 2000) for part, chosen in parts.items()}
    scores = {
        name: bootstraps[BOTH].scores(answers, accuracy) for name, answers in baseline_answers(texts, states).items()
    }
    runs: dict[str, dict[str, dict[str, Runs]]] = {part: {} for part in parts}  # part, mixer, bias
    for name, mixer in MIXERS.items():
        started, first = time.monotonic(), []
        for seed in range(args.seeds):
            head = trained(mixer, states.train, labels, len(names), seed)
            for bias, answers in head_answers(head, texts, states, names, labels, args.unlabelled).items():
                for part, chosen in parts.items():
                    run = bootstraps[part].scores([answers[index] for index in chosen], accuracy)
                    runs[part].setdefault(name, {}).setdefault(bias, []).append(run)
            english = predicted(head, states.dev, names)
            hits = [ours == e.target for ours, e in zip(english, texts.dev, strict=True)]
            first.append(100 * sum(hits) / len(hits))
        scores[name] = mean_over_seeds(runs[BOTH][name][NONE])
        document["mixers"][name] = {
            "seeds": [round(float(run[MEAN][0]), 2) for run in runs[BOTH][name][NONE]],
            "english_dev": [round(value, 2) for value in first],
            "seconds": round(time.monotonic() - started),
        }
        document["scores"] = {
            system: {task: vars(interval(row)) for task, row in found.items()} for system, found in scores.items()
        }
        document["lead_over_last"] = {
            system: vars(interval(found[MEAN] - scores["last"][MEAN])) for system, found in scores.items()
        }
        document["parts"] = {part: part_figures(found) for part, found in runs.items()}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(name, document["mixers"][name], vars(interval(scores[name][MEAN])), flush=True)
    print("| rows | bias | mixer | accuracy | lead over no bias |\n| --- | --- | --- | --- | --- |")
    for part, biases in document["parts"].items():
        for bias, mixers in biases.items():
            for name, found in mixers.items():
                score = "{value:.1f} [{low:.1f}, {high:.1f}]".format(**found["score"])
                lead = "{value:+.1f} [{low:+.1f}, {high:+.1f}]".format(**found["lead_over_unbiased"])
                print(f"| {part} | {bias} | {name} | {score} | {lead} |")


if __name__ == "__main__":
    main()
