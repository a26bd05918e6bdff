"""Opens checkpoints: safetensors and torch pickles, single files, sharded ones and directories that hold either."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrengine.convert.stored_tensor import SourceTensors, StoredTensor
from lrengine.errors import ModelFileError
from lrengine.model_file import read_model_file
from lrengine.safetensors_directory import shard_contents
from lrengine.safetensors_io import SafetensorsFile, parse_json

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
# How training scripts wrap a state dict.
_WRAPPERS = ("model_state_dict", "state_dict", "model")
_DTYPE_CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def open_source(path: Path) -> SourceTensors:
    """The tensors of a checkpoint file or directory, without the `module.` that data-parallel training adds to names.

    Torch pickles are read with weights_only=True: nothing in them is executed. Raises ModelFileError."""
    tensors: dict[str, StoredTensor] = {}
    for file, expected in weight_files(path).items():
        found = _open_safetensors(file) if file.suffix == ".safetensors" else _open_torch(file)
        if expected is not None and expected != set(found):
            raise ModelFileError(
                f"{file}: tensor {min(expected ^ set(found))}: the index and the shard disagree about it"
            )
        for name, tensor in found.items():
            name = name.removeprefix("module.")
            if name in tensors:
                raise ModelFileError(f"{tensor} is in {tensors[name].file.name} too")
            tensors[name] = tensor
    if not tensors:
        raise ModelFileError(f"{path}: holds no tensors")
    return SourceTensors(path, tensors)


def weight_files(path: Path) -> dict[Path, set[str] | None]:
    """The weight files of `path` and, for shards of an index, the tensors that each must hold."""
    if path.is_file():
        if path.suffix not in WEIGHT_SUFFIXES:
            raise ModelFileError(f"{path}: expected a file named *{', *'.join(WEIGHT_SUFFIXES)}")
        return {path: None}
    if not path.is_dir():
        raise ModelFileError(f"{path}: no such file or directory")
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = path / f"{stem}.index.json"
        if (path / stem).is_file():
            return {path / stem: None}
        if index.is_file():
            return shard_contents(index, parse_json(index, read_model_file(index)).get("weight_map"))
    candidates = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
    if len(candidates) != 1:
        names = ", ".join(file.name for file in candidates) or "none"
        raise ModelFileError(f"{path}: expected one weight file, found {names}; name the file itself")
    return {candidates[0]: None}


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    file = SafetensorsFile(path)
    return {
        name: StoredTensor(name, path, spec.dtype, spec.shape, partial(file.read, name))
        for name, spec in file.specs.items()
    }


def _open_torch(path: Path) -> dict[str, StoredTensor]:
    state = _unwrap(_load_pickle(path))
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: found a {type(state).__name__}, expected a state dict")
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ModelFileError(f"{path}: {name!r} is a {type(value).__name__}, expected a tensor")
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in _DTYPE_CODES:
            raise ModelFileError(f"{path}: tensor {name}: found {value.dtype} {value.layout}, expected a dense tensor")
        tensors[name] = StoredTensor(name, path, _DTYPE_CODES[value.dtype], tuple(value.shape), partial(_bits, value))
    return tensors


def _load_pickle(path: Path) -> Any:
    try:
        # Only the zip form can be mapped; the older one is read whole.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except MemoryError:
        raise
    except Exception as error:  # a hostile pickle can raise anything
        reason = str(error).strip().split("\n")[0]
        raise ModelFileError(f"{path}: not a torch file with nothing but tensors: {reason}") from error


def _unwrap(state: Any) -> Any:
    if isinstance(state, dict):
        for key in _WRAPPERS:
            if isinstance(state.get(key), dict):
                return state[key]
    return state


def _bits(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
