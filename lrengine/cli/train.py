"""`lrengine train CONFIG.yaml`: train a model; the config's output_dir becomes a model directory.

Several processes: `torchrun --nproc-per-node 2 -m lrengine train CONFIG.yaml`, or
`accelerate launch --multi_gpu --num_processes 2 -m lrengine train CONFIG.yaml`.
"""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from lrengine.errors import DataError
from lrengine.training.config import TrainConfig
from lrengine.training.schema import load_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML file; examples/train has one for each model type")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="replace one value of the config, as in --set run.max_steps=100 (may be repeated)",
    )
    parser.add_argument("--check", action="store_true", help="check the config, read all of the data, and stop")


def run(args: argparse.Namespace) -> int:
    document = load_yaml(args.config)
    for override in args.overrides:
        _apply(document, override)
    config = TrainConfig.from_dict(document, args.config)
    config = config.resolved()
    if args.check:
        from lrengine.data.report import DataReport
        from lrengine.training.setup import read_data

        report = DataReport()
        read_data(config, report)
        print(f"{report}\n{args.config}: fine")
        return 0
    from lrengine.training.processes import Processes
    from lrengine.training.run import train

    result = train(config)
    if not Processes(config.run.device).is_first:
        return 0
    last = f", last training loss {result.train_loss[-1][1]:.3f}" if result.train_loss else ""
    dev = f", dev loss {result.final_metrics['eval_loss']:.3f}" if "eval_loss" in result.final_metrics else ""
    spent = f"{result.steps} steps in {result.seconds:.0f} s (stopped by {result.stopped_by})"
    print(f"{result.output_dir}: {spent}{last}{dev}")
    return 0


def _apply(document: dict[str, Any], override: str) -> None:
    """Set one dotted key of the document to a value in YAML notation."""
    key, equals, text = override.partition("=")
    if not equals:
        raise DataError(f"--set {override}: expected KEY=VALUE")
    *sections, name = key.split(".")
    place = document
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise DataError(f"--set {override}: '{section}' is not a section of the config")
    try:
        place[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"--set {override}: the value is not YAML: {error}") from error
