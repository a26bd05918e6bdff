"""Tensors of a foreign checkpoint, known by name, type and shape, and loaded only when they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lrengine.errors import ModelFileError


@dataclass(frozen=True)
class StoredTensor:
    """`dtype` is safetensors' code; `load` gives the values in that storage type (bfloat16 as uint16 bits)."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]

    def __str__(self) -> str:
        return f"{self.file}: tensor {self.name}"

    def row_parts(self, count: int) -> list[StoredTensor]:
        """`count` tensors of equally many rows, in order. Raises ModelFileError when the rows do not divide."""
        if not self.shape or self.shape[0] % count:
            raise ModelFileError(f"{self}: found shape {list(self.shape)}, expected a first dimension of {count} parts")
        rows = self.shape[0] // count
        return [self._rows(part * rows, rows) for part in range(count)]

    def _rows(self, first: int, count: int) -> StoredTensor:
        return replace(self, shape=(count, *self.shape[1:]), load=lambda: self.load()[first : first + count])

    def reshape(self, *shape: int) -> StoredTensor:
        """The same elements under another shape. Raises ModelFileError when their number differs."""
        if np.prod(self.shape, dtype=object) != np.prod(shape, dtype=object):
            raise ModelFileError(f"{self}: found shape {list(self.shape)}, expected {list(shape)}")
        return replace(self, shape=shape, load=lambda: self.load().reshape(shape))

    def flatten(self) -> StoredTensor:
        return self.reshape(int(np.prod(self.shape, dtype=object)))


class SourceTensors:
    """The tensors of a checkpoint, handed out once each, so that none is forgotten."""

    def __init__(self, where: Path, tensors: dict[str, StoredTensor]) -> None:
        self.where = where
        self._tensors = tensors
        self._left = dict(tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def has_prefix(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._left)

    def take(self, name: str) -> StoredTensor:
        """Raises ModelFileError when there is no such tensor."""
        if name not in self._left:
            raise ModelFileError(f"{self.where}: tensor {name} is missing")
        return self._left.pop(name)

    def take_prefix(self, prefix: str) -> dict[str, StoredTensor]:
        """All tensors whose names start with `prefix`, under the rest of their names."""
        names = [name for name in self._left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._left.pop(name) for name in names}

    def drop(self, pattern: str) -> None:
        """Tensors whose whole names match are of no use here: buffers that every library version computes anew, heads
        that the model does not have."""
        for name in [name for name in self._left if re.fullmatch(pattern, name)]:
            del self._left[name]

    def check_all_used(self) -> None:
        """Raises ModelFileError naming tensors that nobody took: the checkpoint is of another model."""
        if self._left:
            names = ", ".join(sorted(self._left)[:5]) + (", ..." if len(self._left) > 5 else "")
            raise ModelFileError(f"{self.where}: {len(self._left)} tensors have no place in this model: {names}")
