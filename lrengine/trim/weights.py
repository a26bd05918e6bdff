"""Copies a directory's tensors, those of the vocabulary with other rows. A few blocks of rows are in memory at a time,
and the rows that new pieces start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lrengine.errors import UnsupportedModelError
from lrengine.quantize import SCALE_SUFFIX, quantize_rows, row_scales
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import FLOAT_ENCODERS, FLOAT_TYPES, SafetensorsWriter, TensorSpec, to_float32
from lrengine.trim.rows import Rows


def write_rows(stored: SafetensorsDirectory, names: set[str], rows: Rows, path: Path) -> None:
    """All tensors of `stored` into one file; those in `names` with `rows`, bit by bit what they were where a row is an
    old one. Raises UnsupportedModelError for new rows in a type that has no arithmetic here (int4)."""
    specs = {
        name: TensorSpec(name, spec.dtype, (len(rows), *spec.shape[1:])) if name in names else spec
        for name, spec in stored.specs.items()
    }
    sources: dict[str, Callable[[], Iterable[np.ndarray]]] = {
        name: partial(_rows, stored, name, rows) if name in names else partial(stored.blocks, name) for name in specs
    }
    with SafetensorsWriter(path, specs.values()) as writer:
        for spec in writer.order:
            writer.write(spec.name, sources[spec.name]())


def _rows(stored: SafetensorsDirectory, name: str, rows: Rows) -> Iterator[np.ndarray]:
    """Blocks [rows, K] of a tensor in its storage type."""
    yield from _kept(stored, name, rows.inside)
    if rows.new:
        yield _new_rows(stored, name, rows)
    yield from _kept(stored, name, rows.outside)


def _kept(stored: SafetensorsDirectory, name: str, ids: list[int]) -> Iterator[np.ndarray]:
    """Rows `ids` (ascending), in blocks."""
    wanted = np.asarray(ids, np.int64)
    first = 0
    for block in stored.blocks(name):
        begin, end = np.searchsorted(wanted, [first, first + len(block)])
        if end > begin:
            yield block[wanted[begin:end] - first]
        first += len(block)


def _new_rows(stored: SafetensorsDirectory, name: str, rows: Rows) -> np.ndarray:
    base = name.removesuffix(SCALE_SUFFIX)
    dtype = stored.specs[base].dtype
    if dtype == "I8":
        means = _means(stored, base, rows)
        scales = row_scales(means)
        return scales[:, None] if name != base else quantize_rows(means, scales)
    if dtype not in FLOAT_TYPES:
        raise UnsupportedModelError(
            f"{stored.path_of(name)}: tensor {base}: no new rows in {dtype}; extend, then quantise"
        )
    return FLOAT_ENCODERS[dtype](_means(stored, base, rows))


def _means(stored: SafetensorsDirectory, name: str, rows: Rows) -> np.ndarray:
    """float32 [new, K]: for each new piece the mean of the rows that it replaces."""
    ids = sorted({old for piece in rows.new for old in piece.replaces})
    values = to_float32(np.concatenate(list(_kept(stored, name, ids))), stored.specs[name].dtype)
    if stored.specs[name].dtype == "I8":
        values = values * np.concatenate(list(_kept(stored, name + SCALE_SUFFIX, ids)))
    places = {old: place for place, old in enumerate(ids)}
    means = [values[[places[old] for old in piece.replaces]].mean(axis=0, dtype=np.float64) for piece in rows.new]
    return np.stack(means).astype(np.float32)
