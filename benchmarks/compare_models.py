"""How far models are ahead of the first one, from what `lrengine evaluate --recipe --predictions` wrote of each:

python benchmarks/compare_models.py RECIPE --metric accuracy last=last0.jsonl,last1.jsonl global=global.jsonl

Files of one name are seeds of one model: scores are their means. Intervals are paired bootstrap, over the same draws
for all models; of the baselines in the files nothing is read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lrengine.data.examples import Example, TextNeeds, load_examples
from lrengine.data.report import DataReport
from lrengine.errors import DataError
from lrengine.evaluation import baselines
from lrengine.evaluation.bootstrap import Bootstrap, interval, mean_over_seeds
from lrengine.evaluation.statistics import CLASSIFICATION, TEXT, Rows
from lrengine.training.config import TrainConfig


def answers(path: Path, examples: list[Example]) -> list[list[str]]:
    """What each model in the file answered to `examples`."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if [(row["source"], row["reference"]) for row in rows] != [(e.source, str(e.target)) for e in examples]:
        raise DataError(f"{path}: holds other examples than the recipe's evaluation")
    known = {"task", "source", "reference"} | {name for names in baselines.NAMES.values() for name in names}
    return [[row[name] for row in rows] for name in rows[0] if name not in known]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("models", nargs="+", metavar="NAME=FILE,FILE")
    parser.add_argument("--metric", required=True, choices=[*CLASSIFICATION, *TEXT])
    parser.add_argument("--resamples", type=int, default=2000)
    args = parser.parse_args()
    section = TrainConfig.from_yaml(args.recipe).evaluation
    if section is None:
        raise DataError(f"{args.recipe}: has no section 'evaluation'")
    examples = load_examples(section.data, TextNeeds(dedup=False), DataReport(), "evaluation")
    bootstrap, statistic = Bootstrap(examples, args.resamples), {**CLASSIFICATION, **TEXT}[args.metric]
    labels = {str(example.target) for example in examples}
    first = None
    for model in args.models:
        name, _, files = model.partition("=")
        written = [texts for path in files.split(",") for texts in answers(Path(path), examples)]
        runs = [bootstrap.scores(texts, statistic) for texts in written]
        scores = mean_over_seeds(runs)
        first = first or scores
        task = list(scores)[-1]  # the mean, or the only task
        line: dict[str, Any] = {
            "model": name,
            "seeds": [round(float(run[task][0]), 2) for run in runs],
            task: _rounded(scores[task]),
            "lead": _rounded(scores[task] - first[task]),
            "tasks": {each: round(float(row[0]), 2) for each, row in scores.items()},
        }
        if section.task == "classification":
            line["answers that are no label"] = [sum(text.strip() not in labels for text in texts) for texts in written]
        print(json.dumps(line), flush=True)


def _rounded(row: Rows) -> dict[str, float]:
    return {name: round(value, 2) for name, value in vars(interval(row)).items()}


if __name__ == "__main__":
    main()
