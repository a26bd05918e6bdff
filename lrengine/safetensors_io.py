"""Reads and writes safetensors with NumPy alone, a block of rows at a time: memory stays far below the file's size.

A file is: header length (8 bytes, little endian), a JSON header {name: {dtype, shape, data_offsets}}, the data.
Everything in the header is checked before any of it is used: files are hostile until then. Files must not change while
open.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from lrengine.errors import ModelFileError
from lrengine.model_file import open_model_file

# Bfloat16 has no NumPy type: its bits travel as uint16.
STORAGE_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "F32": np.dtype("<f4"), "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
FLOAT_TYPES = frozenset({"F64", "F32", "F16", "BF16"})
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_RANK = 8
BLOCK_BYTES = 4 << 20  # rows are read in blocks of about this size


@dataclass(frozen=True)
class TensorSpec:
    """Name, safetensors dtype ("F32", "BF16", "I8", ...) and shape of one tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * STORAGE_TYPES[self.dtype].itemsize


class SafetensorsFile:
    """One open safetensors file; `specs` maps names to what the header says of them.

    Raises ModelFileError naming the file, the tensor, what was found and what was expected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = open_model_file(path)
        try:
            self.specs, self._offsets = _read_header(path, self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def read(self, name: str) -> np.ndarray:
        """The whole tensor in its storage type (bfloat16 as uint16 bits)."""
        spec = self.specs[name]
        return self._read(name, 0, math.prod(spec.shape)).reshape(spec.shape)

    def blocks(self, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
        """The tensor as consecutive arrays [rows, everything else] of at most about `block_bytes`."""
        spec = self.specs[name]
        rows = spec.shape[0] if spec.shape else 1
        width = math.prod(spec.shape[1:])
        step = max(1, block_bytes // (width * STORAGE_TYPES[spec.dtype].itemsize))
        for first in range(0, rows, step):
            count = min(step, rows - first)
            yield self._read(name, first * width, count * width).reshape(count, width)

    def _read(self, name: str, first: int, count: int) -> np.ndarray:
        dtype = STORAGE_TYPES[self.specs[name].dtype]
        self._file.seek(self._offsets[name] + first * dtype.itemsize)
        array = np.fromfile(self._file, dtype, count)
        if array.size != count:
            raise ModelFileError(f"{self.path}: tensor {name}: {array.size} elements could be read, expected {count}")
        return array


class SafetensorsWriter:
    """Writes the tensors of `specs` one after the other in `order`; the header is known, and written, first.

    Wider types come first, so that every tensor lies at a multiple of its own element size and can be used in place.
    """

    def __init__(self, path: Path, specs: Iterable[TensorSpec]) -> None:
        by_width = sorted(specs, key=lambda spec: (-STORAGE_TYPES[spec.dtype].itemsize, spec.name))
        self.order: Sequence[TensorSpec] = by_width
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for spec in by_width:
            offsets = [end, end + spec.nbytes]
            header[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": offsets}
            end = offsets[1]
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._next = 0
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, blocks: Iterable[np.ndarray]) -> None:
        """The next tensor of `order`, in blocks of its storage type."""
        spec = self.order[self._next]
        if spec.name != name:
            raise ValueError(f"tensor {name} is written where {spec.name} has its place")
        written = 0
        for block in blocks:
            if block.dtype != STORAGE_TYPES[spec.dtype]:
                raise ValueError(f"tensor {name}: block of {block.dtype}, announced as {spec.dtype}")
            self._file.write(np.ascontiguousarray(block).data)
            written += block.nbytes
        if written != spec.nbytes:
            raise ValueError(f"tensor {name}: {written} bytes written, announced {spec.nbytes}")
        self._next += 1

    def finish(self) -> None:
        """To the disk. Every tensor must have been written."""
        if self._next != len(self.order):
            raise ValueError(f"tensor {self.order[self._next].name} was not written")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        self._file.close()


def to_float32(array: np.ndarray, dtype: str) -> np.ndarray:
    """Values of an array stored as one of FLOAT_TYPES."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def to_bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Float32 to bfloat16 bits (uint16), rounded to nearest, ties to even; the values must be finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


# From finite float32 values to what is stored.
FLOAT_ENCODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F64": lambda values: values.astype(np.float64),
    "F32": lambda values: values,
    "F16": lambda values: values.astype(np.float16),
    "BF16": to_bfloat16_bits,
}


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, TensorSpec], dict[str, int]]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ModelFileError(
            f"{path}: header length {length} in a file of {size} bytes, expected 2 to {min(MAX_HEADER_BYTES, size)}"
        )
    text = file.read(length)
    if text[:1] != b"{":
        raise ModelFileError(f"{path}: the header starts with {text[:1]!r}, expected '{{'")
    header = parse_json(path, text)
    specs: dict[str, TensorSpec] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        specs[name], begin, end = _check_entry(path, name, entry)
        spans.append((begin, end, name))
    _check_spans(path, spans, size - 8 - length)
    return specs, {name: 8 + length + begin for begin, _, name in spans}


def parse_json(path: Path, text: bytes) -> dict[str, Any]:
    """A JSON object without repeated keys; ModelFileError for anything else."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _ in pairs]
        if len(set(names)) != len(names):
            repeated = next(name for name, count in Counter(names).items() if count > 1)
            raise ModelFileError(f"{path}: the key {repeated!r} is there twice")
        return dict(pairs)

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelFileError(f"{path}: not valid JSON: {error}") from error
    except ModelFileError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise ModelFileError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_entry(path: Path, name: str, entry: Any) -> tuple[TensorSpec, int, int]:
    where = f"{path}: tensor {name}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"{where}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORAGE_TYPES:
        raise ModelFileError(f"{where}: found dtype {dtype!r}, expected one of {', '.join(STORAGE_TYPES)}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_is_count(n) and n > 0 for n in shape):
        raise ModelFileError(f"{where}: found shape {shape!r}, expected at most {MAX_RANK} positive integers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise ModelFileError(f"{where}: found data_offsets {offsets!r}, expected [begin, end]")
    spec = TensorSpec(name, dtype, tuple(shape))
    if offsets[1] - offsets[0] != spec.nbytes:
        raise ModelFileError(
            f"{where}: data_offsets {offsets} span {offsets[1] - offsets[0]} bytes, {dtype} {shape} takes {spec.nbytes}"
        )
    return spec, offsets[0], offsets[1]


def _check_spans(path: Path, spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    """Tensors lie one after the other, without holes, from the first byte of the data to the last."""
    spans.sort()
    expected = 0
    for begin, end, name in spans:
        if begin != expected:
            raise ModelFileError(
                f"{path}: tensor {name}: begins at byte {begin}, expected {expected} (hole or overlap)"
            )
        expected = end
    if expected != data_bytes:
        raise ModelFileError(f"{path}: tensors end at byte {expected} of the data, the file has {data_bytes}")
