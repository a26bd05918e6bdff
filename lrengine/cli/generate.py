"""`lrengine generate DIR [TEXT ...]`: an answer a line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from lrengine import _engine
from lrengine.cli.engine_arguments import add_engine_arguments, add_input_arguments, add_option, batches, open_engine
from lrengine.engine import Engine
from lrengine.results import Generation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument("--prompt", help="layer fusion: what the LLM reads after each input")
    parser.add_argument("--prefix", help="text that every answer continues")
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end an answer before this text; may be repeated"
    )
    parser.add_argument("--stream", action="store_true", help="print tokens as they come")
    options = parser.add_argument_group("generation options, as in transformers")
    for name, default, description in _engine.option_table():
        add_option(options, name, default, description)  # type: ignore[arg-type]  # groups add arguments alike


def run(args: argparse.Namespace) -> int:
    engine = open_engine(args)
    options = {name: getattr(args, name) for name, _, _ in _engine.option_table() if hasattr(args, name)}
    options.update(prompts=args.prompt, prefix=args.prefix, stop=args.stop)
    for batch in batches(args):
        if args.stream:
            for text in batch:
                _print_stream(engine, text, options)
            continue
        for text, answers in zip(batch, engine.generate(batch, **options), strict=True):
            for answer in answers if isinstance(answers, list) else [answers]:
                _print_answer(text, answer, args.json)
    return 0


def _print_stream(engine: Engine, text: str, options: dict[str, Any]) -> None:
    for token in engine.stream(text, **options):
        print(token.text, end="", flush=True)
    print()


def _print_answer(text: str, answer: Generation, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"input": text, **dataclasses.asdict(answer)}, ensure_ascii=False))
    else:
        print(answer.text)
