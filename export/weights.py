"""Where the weights of an export come from and where they go: model.safetensors in, one weights.bin out.

All graphs of a directory point into weights.bin (ONNX external data), and a tensor lies in it once, whichever graphs
and nodes use it and under however many names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import FLOAT_TYPES, TensorSpec, to_float32

WEIGHTS_FILE = "weights.bin"
# A page, which the ONNX specification advises for mapped external data; vectors only get a cache line.
ALIGNMENT, SMALL_ALIGNMENT, SMALL = 4096, 64, 1 << 16


@dataclass(frozen=True)
class Placed:
    """A tensor in weights.bin."""

    name: str
    elem_type: int  # onnx.TensorProto's
    dims: tuple[int, ...]
    offset: int
    length: int

    def viewed(self, name: str, *dims: int) -> Placed:
        """The same bytes in another shape."""
        return replace(self, name=name, dims=dims)

    def initializer(self, name: str | None = None) -> onnx.TensorProto:
        """The graph's reference to it, under its own name or another."""
        tensor = onnx.TensorProto(name=name or self.name, data_type=self.elem_type, dims=self.dims)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", self.offset), ("length", self.length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class WeightFile:
    """weights.bin while it is written. A context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

    def place(self, name: str, values: np.ndarray) -> Placed:
        """Writes `values` unless the same bytes are there already."""
        values = np.ascontiguousarray(values)
        elem_type = int(onnx.helper.np_dtype_to_tensor_dtype(values.dtype))
        content = values.view(np.uint8).reshape(-1).data
        key = hashlib.blake2b(content, digest_size=16).digest()
        if key not in self._places:
            alignment = SMALL_ALIGNMENT if values.nbytes < SMALL else ALIGNMENT
            self._file.write(b"\0" * (-self._file.tell() % alignment))
            self._places[key] = self._file.tell(), values.nbytes
            self._file.write(content)
        offset, length = self._places[key]
        return Placed(name, elem_type, values.shape, offset, length)

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class ModelWeights:
    """The tensors of a model directory as an export wants them, each placed once.

    `dtype`: what matrices are stored as ("float32", "float16", "bfloat16"). Raises ModelFileError for a tensor that is
    missing, of another shape, not finite or, in float16, too large."""

    def __init__(self, tensors: SafetensorsDirectory, file: WeightFile, dtype: np.dtype[Any]) -> None:
        self.tensors, self.file, self.dtype = tensors, file, dtype
        self._placed: dict[str, Placed] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors.specs

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor of the model directory. Raises ModelFileError."""
        return self._spec(name).shape

    def _spec(self, name: str) -> TensorSpec:
        spec = self.tensors.specs.get(name)
        if spec is None:
            raise ModelFileError(f"{self.tensors.directory}: tensor {name} is missing")
        return spec

    def read(self, name: str) -> np.ndarray:
        """float32 values under the name they have in the model directory."""
        spec = self._spec(name)
        where = f"{self.tensors.path_of(name)}: tensor {name}"
        if spec.dtype not in FLOAT_TYPES:
            raise UnsupportedModelError(
                f"{where}: is {spec.dtype}; export a float directory (`lrengine quantize DIR NEW --dtype float32`)"
            )
        values = to_float32(self.tensors.read(name), spec.dtype)
        if not np.isfinite(values).all():
            raise ModelFileError(f"{where}: found NaN or Inf, expected finite numbers")
        return values

    def placed(self, name: str, make: Callable[[], np.ndarray], dtype: np.dtype[Any] | None = None) -> Placed:
        """The tensor `name` of weights.bin, made and written at its first use. dtype None: the matrices' own."""
        if name not in self._placed:
            wanted = dtype or self.dtype
            with np.errstate(over="ignore"):
                values = make().astype(wanted)
            if wanted == np.float16 and not np.isfinite(values).all():
                raise UnsupportedModelError(f"tensor {name}: has values beyond float16; export float32 or bfloat16")
            self._placed[name] = self.file.place(name, values)
        return self._placed[name]
