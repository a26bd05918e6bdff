"""Joins files of en-X pairs into one wide file, a column a language, by the English string:

python recipes/join_languages.py text/wide.jsonl text/parallel/{zh,ug,kk,mn,dz}.jsonl [--pairs 5000 --pivot zh]

Splits are by English string, so a row's languages agree on it; a string in several files with different splits is left
out, as is all but the first translation of one string into one language.

Different English strings often have one translation ("Close", "close"), so that alone would leave strings of the test
set in the training set. A string is therefore taken out of training where it, but for case, digits, signs and white
space, stands in dev or test in the same language; and out of dev where it stands in test. The test set is as it was.

--pairs keeps so many training strings of each language but the pivot's, chosen by a hash: a smaller set is part of
every larger one."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path

from lrengine.data.overlap import rough

HELD_OUT = {"train": ("dev", "test"), "dev": ("test",), "test": ()}
Row = dict[str, str]


def join(sources: list[Path]) -> list[Row]:
    """Rows {"en", "split", LANGUAGE: translation, ...} of two languages or more beside English, in order of reading.
    A file's language is its name."""
    rows: dict[str, Row] = {}
    torn: set[str] = set()
    for path in sources:
        for line in path.read_text(encoding="utf-8").splitlines():
            pair = json.loads(line)
            row = rows.setdefault(pair["en"], {"en": pair["en"], "split": pair["split"]})
            row.setdefault(path.stem, pair["text"])
            if row["split"] != pair["split"]:
                torn.add(pair["en"])
    return [row for english, row in rows.items() if english not in torn and len(row) > 3]


def without_leaks(rows: list[Row]) -> tuple[list[Row], Counter[str]]:
    """The rows without strings that stand in a split held out from theirs, and how many strings of each language that
    took. A row that loses English goes whole: its translations are those of a test string. So does one that has fewer
    than two other languages left."""
    known: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for language in row.keys() - {"split"}:
            known.setdefault((row["split"], language), set()).add(rough(row[language]))
    kept: list[Row] = []
    taken: Counter[str] = Counter()
    for row in rows:
        leaking = [
            language
            for language in row
            if language != "split"
            and any(rough(row[language]) in known.get((split, language), ()) for split in HELD_OUT[row["split"]])
        ]
        left = {name: value for name, value in row.items() if name not in leaking}
        if "en" in leaking or len(left) < 4:
            left = {}
        taken.update(name for name in row if name not in left and name != "split")
        if left:
            kept.append(left)
    return kept, taken


def thinned(rows: list[Row], pivot: str, pairs: int) -> list[Row]:
    """Training rows keep, of each language but the pivot, `pairs` strings that have the pivot beside them; dev and test
    rows are as they were."""
    training = sorted(
        (row for row in rows if row["split"] == "train" and pivot in row),
        key=lambda row: hashlib.sha256(row["en"].encode()).digest(),
    )
    counts: Counter[str] = Counter()
    chosen: dict[str, Row] = {}
    for row in training:
        languages = [name for name in row if name not in ("en", "split", pivot) and counts[name] < pairs]
        counts.update(languages)
        if languages:
            chosen[row["en"]] = {name: row[name] for name in row if name in ("en", "split", pivot, *languages)}
    return [chosen.get(row["en"], row) for row in rows if row["split"] != "train" or row["en"] in chosen]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--pivot", default="zh")
    args = parser.parse_args(arguments)
    rows, taken = without_leaks(join(args.sources))
    if args.pairs is not None:
        rows = thinned(rows, args.pivot, args.pairs)
    args.destination.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    splits = Counter(row["split"] for row in rows)
    print(f"{args.destination}: {len(rows):,} rows {dict(splits)}; taken out as held-out strings: {dict(taken)}")


if __name__ == "__main__":
    main()
