"""Joins files of en-X pairs into one wide file, a column a language, by the English string:

python recipes/join_languages.py text/wide.jsonl text/parallel/{zh,ug,kk,mn,dz}.jsonl

Splits are by English string, so a row's languages agree on it; a string in several files with different splits is left
out, as is all but the first translation of one string into one language."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def join(sources: list[Path]) -> list[dict[str, str]]:
    """Rows {"en", "split", LANGUAGE: translation, ...} of two languages or more beside English, in order of reading.
    A file's language is its name."""
    rows: dict[str, dict[str, str]] = {}
    torn: set[str] = set()
    for path in sources:
        for line in path.read_text(encoding="utf-8").splitlines():
            pair = json.loads(line)
            row = rows.setdefault(pair["en"], {"en": pair["en"], "split": pair["split"]})
            row.setdefault(path.stem, pair["text"])
            if row["split"] != pair["split"]:
                torn.add(pair["en"])
    return [row for english, row in rows.items() if english not in torn and len(row) > 3]


def main(arguments: list[str]) -> None:
    destination, *sources = map(Path, arguments)
    rows = join(sources)
    destination.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{destination}: {len(rows):,} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
