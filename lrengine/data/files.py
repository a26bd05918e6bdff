"""Rows of JSONL, CSV, TSV and Parquet files, or of a `datasets` data set: each row a dict with the place it came from.

Every complaint is a `DataError` that names the file, the line (from 1) and, where one is at fault, the column.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lrengine.errors import DataError

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One record. `place` is `file:line` (line of the file for text formats, row number for the others)."""

    place: str
    values: dict[str, Any]


def expand_paths(pattern: str) -> list[Path]:
    """Files named by a path or a glob, sorted. Raises DataError if there is none."""
    path = Path(pattern)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise DataError(f"{pattern}: is a directory; name its files, for example {pattern.rstrip('/')}/*.jsonl")
    if any(symbol in pattern for symbol in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        relative = str(path.relative_to(path.anchor)) if path.is_absolute() else pattern
        found = sorted(match for match in anchor.glob(relative) if match.is_file())
        if found:
            return found
    raise DataError(f"{pattern}: no such file")


def read_rows(pattern: str) -> Iterator[Row]:
    """All rows of the files that `pattern` names. `.gz` after `.jsonl`, `.csv` or `.tsv` is understood."""
    for path in expand_paths(pattern):
        suffix = Path(path.name.removesuffix(".gz")).suffix
        if suffix == ".jsonl":
            yield from _read_jsonl(path)
        elif suffix in (".csv", ".tsv"):
            yield from _read_csv(path, "\t" if suffix == ".tsv" else ",")
        elif suffix == ".parquet":
            yield from _read_parquet(path)
        else:
            raise DataError(f"{path}: unknown kind of file '{suffix}', expected one of {', '.join(SUFFIXES)}")


def read_dataset(name: str, subset: str | None, split: str | None) -> Iterator[Row]:
    """Rows of a data set of the `datasets` library: a hub name or a folder, whatever `load_dataset` takes."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"data set '{name}': needs `pip install lrengine[train]` ({error})") from error
    try:
        table = datasets.load_dataset(name, subset, split=split or "train")
    except Exception as error:  # the library raises a dozen unrelated types for a wrong name, subset or split
        raise DataError(f"data set '{name}' (subset {subset}, split {split or 'train'}): {error}") from error
    for number, values in enumerate(table, start=1):
        yield Row(f"{name}:{number}", dict(values))


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def _lines(path: Path, stream: TextIO) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(stream, start=1):
            yield number, line
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: unreadable after line {number}: {error}") from error


def _read_jsonl(path: Path) -> Iterator[Row]:
    with _open_text(path) as stream:
        for number, line in _lines(path, stream):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(values, dict):
                raise DataError(f"{path}:{number}: expected a JSON object, found {type(values).__name__}")
            yield Row(f"{path}:{number}", values)


def _read_csv(path: Path, delimiter: str) -> Iterator[Row]:
    with _open_text(path) as stream:
        # TSV corpora are written without quoting, and a stray quote mark must not swallow the lines after it
        lines = (line for _, line in _lines(path, stream))
        if delimiter == "\t":
            reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(lines, delimiter=delimiter)
        try:
            header = next(reader, None)
            if header is None:
                raise DataError(f"{path}: empty, expected a header line with column names")
            if len(set(header)) != len(header):
                raise DataError(f"{path}:1: a column name appears twice: {header}")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}")
                yield Row(f"{path}:{reader.line_num}", dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from error


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{path}: Parquet needs `pip install lrengine[train]` ({error})") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path}:{number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file after row {number}: {error}") from error
