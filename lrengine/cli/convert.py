"""`lrengine convert SRC DST`: one option for each field of ConvertOptions."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrengine.convert.options import TYPES, ConvertOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="a checkpoint: a file or a directory")
    parser.add_argument("destination", type=Path, metavar="DST", help="the model directory to write; must not exist")
    parser.add_argument("--type", choices=TYPES, default="auto", help="layout of SRC (default: seen from it)")
    parser.add_argument("--force", action="store_true", help="replace DST if it is a model directory")
    for option in fields(ConvertOptions):
        extra: dict[str, Any] = dict(option.metadata)
        kind = Path if "Path" in str(option.type) else int
        metavar = "PATH" if kind is Path else "N"
        parser.add_argument(f"--{option.name.replace('_', '-')}", type=kind, metavar=metavar, **extra)


def run(args: argparse.Namespace) -> int:
    from lrengine.convert.run import convert

    options = ConvertOptions(**{option.name: getattr(args, option.name) for option in fields(ConvertOptions)})
    layout = convert(args.source, args.destination, args.type, options, args.force)
    print(f"{args.destination}: converted from {layout}")
    for folder in ("", "llm") if layout in ("langbridge", "layer-fusion") else ("",):
        if not (args.destination / folder / "tokenizer.json").is_file():
            print(f"{args.destination / folder}: has no tokenizer.json: put one there or convert with --tokenizer")
    return 0
