"""The plots of docs/RESULTS.md, from the files that runs leave:

python benchmarks/plot_runs.py docs/results --losses init=RUN/train_log.jsonl none=RUN/train_log.jsonl \\
    --few-shot ug=few_shot.json --bars scores.json --metric chrf

--losses    training loss over steps, a line a run                                       -> losses.svg
--few-shot  accuracy over the size of the training set (few_shot_heads.py)               -> few_shot_NAME.svg
--bars      the mean of every system and its interval: of `evaluate --recipe --json`, one file or, for ablations,
            NAME=FILE each, of zero_shot_heads.py                                        -> bars.svg"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from charts import Point, bars, curves


def losses(runs: dict[str, Path]) -> str:
    series = {}
    for name, path in runs.items():
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        series[name] = [Point(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    return curves(series, "Training loss", "steps")


def few_shot(language: str, path: Path) -> str:
    sizes = {int(size): found["scores"] for size, found in _read(path)["sizes"].items()}
    systems = list(next(iter(sizes.values())))
    series = {name: [_point(scores[name], size) for size, scores in sizes.items()] for name in systems}
    return curves(series, f"Program of a string, {language}: accuracy (%)", "training strings", log_x=True)


def compared(files: dict[str, Path], metric: str) -> str:
    """Of one file every system; of several the model of each and, once, the baselines."""
    values: dict[str, Point] = {}
    for name, path in files.items():
        document = _read(path)
        scores = document["scores"]
        for system, tasks in scores.get(metric, scores).items():
            title = name if system == "model" and name else system
            values.setdefault(title, _point(list(tasks.values())[-1]))  # the mean, or the only task
    return bars(values, f"{metric}, mean over the tasks, 95% intervals")


def _point(interval: dict[str, Any], x: float = 0) -> Point:
    return Point(x, interval["value"], interval["low"], interval["high"])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _named(arguments: list[str]) -> dict[str, Path]:
    """NAME=PATH, or a path alone, which has no name."""
    pairs = [argument.rpartition("=") for argument in arguments]
    return {name: Path(path) for name, _, path in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--losses", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--few-shot", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("--bars", nargs="+", default=[], metavar="[NAME=]FILE")
    parser.add_argument("--metric", default="accuracy")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    plots: dict[str, str] = {}
    if args.losses:
        plots["losses"] = losses(_named(args.losses))
    for name, path in _named(args.few_shot).items():
        plots[f"few_shot_{name}"] = few_shot(name, path)
    if args.bars:
        plots["bars"] = compared(_named(args.bars), args.metric)
    for name, plot in plots.items():
        (args.out / f"{name}.svg").write_text(plot, encoding="utf-8")


if __name__ == "__main__":
    main()
