"""The `lrengine` command: one module a subcommand, imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lrengine.errors import LrengineError

COMMANDS = {
    "demo": "train both models small on the bundled real text, run them in the engine, write a report",
    "train": "train a model from a YAML config",
    "evaluate": "score a model on a data split",
    "convert": "turn a published checkpoint into a model directory",
    "quantize": "write a smaller copy of a model directory",
    "export": "write a model directory as ONNX graphs",
    "trim": "write a copy of a model directory with the vocabulary that some text needs",
    "info": "describe a model directory",
    "generate": "generate text from lines of input",
    "classify": "label lines of input",
    "score": "log-probability of given targets",
    "bench": "measure latency on a model directory, or compare two reports",
    "inspect": "show the mixer's weights per token and layer",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; its module has `add_arguments(parser)` and `run(args) -> int`. Errors the user can cause
    end with their message and status 2 (1 for interrupted work), never with a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = " ".join(["lrengine", *arguments[:1]])
    try:
        args = _parse(arguments)
        with _unwinding_on_sigterm():
            status = int(args.run(args))
        sys.stdout.flush()  # what is left to write fails here, not at the interpreter's exit
        return status
    except BrokenPipeError:  # the reader of our output has seen enough
        _give_up_output()
        return 1
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "lrengine":
            raise
        extra = "export" if arguments[0] == "export" else "train"
        print(f"{command}: needs {package}: pip install 'lrengine[{extra}]'", file=sys.stderr)
        return 2
    except (LrengineError, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        _give_up_output()
        return 2
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return 1


@contextmanager
def _unwinding_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as an exception does, so that half-written directories go with it: once, and when the
    engine returns to Python. The status is a shell's for that signal."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that the cleaning is not cut short
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options and texts may come in any order, which argparse below Python 3.13 allows only when asked, and not beside
    subparsers: these know the commands' names, and the command's own parser reads what follows its name."""
    if not arguments or arguments[0] not in COMMANDS:
        parser = argparse.ArgumentParser(prog="lrengine", description=__import__("lrengine").__doc__)
        subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name, summary in COMMANDS.items():
            subparsers.add_parser(name, help=summary)
        return parser.parse_args(arguments)
    name = arguments[0]
    module = importlib.import_module(f"lrengine.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"lrengine {name}", description=COMMANDS[name])
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser.parse_intermixed_args(arguments[1:])


def _give_up_output() -> None:
    """If standard output takes no more, what waits for it goes nowhere: the interpreter would try again at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
