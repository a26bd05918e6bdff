"""`lrengine score DIR`: log-probability of targets, one a line: source, tab, target."""

from __future__ import annotations

import argparse
import dataclasses
import json

from lrengine.cli.engine_arguments import add_engine_arguments, add_input_arguments, batches, open_engine
from lrengine.errors import InvalidRequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--prompt", help="layer fusion: what the LLM reads after each source")


def run(args: argparse.Namespace) -> int:
    engine = open_engine(args)
    number = 0
    for batch in batches(args):
        pairs = []
        for line in batch:
            number += 1
            source, tab, target = line.partition("\t")
            if not tab:
                raise InvalidRequestError(f"line {number}: found no tab, expected a source, a tab and a target")
            pairs.append((source, target))
        scores = engine.score([source for source, _ in pairs], [target for _, target in pairs], prompts=args.prompt)
        for (source, target), score in zip(pairs, scores, strict=True):
            if args.json:
                fields = {"input": source, "target": target, **dataclasses.asdict(score)}
                print(json.dumps(fields, ensure_ascii=False))
            else:
                print(f"{score.logprob:.4f}\t{target}")
    return 0
