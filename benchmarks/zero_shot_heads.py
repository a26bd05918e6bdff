"""Recipe d for every mixer and several seeds, on encoder states that are computed once for all of them:

python benchmarks/zero_shot_heads.py ENCODER TEXT/emoji --seeds 3 --json OUT

Trains on the English train rows; scores the dev and test rows of every other language. The heads are the product's
mixers and a linear layer, with the rates, epochs and dropout of recipes/emoji_classifier.yaml; `lrengine train` on that
file trains one mixer and seed, with a model directory at its end. Intervals draw emoji, each with all its names."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrengine.data.examples import Example
from lrengine.data.files import read_rows
from lrengine.evaluation import baselines
from lrengine.evaluation.bootstrap import MEAN, Bootstrap, interval, mean_over_seeds
from lrengine.evaluation.statistics import CLASSIFICATION
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
States = list[Tensor]  # one [S, L, D] a text


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
def predicted(head: Head, states: States, names: list[str]) -> list[str]:
    chunks = [head(states[start : start + BATCH]).argmax(1) for start in range(0, len(states), BATCH)]
    return [names[index] for index in torch.cat(chunks).tolist()]


def read(folder: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """English train rows, English dev rows, and the dev and test rows of the other languages."""
    train: list[Example] = []
    dev: list[Example] = []
    rest: list[Example] = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(str(path)):
            values = row.values
            example = Example(values["text"], values["label"], path.stem, "labels", path.stem, group=values["id"])
            if path.stem != "en" and values["split"] != "train":
                rest.append(example)
            elif path.stem == "en" and values["split"] != "test":
                (train if values["split"] == "train" else dev).append(example)
    return train, dev, rest


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, required=True, help="written anew after every mixer")
    args = parser.parse_args()
    train, dev, rest = read(args.texts)
    names = sorted({str(example.target) for example in train})
    labels = torch.tensor([names.index(str(example.target)) for example in train])
    encoder, codec = load_encoder(args.encoder).eval(), TextCodec.load(args.encoder)
    assert codec is not None
    started = time.monotonic()
    known, asked, english = (encoder_states(encoder, codec, [e.source for e in part]) for part in (train, rest, dev))
    document: dict[str, Any] = {
        "encoder_seconds": round(time.monotonic() - started),
        "examples": len(rest),
        "mixers": {},
    }
    bootstrap, accuracy = Bootstrap(rest, 2000), CLASSIFICATION["accuracy"]
    pooled = {text: state[:, -1].float().mean(0) for part, states in ((train, known), (rest, asked)) for text, state
              in zip((e.source for e in part), states, strict=True)}  # fmt: skip
    rivals = {
        "majority": baselines.majority(train, rest),
        "tfidf": baselines.tfidf_classifier(train, rest),
        "linear": baselines.linear_probe(train, rest, lambda texts: torch.stack([pooled[text] for text in texts])),
    }
    scores = {name: bootstrap.scores(answers, accuracy) for name, answers in rivals.items()}
    for name, mixer in MIXERS.items():
        started, runs, first = time.monotonic(), [], []
        for seed in range(args.seeds):
            head = trained(mixer, known, labels, len(names), seed)
            runs.append(bootstrap.scores(predicted(head, asked, names), accuracy))
            hits = [ours == e.target for ours, e in zip(predicted(head, english, names), dev, strict=True)]
            first.append(100 * sum(hits) / len(hits))
        scores[name] = mean_over_seeds(runs)
        document["mixers"][name] = {
            "seeds": [round(float(run[MEAN][0]), 2) for run in runs],
            "english_dev": [round(value, 2) for value in first],
            "seconds": round(time.monotonic() - started),
        }
        document["scores"] = {
            system: {task: vars(interval(row)) for task, row in found.items()} for system, found in scores.items()
        }
        document["lead_over_last"] = {
            system: vars(interval(found[MEAN] - scores["last"][MEAN])) for system, found in scores.items()
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(name, document["mixers"][name], vars(interval(scores[name][MEAN])), flush=True)


if __name__ == "__main__":
    main()
