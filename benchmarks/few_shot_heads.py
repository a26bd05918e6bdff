"""Recipe d, second part, for several sizes of training set: which program a string belongs to, in the language itself:

python benchmarks/few_shot_heads.py ENCODER TEXT/component/ug.jsonl --sizes 50,200,all --seeds 3 --json OUT

Frozen encoder, its states computed once; heads, rates and dropout as in zero_shot_heads.py. A smaller training set is
part of every larger one, and each seed draws its own. A head takes EPOCHS epochs or LEAST_STEPS steps, whichever is
more. Test strings that are training strings but for case, digits and signs are left out and counted."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import zero_shot_heads as heads
from torch import Tensor

from lrengine.data.examples import Example
from lrengine.data.files import read_rows
from lrengine.data.overlap import rough
from lrengine.evaluation import baselines
from lrengine.evaluation.bootstrap import Bootstrap, interval, mean_over_seeds
from lrengine.evaluation.statistics import CLASSIFICATION
from lrengine.models.encoders import load_encoder
from lrengine.text import TextCodec

LEAST_STEPS = 300


def read(path: Path) -> tuple[list[Example], list[Example], int]:
    """Training and test rows, and how many test rows were left out for standing in training."""
    rows = [row.values for row in read_rows(str(path))]
    parts = {
        split: [Example(r["text"], r["label"], path.stem, "labels", path.stem) for r in rows if r["split"] == split]
        for split in ("train", "test")
    }
    known = {rough(example.source) for example in parts["train"]}
    test = [example for example in parts["test"] if rough(example.source) not in known]
    return parts["train"], test, len(parts["test"]) - len(test)


def answers_of(
    train: list[Example], test: list[Example], states: dict[str, Tensor], mixers: list[str], seed: int
) -> dict[str, list[str]]:
    """System -> its answers for `test`, each trained on `train`."""

    def pooled(texts: Any) -> Tensor:
        return torch.stack([states[text][:, -1].float().mean(0) for text in texts])

    found = {
        "majority": baselines.majority(train, test),
        "tfidf": baselines.tfidf_classifier(train, test),
        "linear": baselines.linear_probe(train, test, pooled),
    }
    names = sorted({str(example.target) for example in train})
    labels = torch.tensor([names.index(str(example.target)) for example in train])
    known, asked = ([states[example.source] for example in part] for part in (train, test))
    epochs = max(heads.EPOCHS, math.ceil(LEAST_STEPS / math.ceil(len(train) / heads.BATCH)))
    for mixer in mixers:
        head = heads.trained(heads.MIXERS[mixer], known, labels, len(names), seed, epochs)
        found[mixer] = heads.predicted(head, asked, names)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--sizes", default="50,200,all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixers", default="last,global,transformer + global")
    parser.add_argument("--json", type=Path, required=True, help="written anew after every size")
    args = parser.parse_args()
    train, test, left_out = read(args.texts)
    encoder, codec = load_encoder(args.encoder).eval(), TextCodec.load(args.encoder)
    assert codec is not None
    texts = list(dict.fromkeys(example.source for example in [*train, *test]))
    states = dict(zip(texts, heads.encoder_states(encoder, codec, texts), strict=True))
    task = test[0].task
    bootstrap, accuracy = Bootstrap(test, 2000), CLASSIFICATION["accuracy"]
    document: dict[str, Any] = {"train": len(train), "test": len(test), "left_out": left_out, "sizes": {}}
    for word in args.sizes.split(","):
        size, started = len(train) if word == "all" else int(word), time.monotonic()
        runs: dict[str, list[Any]] = {}
        for seed in range(args.seeds):
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
            chosen = [train[index] for index in order[:size]]
            for system, answers in answers_of(chosen, test, states, args.mixers.split(","), seed).items():
                runs.setdefault(system, []).append(bootstrap.scores(answers, accuracy))
        means = {system: mean_over_seeds(found)[task] for system, found in runs.items()}
        document["sizes"][str(size)] = {
            "seconds": round(time.monotonic() - started),
            "seeds": {system: [round(float(run[task][0]), 2) for run in found] for system, found in runs.items()},
            "scores": {system: vars(interval(mean)) for system, mean in means.items()},
            "lead_over_linear": {system: vars(interval(mean - means["linear"])) for system, mean in means.items()},
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(size, document["sizes"][str(size)]["seeds"], flush=True)


if __name__ == "__main__":
    main()
