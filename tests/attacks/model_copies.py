"""A whole tiny model directory, broken in one place: what the tests of hostile directories share."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lrengine import Engine
from lrengine.errors import LrengineError

SOURCE = [[0, 7, 8, 9, 2]]
Tensors = dict[str, tuple[str, list[int], bytes]]  # name -> safetensors dtype, shape, bytes


def read_tensors(path: Path) -> Tensors:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()
    }


def write_tensors(path: Path, tensors: Tensors) -> None:
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def changed(fields: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """`fields` with the value at "a.b" set; a value of `missing` takes it away."""
    copy = json.loads(json.dumps(fields))
    *parents, last = place.split(".")
    target = copy
    for name in parents:
        target = target[name]
    if value is missing:
        del target[last]
    else:
        target[last] = value
    return copy


missing = object()


class Copies:
    """Copies of a good model directory. `good` is an engine on it, which must answer after every attack as before."""

    def __init__(self, original: Path, folder: Path) -> None:
        self.original, self._folder = original, folder
        self.good = Engine.load(original, device="cpu", threads=1)
        self._answer = self._ask()
        self.config = json.loads((original / "config.json").read_text())
        self.tensors = read_tensors(original / "model.safetensors")

    def _ask(self) -> Any:
        return self.good.classify(SOURCE) if self.good.labels else self.good.generate(SOURCE, max_new_tokens=3)

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A copy to break. Afterwards it is gone, and the good engine answers."""
        directory = self._folder / "copy"
        shutil.copytree(self.original, directory)
        try:
            yield directory
            assert self._ask() == self._answer
        finally:
            shutil.rmtree(directory)

    def refused(self, damage: Callable[[Path], object], error: type[LrengineError], match: str) -> None:
        """Opening a copy that `damage` was done to raises `error`, whose message matches; nothing in it is changed."""
        with self.copy() as directory:
            damage(directory)
            before = sorted(directory.rglob("*"))
            with pytest.raises(error, match=match) as caught:
                Engine.load(directory, device="cpu", threads=1)
            assert sorted(directory.rglob("*")) == before and len(str(caught.value)) < 3000
