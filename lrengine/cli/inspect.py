"""`lrengine inspect DIR TEXT`: how much each encoder layer counts for each token, as the mixer sees it."""

from __future__ import annotations

import argparse
import json
import unicodedata

from lrengine.cli.engine_arguments import add_engine_arguments, open_engine

# Share of the largest weight in the table, in eighths.
SHADES = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_arguments(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="+")
    parser.add_argument("--json", action="store_true", help="a JSON object a text: tokens and weights [token][layer]")


def run(args: argparse.Namespace) -> int:
    engine = open_engine(args)
    for text, weights in zip(args.texts, engine.encode(args.texts, "weights"), strict=True):
        pieces = engine.pieces(text)
        if args.json:
            print(json.dumps({"text": text, "tokens": pieces, "weights": weights.tolist()}, ensure_ascii=False))
        else:
            print(table(pieces, weights.tolist()))
    return 0


def table(pieces: list[str], weights: list[list[float]]) -> str:
    """A line a token: its name, a bar a layer (first layer left), and the heaviest layer with its weight."""
    names = [piece.replace("\n", "\\n") for piece in pieces]
    width = max([0, *map(_columns, names)])
    largest = max((value for row in weights for value in row), default=0.0) or 1.0
    lines = []
    for name, row in zip(names, weights, strict=True):
        bars = "".join(SHADES[round(value / largest * (len(SHADES) - 1))] for value in row)
        heaviest = max(range(len(row)), key=row.__getitem__)
        lines.append(f"{name}{' ' * (width - _columns(name))}  |{bars}|  layer {heaviest + 1}: {row[heaviest]:.3f}")
    return "\n".join(lines)


def _columns(text: str) -> int:
    """Columns of a terminal that `text` takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return wide + sum(not unicodedata.combining(character) for character in text)
