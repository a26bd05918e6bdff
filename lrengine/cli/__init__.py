"""The `lrengine` command: one module a subcommand, imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from lrengine.errors import LrengineError

COMMANDS = {
    "demo": "train both models small on the bundled real text, run them in the engine, write a report",
    "train": "train a model from a YAML config",
    "evaluate": "score a model on a data split",
    "convert": "turn a published checkpoint into a model directory",
    "quantize": "write a smaller copy of a model directory",
    "info": "describe a model directory",
    "generate": "generate text from lines of input",
    "classify": "label lines of input",
    "score": "log-probability of given targets",
    "inspect": "show the mixer's weights per token and layer",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; its module has `add_arguments(parser)` and `run(args) -> int`. Errors the user can cause
    end with their message and status 2 (1 for interrupted work), never with a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="lrengine", description=__import__("lrengine").__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if arguments[:1] == [name]:
            module = importlib.import_module(f"lrengine.cli.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except (LrengineError, FileNotFoundError, NotADirectoryError) as error:
        print(f"lrengine {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lrengine {args.command}: interrupted", file=sys.stderr)
        return 1
