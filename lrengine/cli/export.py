"""`lrengine export onnx DIR OUT`"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrengine.errors import DataError

DTYPES = ("float32", "float16", "bfloat16", "int8")
OPTIMIZERS = ("none", "ort", "tensorrt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=("onnx",), help="what to write")
    parser.add_argument("source", type=Path, metavar="DIR", help="a model directory")
    parser.add_argument("destination", type=Path, metavar="OUT", help="the directory to write; must not exist")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the products (default: %(default)s)")
    parser.add_argument(
        "--static", metavar="BATCH,SOURCE,TARGET[,BEAMS]", help="fixed sizes, for runtimes that build for one shape"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX (default: the newest that TensorRT 10 reads)")
    parser.add_argument(
        "--optimize", choices=OPTIMIZERS, default="none",
        help="ort: ONNX Runtime's fused operators; tensorrt: standard operators, static quantisation",
    )  # fmt: skip
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="sources, a line each, to measure the ranges of int8 on",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is an export")


def run(args: argparse.Namespace) -> int:
    from lrengine.export import Profile, export_onnx
    from lrengine.export.options import DEFAULT_OPSET

    export_onnx(
        args.source, args.destination, dtype=args.dtype, static=args.static and Profile.parse(args.static),
        opset=DEFAULT_OPSET if args.opset is None else args.opset, optimize=args.optimize,
        calibration=None if args.calibration is None else _lines(args.calibration), force=args.force,
    )  # fmt: skip
    graphs = ", ".join(sorted(path.name for path in args.destination.glob("*.onnx")))
    size = (args.destination / "weights.bin").stat().st_size / 1e6
    print(f"{args.destination}: {graphs} and {size:.1f} MB of {args.dtype} weights")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8: {error}") from error
    return [line for line in text.splitlines() if line.strip()]
