"""The weights of a model directory: `model.safetensors`, or the shards that `model.safetensors.index.json` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lrengine.errors import ModelFileError
from lrengine.model_file import read_model_file
from lrengine.safetensors_io import BLOCK_BYTES, SafetensorsFile, TensorSpec, parse_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class SafetensorsDirectory:
    """All tensors of a directory under their names, whichever file they are in. A context manager: it keeps files open.

    Raises ModelFileError: no weights, a missing shard, a shard outside the directory, a tensor in two shards, or one
    that the index and the shards place differently.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._homes: dict[str, SafetensorsFile] = {}
        self._stack = ExitStack()
        try:
            for path, expected in _shards(directory).items():
                file = self._stack.enter_context(SafetensorsFile(path))
                self._add(file, expected)
        except BaseException:
            self._stack.close()
            raise

    def _add(self, file: SafetensorsFile, expected: set[str] | None) -> None:
        for name in file.specs:
            if name in self._homes:
                raise ModelFileError(f"{file.path}: tensor {name} is in {self._homes[name].path.name} too")
            self._homes[name] = file
        if expected is not None and expected != set(file.specs):
            name = min(expected ^ set(file.specs))
            place = "missing, though the index names it" if name in expected else "not named by the index"
            raise ModelFileError(f"{file.path}: tensor {name} is {place}")

    @property
    def specs(self) -> dict[str, TensorSpec]:
        return {name: file.specs[name] for name, file in self._homes.items()}

    def path_of(self, name: str) -> Path:
        """The file that holds a tensor, for messages."""
        return self._homes[name].path

    def read(self, name: str) -> np.ndarray:
        return self._homes[name].read(name)

    def blocks(self, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
        return self._homes[name].blocks(name, block_bytes)

    def __enter__(self) -> SafetensorsDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _shards(directory: Path) -> dict[Path, set[str] | None]:
    """File -> the tensors that it must hold (None: whatever it does)."""
    if not directory.is_dir():
        raise ModelFileError(f"{directory}: {'is not a directory' if directory.exists() else 'does not exist'}")
    if (directory / SINGLE).exists():
        return {directory / SINGLE: None}
    index = directory / INDEX
    if not index.exists():
        raise ModelFileError(f"{directory}: found neither {SINGLE} nor {INDEX}")
    return shard_contents(index, parse_json(index, read_model_file(index)).get("weight_map"))


def shard_contents(index: Path, weight_map: object) -> dict[Path, set[str] | None]:
    """The `weight_map` of an index file, checked: shards are plain files of the index's own directory."""
    if not isinstance(weight_map, dict) or not all(isinstance(value, str) for value in weight_map.values()):
        raise ModelFileError(f"{index}: weight_map must map tensor names to file names")
    contents: dict[Path, set[str] | None] = {}
    for name, shard in weight_map.items():
        path = index.parent / shard
        inside = Path(shard).name == shard and "\0" not in shard and path.resolve().parent == index.parent.resolve()
        if not inside:
            raise ModelFileError(f"{index}: tensor {name}: shard {shard!r} is outside the directory")
        if not path.is_file():
            raise ModelFileError(f"{index}: tensor {name}: shard {shard!r} is missing")
        names = contents.setdefault(path, set())
        assert names is not None
        names.add(name)
    return contents
