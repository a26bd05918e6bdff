"""The header of a GGUF file: metadata and tensor directory, every length checked against the file before it is used.

Layout (little endian): "GGUF", version u32, tensor count u64, metadata count u64; metadata: name, type u32, value;
tensors: name, rank u32, dimensions u64 (fastest first), type u32, offset u64; padding to the alignment; the data.
Strings are a u64 length and bytes. The `gguf` package reads the values; its own header reader trusts array lengths.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from lrengine.convert.stored_tensor import StoredTensor
from lrengine.errors import ModelFileError, UnsupportedModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_RANK = 4
_PLAIN = {
    GGMLQuantizationType.F32: "F32",
    GGMLQuantizationType.F16: "F16",
    GGMLQuantizationType.BF16: "BF16",
}


@dataclass(frozen=True)
class GgufFile:
    """`metadata` by name; `tensors` under GGUF's names, shapes as in PyTorch, block types as float32."""

    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


def read_gguf(path: Path) -> GgufFile:
    """Raises ModelFileError for a malformed file, UnsupportedModelError for a version or type that cannot be read."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ModelFileError(f"{path}: cannot be read: {error}") from error
    cursor = _Cursor(path, data)
    if cursor.bytes(4) != MAGIC:
        raise ModelFileError(f"{path}: does not start with {MAGIC.decode()}")
    version = cursor.scalar("I")
    if version not in VERSIONS:
        raise UnsupportedModelError(f"{path}: found GGUF version {version}, expected one of {VERSIONS}")
    tensor_count, metadata_count = cursor.scalar("Q"), cursor.scalar("Q")
    metadata: dict[str, Any] = {}
    for _ in range(metadata_count):
        name = cursor.string()
        if name in metadata:
            raise ModelFileError(f"{path}: the key {name!r} is there twice")
        metadata[name] = cursor.value(cursor.scalar("I"))
    directory = [cursor.tensor() for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise ModelFileError(f"{path}: found alignment {alignment!r}, expected a power of two")
    start = (cursor.at + alignment - 1) // alignment * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, offset in directory:
        if name in tensors:
            raise ModelFileError(f"{path}: tensor {name} is there twice")
        tensors[name] = _tensor(path, data, name, shape, kind, start + offset)
    return GgufFile(metadata, tensors)


class _Cursor:
    """Reads forward; ModelFileError at the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ModelFileError(f"{self.path}: ends at byte {len(self.data)}, expected {count} more at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def scalar(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(code)))[0]

    def string(self) -> str:
        try:
            return self.bytes(self.scalar("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFileError(f"{self.path}: a string before byte {self.at} is not UTF-8") from error

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < 4:
            kind, count = self.scalar("I"), self.scalar("Q")
            if kind in _SCALARS:
                code = _SCALARS[kind]
                return list(np.frombuffer(self.bytes(count * struct.calcsize(code)), np.dtype(f"<{code}")).tolist())
            return [self.value(kind, depth + 1) for _ in range(count)]
        raise ModelFileError(f"{self.path}: found value type {kind} before byte {self.at}")

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, rank = self.string(), self.scalar("I")
        if not 1 <= rank <= _MAX_RANK:
            raise ModelFileError(f"{self.path}: tensor {name}: found {rank} dimensions, expected 1 to {_MAX_RANK}")
        dimensions = [self.scalar("Q") for _ in range(rank)]
        return name, tuple(reversed(dimensions)), self.scalar("I"), self.scalar("Q")


def _tensor(path: Path, data: mmap.mmap, name: str, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
    where = f"{path}: tensor {name}"
    try:
        encoding = GGMLQuantizationType(kind)
        block, block_bytes = GGML_QUANT_SIZES[encoding]
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(f"{where}: found type {kind}") from error
    count = math.prod(shape)
    if count == 0 or shape[-1] % block:
        raise ModelFileError(f"{where}: found shape {list(shape)}, expected rows of blocks of {block}")
    size = count // block * block_bytes
    if offset + size > len(data):
        raise ModelFileError(f"{where}: ends at byte {offset + size}, the file at {len(data)}")
    raw = partial(np.frombuffer, data, np.uint8, size, offset)
    if encoding in _PLAIN:
        code = _PLAIN[encoding]
        dtype = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[code]
        return StoredTensor(name, path, code, shape, lambda: raw().view(dtype).reshape(shape))
    return StoredTensor(name, path, "F32", shape, lambda: _dequantized(where, raw(), encoding, shape))


def _dequantized(where: str, raw: np.ndarray, encoding: GGMLQuantizationType, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return dequantize(raw.reshape(*shape[:-1], -1), encoding).astype(np.float32, copy=False)
    except NotImplementedError as error:
        raise UnsupportedModelError(f"{where}: found type {encoding.name}, which cannot be dequantised") from error
