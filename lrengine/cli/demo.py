"""`lrengine demo`: train both models small on the bundled real text, run them in the engine, write a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrengine.errors import LrengineError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for models and report (default: demo)")
    parser.add_argument("--data", help="the sample's folder (default: data/sample here or beside the package)")
    parser.add_argument("--encoder", help="trained encoder: directory or hub name (default: a small one of its own)")
    parser.add_argument("--llm", help="trained LLM: directory or hub name (default: a small one of its own)")
    parser.add_argument("--seconds", type=float, help="training time in all (default: just under four minutes)")
    parser.add_argument("--seed", type=int, default=17, help="of weights, batches and the samples shown")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps only: shows that it runs, scores mean nothing"
    )


def run(args: argparse.Namespace) -> int:
    from lrengine.demo.recipe import TRAINING_SECONDS, Recipe
    from lrengine.demo.run import run_demo
    from lrengine.demo.sample import Sample, find_sample

    seconds = TRAINING_SECONDS if args.seconds is None else args.seconds
    if seconds <= 0:
        raise LrengineError(f"--seconds: {seconds:g} is not positive")
    sample = Sample(find_sample(args.data))
    recipe = Recipe(encoder=args.encoder, llm=args.llm, seconds=seconds, quick=args.quick, seed=args.seed)
    run_demo(sample, recipe, args.out)
    return 0
