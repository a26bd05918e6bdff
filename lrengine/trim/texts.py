"""The texts of a trimming: every string in some files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lrengine.data.files import expand_paths, read_rows
from lrengine.data.template import nearest
from lrengine.errors import DataError


def read_texts(patterns: Sequence[str], columns: Sequence[str] = ()) -> Iterator[str]:
    """Lines of .txt files; of the kinds that training reads (.jsonl, .csv, .tsv, .parquet) the strings, also those in
    lists, of `columns`, or of all columns if none is named. Raises DataError, also for a file without any of them."""
    for pattern in patterns:
        for path in expand_paths(pattern):
            yield from _lines(path) if path.suffix == ".txt" else _cells(path, columns)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for line in stream:
                yield line.rstrip("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _cells(path: Path, columns: Sequence[str]) -> Iterator[str]:
    found, known = not columns, set()
    for row in read_rows(str(path)):
        known |= set(row.values)
        for name in columns or row.values:
            if name in row.values:
                found = True
                yield from _strings(row.values[name])
    if not found:
        raise DataError(f"{path}: has none of the columns {list(columns)}{nearest(columns[0], known)}")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
