"""`lrengine classify DIR [TEXT ...]`: a label a line, with its probability."""

from __future__ import annotations

import argparse
import dataclasses
import json

from lrengine.cli.engine_arguments import add_engine_arguments, add_input_arguments, batches, open_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--label", action="append", metavar="TEXT", help="a possible label; repeat it for each one")
    parser.add_argument("--prompt", help="layer fusion: what the LLM reads after each input")


def run(args: argparse.Namespace) -> int:
    engine = open_engine(args)
    for batch in batches(args):
        for text, answer in zip(batch, engine.classify(batch, args.label, prompts=args.prompt), strict=True):
            if args.json:
                print(json.dumps({"input": text, **dataclasses.asdict(answer)}, ensure_ascii=False))
            else:
                print(f"{answer.label}\t{answer.scores[answer.label]:.4f}")
    return 0
