"""What the subcommands that run the engine have in common: opening it, its options, lines of input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lrengine.engine import Engine
from lrengine.errors import InvalidRequestError


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="model directory")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: auto)")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16, float16, int8, int4; default: as stored")
    parser.add_argument("--threads", type=int, help="default: as many as the process may use")


def open_engine(args: argparse.Namespace) -> Engine:
    return Engine.load(args.directory, device=args.device, dtype=args.dtype, threads=args.threads)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="inputs; none: the lines of --input")
    parser.add_argument("--input", metavar="FILE", type=Path, help="a text a line; default: standard input")
    parser.add_argument("--batch-size", type=int, default=8, help="lines answered together (default: 8)")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of text")


def batches(args: argparse.Namespace) -> Iterator[list[str]]:
    """The inputs in groups of --batch-size, read as they are needed. Only line feeds end a line."""
    if args.batch_size < 1:
        raise InvalidRequestError(f"--batch-size: found {args.batch_size}, expected at least 1")
    batch: list[str] = []
    for text in args.texts or _lines(args.input):
        batch.append(text)
        if len(batch) == args.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(path: Path | None) -> Iterator[str]:
    """Read as bytes: what ends a line and how text is encoded must not depend on the locale."""
    if path is None:
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    with path.open("rb") as file:
        yield from _decoded(file, str(path))


def _decoded(lines: Iterable[bytes], where: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"{where}:{number}: not UTF-8: {error}") from error


def add_option(parser: argparse.ArgumentParser, name: str, default: Any, description: str) -> None:
    """One generation option of the engine's table; absent from the command line, it is not passed on."""
    flag = "--" + name.replace("_", "-")
    kind: dict[str, Any] = {"type": type(default), "metavar": "N" if isinstance(default, int) else "X"}
    if name == "early_stopping":
        kind = {"type": _early_stopping, "metavar": "true|false|never"}
    elif isinstance(default, bool):
        kind = {"action": "store_true"}
    elif name == "suppress_tokens":
        kind = {"type": int, "nargs": "+", "metavar": "ID"}
    elif name == "seed":
        kind = {"type": int, "metavar": "N"}
    shown = description if default in (None, False) else f"{description} (default: {default})"
    parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=shown, **kind)


def _early_stopping(text: str) -> bool | str:
    choices: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}
    if text not in choices:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true, false or never")
    return choices[text]
