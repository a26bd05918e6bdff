"""Writes a smaller (or wider) copy of a model directory. Needs NumPy alone and a few blocks of rows in memory.

int8 follows docs/MODEL_DIRECTORY.md: `NAME` int8 [N, K] and `NAME_scale` float32 [N], scale = max |row| / 127,
value = round-half-even(x / scale); a row of zeros has scale 0.

What becomes int8: tensors of rank 2 named `*.weight`, which is what products and the word embedding read. Not:
position, token-type and relative-bias tables, which are added rather than multiplied, and `mixer.attention.*`, which is
folded into other matrices when a model is opened. bfloat16 narrows everything of rank 2 and more and leaves vectors
(norms, biases, the mixer's logits with their factor of 1e5) as they are: they are read in float32 and weigh nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import (
    FLOAT_ENCODERS,
    FLOAT_TYPES,
    SafetensorsWriter,
    TensorSpec,
    parse_json,
    to_float32,
)

DTYPES = ("int8", "bfloat16", "float32")
MODEL_TYPES = ("swcm", "layer_fusion", "layer_fusion_classifier")
INT8_SCHEME = {"dtype": "int8", "scheme": "per-row-symmetric"}
SCALE_SUFFIX = "_scale"
KEPT_IN_INT8 = re.compile(
    r"(^mixer\.attention\.)|position_embeddings|embed_positions|token_type_embeddings|relative_attention_bias"
)


def quantize(source: Path, destination: Path, dtype: str, force: bool = False) -> None:
    """Copy the model directory `source` to `destination` with weights of `dtype` ("int8", "bfloat16", "float32").

    A quantised `source` may be widened to bfloat16 or float32, but not quantised again. `destination` appears whole
    or not at all. Raises ModelFileError for files that contradict the format, NaN and Inf included,
    UnsupportedModelError for other model types.
    """
    if dtype not in DTYPES:
        raise UnsupportedModelError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    config = _read_config(source)
    if dtype == "int8" and config.get("quantization") is not None:
        raise UnsupportedModelError(f"{source}: is quantised already ({config['quantization']})")
    with SafetensorsDirectory(source) as tensors, atomic_directory(destination, force) as folder:
        _copy_other_files(source, folder)
        text = json.dumps(_new_config(config, dtype), indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        _write_weights(tensors, _outputs(tensors, dtype), folder / "model.safetensors")


@dataclass(frozen=True)
class _Output:
    """One tensor to write and where its blocks come from."""

    spec: TensorSpec
    blocks: Callable[[], Iterable[np.ndarray]]


def is_quantized_in_int8(spec: TensorSpec) -> bool:
    """Whether a tensor of a model directory becomes int8."""
    matrix = len(spec.shape) == 2 and spec.dtype in FLOAT_TYPES and spec.name.endswith(".weight")
    return matrix and not KEPT_IN_INT8.search(spec.name)


def row_scales(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """float32 [N]: max |row| / 127 of float32 blocks [rows, K]."""
    return np.concatenate([np.abs(block).max(axis=1) for block in blocks]) / np.float32(127)


def quantize_rows(block: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int8 [rows, K] of float32 [rows, K]: round-half-even(x / scale), zeros where the scale is 0."""
    divisors = np.where(scales > 0, scales, np.float32(1))
    values = np.where(scales[:, None] > 0, np.rint(block / divisors[:, None]), np.float32(0))
    return np.clip(values, -127, 127).astype(np.int8)


def _outputs(tensors: SafetensorsDirectory, dtype: str) -> list[_Output]:
    specs = tensors.specs
    outputs: list[_Output] = []
    for name, spec in specs.items():
        if spec.dtype == "I8":
            _check_scale(tensors, spec)
        elif spec.dtype not in FLOAT_TYPES:
            outputs.append(_Output(spec, partial(tensors.blocks, name)))
            continue
        elif name.removesuffix(SCALE_SUFFIX) in specs and name.endswith(SCALE_SUFFIX):
            continue  # goes with its matrix
        if dtype == "int8" and is_quantized_in_int8(spec):
            outputs += _int8_outputs(tensors, spec)
        else:
            outputs.append(_float_output(tensors, spec, dtype))
    return outputs


def _int8_outputs(tensors: SafetensorsDirectory, spec: TensorSpec) -> list[_Output]:
    scales: list[np.ndarray] = []  # computed when they are written, which is before the narrower int8 values

    def scale_blocks() -> list[np.ndarray]:
        scales.append(row_scales(_float_blocks(tensors, spec.name)))
        return scales

    def value_blocks() -> Iterator[np.ndarray]:
        first = 0
        for block in _float_blocks(tensors, spec.name):
            yield quantize_rows(block, scales[0][first : first + len(block)])
            first += len(block)

    scale_name = spec.name + SCALE_SUFFIX
    if scale_name in tensors.specs:
        raise ModelFileError(f"{tensors.path_of(scale_name)}: tensor {scale_name} belongs to a quantised model")
    scale_spec = TensorSpec(scale_name, "F32", spec.shape[:1])
    return [_Output(scale_spec, scale_blocks), _Output(TensorSpec(spec.name, "I8", spec.shape), value_blocks)]


def _float_output(tensors: SafetensorsDirectory, spec: TensorSpec, dtype: str) -> _Output:
    kept = spec.dtype if spec.dtype in ("F16", "BF16") else "F32"
    target = "F32" if dtype == "float32" else "BF16" if dtype == "bfloat16" and len(spec.shape) >= 2 else kept
    encode = FLOAT_ENCODERS[target]
    return _Output(TensorSpec(spec.name, target, spec.shape), lambda: map(encode, _float_blocks(tensors, spec.name)))


def _float_blocks(tensors: SafetensorsDirectory, name: str) -> Iterator[np.ndarray]:
    """Finite float32 blocks [rows, K] of a tensor, multiplied by its scales where it is int8."""
    spec = tensors.specs[name]
    scales = tensors.read(name + SCALE_SUFFIX) if spec.dtype == "I8" else None
    first = 0
    for block in tensors.blocks(name):
        values = to_float32(block, spec.dtype)
        if scales is not None:
            values *= scales[first : first + len(block), None]
        if not np.isfinite(values).all():
            raise ModelFileError(f"{tensors.path_of(name)}: tensor {name}: found NaN or Inf, expected finite numbers")
        first += len(block)
        yield values


def _check_scale(tensors: SafetensorsDirectory, spec: TensorSpec) -> None:
    scale = tensors.specs.get(spec.name + SCALE_SUFFIX)
    if len(spec.shape) != 2 or scale is None or scale.shape != spec.shape[:1] or scale.dtype != "F32":
        found = f"{scale.dtype} {list(scale.shape)}" if scale else "no such tensor"
        name = f"{tensors.path_of(spec.name)}: tensor {spec.name}{SCALE_SUFFIX}"
        raise ModelFileError(f"{name}: found {found} for int8 {list(spec.shape)}, expected F32 [rows]")


def _write_weights(tensors: SafetensorsDirectory, outputs: list[_Output], path: Path) -> None:
    by_name = {output.spec.name: output for output in outputs}
    if not by_name:
        raise ModelFileError(f"{tensors.directory}: holds no tensors")
    with SafetensorsWriter(path, (output.spec for output in outputs)) as writer:
        for spec in writer.order:
            writer.write(spec.name, by_name[spec.name].blocks())


def _read_config(source: Path) -> dict[str, Any]:
    path = source / "config.json"
    try:
        config = parse_json(path, path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    if config.get("model_type") not in MODEL_TYPES:
        raise UnsupportedModelError(
            f"{path}: found model_type {config.get('model_type')!r}, expected one of {', '.join(MODEL_TYPES)}"
        )
    quantization = config.get("quantization")
    if quantization is not None and quantization != INT8_SCHEME:
        raise UnsupportedModelError(f"{path}: found quantization {quantization!r}, expected {INT8_SCHEME}")
    return config


def _new_config(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """The config with `quantization`, and with the float type that PyTorch opens the weights in, where it names one."""
    new = {key: value for key, value in config.items() if key != "quantization"}
    if dtype == "int8":
        return {**new, "quantization": INT8_SCHEME}
    for part in (new, new.get("encoder"), new.get("llm")):
        for key in ("dtype", "torch_dtype"):
            if isinstance(part, dict) and part.get(key) is not None:
                part[key] = dtype
    return new


def _copy_other_files(source: Path, destination: Path) -> None:
    """Tokenizers and generation settings: the files beside the weights, and those of `llm/`."""
    for folder in (Path(), Path("llm")):
        if not (source / folder).is_dir():
            continue
        (destination / folder).mkdir(exist_ok=True)
        for path in (source / folder).iterdir():
            if path.is_file() and not re.search(r"\.(safetensors|bin|pt|pth|gguf|index\.json)$", path.name):
                shutil.copyfile(path, destination / folder / path.name)
