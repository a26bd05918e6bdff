"""`lrengine quantize SRC DST --dtype int8|int4`"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrengine.int4_groups import GROUP_SIZES
from lrengine.quantize import DEFAULT_GROUP_SIZE, DTYPES, QUANTIZED, quantize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="a model directory")
    parser.add_argument("destination", type=Path, metavar="DST", help="the directory to write; must not exist")
    parser.add_argument("--dtype", choices=DTYPES, default="int8", help="type of the weights (default: %(default)s)")
    parser.add_argument(
        "--group-size", type=int, choices=GROUP_SIZES, default=DEFAULT_GROUP_SIZE,
        help="columns that share a scale, for int4 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings", choices=QUANTIZED, default="int8",
        help="type of word embeddings and output projections of int4 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace DST if it is a model directory")


def run(args: argparse.Namespace) -> int:
    quantize(args.source, args.destination, args.dtype, args.force, args.group_size, args.embeddings)
    before, after = (_weight_bytes(path) for path in (args.source, args.destination))
    print(f"{args.destination}: {after / 1e6:.1f} MB of {args.dtype} weights, {before / 1e6:.1f} MB before")
    return 0


def _weight_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
