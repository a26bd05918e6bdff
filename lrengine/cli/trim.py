"""`lrengine trim DIR OUT --text FILES`: the same model with the vocabulary that some text needs.

lrengine trim multilingual-e5-small e5-turkic --text corpus/{ug,kk,zh}.jsonl
lrengine trim multilingual-e5-small e5-dzongkha --languages dz,en --extend corpus/dz.jsonl --columns text
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lrengine.trim.parts import PARTS
from lrengine.trim.run import Coverage, TrimOptions, TrimReport, trim


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = TrimOptions()
    parser.add_argument("source", type=Path, metavar="DIR", help="a model directory, or an encoder's")
    parser.add_argument("destination", type=Path, metavar="OUT", help="the directory to write; must not exist")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE",
                        help="keep the pieces of these: .txt, .jsonl, .csv, .tsv, .parquet")  # fmt: skip
    parser.add_argument("--columns", default="", help="read only these columns, as in text,en (default: all)")
    parser.add_argument("--languages", default="", help="keep every piece in the scripts of these, as in ug,kk,zh")
    parser.add_argument("--min-count", type=int, default=default.min_count, metavar="N",
                        help="keep pieces that occur so often in the text (default: %(default)s)")  # fmt: skip
    parser.add_argument("--extend", nargs="+", default=[], metavar="FILE",
                        help="learn new pieces of the main script of these (Unigram tokenizers)")  # fmt: skip
    parser.add_argument("--extend-pieces", type=int, default=default.extend_pieces, metavar="N",
                        help="at most so many new pieces (default: %(default)s)")  # fmt: skip
    parser.add_argument("--part", choices=PARTS, default=default.part,
                        help="whose vocabulary (default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    parser.add_argument("--force", action="store_true", help="replace OUT if it is a model directory")


def run(args: argparse.Namespace) -> int:
    options = TrimOptions(
        texts=args.text,
        columns=[name for name in args.columns.split(",") if name],
        languages=[name for name in args.languages.split(",") if name],
        min_count=args.min_count,
        extend=args.extend,
        extend_pieces=args.extend_pieces,
        part=args.part,
    )
    report = trim(args.source, args.destination, options, args.force)
    print(_text(args.destination, report))
    if args.json:
        args.json.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    return 0


def _text(destination: Path, report: TrimReport) -> str:
    lines = [
        f"{destination}: {report.rows_after:,} rows ({report.rows_before:,} before, {report.new_rows:,} new), "
        f"{report.bytes_after / 1e6:.1f} MB ({report.bytes_before / 1e6:.1f} before)"
    ]
    for name, coverage in (("before", report.coverage_before), ("after", report.coverage_after)):
        if coverage is not None:
            lines.append(f"  {name}: {_covered(coverage)}")
    return "\n".join(lines)


def _covered(coverage: Coverage) -> str:
    per = coverage.tokens_per_character
    return f"{coverage.unknown:.1%} <unk>, {per:.3f} tokens a character, on {coverage.texts} held-out texts"
