"""Writes a smaller (or wider) copy of a model directory. Needs NumPy alone and a few blocks of rows in memory.

int8 follows docs/MODEL_DIRECTORY.md: `NAME` int8 [N, K] and `NAME_scale` float32 [N], scale = max |row| / 127,
value = round-half-even(x / scale); a row of zeros has scale 0. int4 is in int4_groups.py; matrices whose columns are
not whole blocks of 32 are int8 in an int4 directory too, as are embeddings and output projections if nothing is said.

What becomes int8: tensors of rank 2 named `*.weight`, which is what products and the word embedding read. Not:
position, token-type and relative-bias tables, which are added rather than multiplied, and `mixer.attention.*`, which is
folded into other matrices when a model is opened. bfloat16 narrows everything of rank 2 and more and leaves vectors
(norms, biases, the mixer's logits with their factor of 1e5) as they are: they are read in float32 and weigh nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.int4_groups import BLOCK, GROUP_SIZES, group_scales, pack_levels, unpack
from lrengine.model_file import read_model_file
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import (
    FLOAT_ENCODERS,
    FLOAT_TYPES,
    SafetensorsWriter,
    TensorSpec,
    parse_json,
    to_float32,
)

DTYPES = ("int4", "int8", "bfloat16", "float32")
QUANTIZED = ("int4", "int8")
MODEL_TYPES = ("swcm", "layer_fusion", "layer_fusion_classifier")
INT8_SCHEME = {"dtype": "int8", "scheme": "per-row-symmetric"}
INT4_SCHEMES = {size: {"dtype": "int4", "scheme": "group-symmetric", "group_size": size} for size in GROUP_SIZES}
SCHEMES = (INT8_SCHEME, *INT4_SCHEMES.values())
DEFAULT_GROUP_SIZE = 32
SCALE_SUFFIX = "_scale"
KEPT_IN_INT8 = re.compile(
    r"(^mixer\.attention\.)|position_embeddings|embed_positions|token_type_embeddings|relative_attention_bias"
)
EMBEDDINGS = re.compile(r"(word_embeddings|shared|embed_tokens|lm_head)\.weight$")  # and output projections


def quantize(
    source: Path | str,
    destination: Path | str,
    dtype: str,
    force: bool = False,
    group_size: int = DEFAULT_GROUP_SIZE,
    embeddings: str = "int8",
) -> None:
    """Copy the model directory `source` to `destination` with weights of `dtype` ("int4", "int8", "bfloat16",
    "float32").

    For int4 alone, `group_size`: columns that share a scale; `embeddings`: "int8" or "int4", the type of word
    embeddings and output projections (docs/MODEL_DIRECTORY.md has what int4 costs and saves there). A quantised
    `source` may be widened to bfloat16 or float32, but not quantised again. `destination` appears whole or not at all.
    Raises ModelFileError for files that contradict the format, NaN and Inf included, UnsupportedModelError for other
    model types and for choices that do not go together.
    """
    if dtype not in DTYPES:
        raise UnsupportedModelError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if group_size not in GROUP_SIZES:
        raise UnsupportedModelError(f"group size {group_size}: expected one of {', '.join(map(str, GROUP_SIZES))}")
    if embeddings not in QUANTIZED or (dtype != "int4" and embeddings != "int8"):
        expected = "expected int8 or int4" if dtype == "int4" else f"weights of {dtype} have no choice of it"
        raise UnsupportedModelError(f"embeddings {embeddings!r}: {expected}")
    source, destination = Path(source), Path(destination)
    config = _read_config(source)
    if dtype in QUANTIZED and config.get("quantization") is not None:
        raise UnsupportedModelError(f"{source}: is quantised already ({config['quantization']})")
    scheme = INT8_SCHEME if dtype == "int8" else INT4_SCHEMES[group_size] if dtype == "int4" else None
    with SafetensorsDirectory(source) as stored, atomic_directory(destination, force) as folder:
        tensors = _Source(stored, (config.get("quantization") or {}).get("group_size", 0))
        copy_other_files(source, folder)
        text = json.dumps(_new_config(config, dtype, scheme), indent=2, ensure_ascii=False)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        _write_weights(stored, _outputs(tensors, dtype, group_size, embeddings), folder / "model.safetensors")


@dataclass(frozen=True)
class _Output:
    """One tensor to write and where its blocks come from."""

    spec: TensorSpec
    blocks: Callable[[], Iterable[np.ndarray]]


class _Source:
    """The tensors of a model directory, quantised ones as the numbers they stand for."""

    def __init__(self, tensors: SafetensorsDirectory, group_size: int) -> None:
        self.tensors = tensors
        self.group_size = group_size  # 0: the directory has no int4

    def is_quantized(self, spec: TensorSpec) -> bool:
        """Whether the tensor is int8 or int4; its scales are checked."""
        packed = spec.dtype == "U8" and self.group_size > 0 and len(spec.shape) == 2
        if not packed and spec.dtype != "I8":
            return False
        scale = self.tensors.specs.get(spec.name + SCALE_SUFFIX)
        groups = -(-spec.shape[-1] * 2 // self.group_size) if packed else 0
        expected = ("BF16", (*spec.shape[:1], groups)) if packed else ("F32", spec.shape[:1])
        whole = len(spec.shape) == 2 and (not packed or spec.shape[1] % (BLOCK // 2) == 0)
        if not whole or scale is None or (scale.dtype, scale.shape) != expected:
            found = f"{scale.dtype} {list(scale.shape)}" if scale else "no such tensor"
            name = f"{self.tensors.path_of(spec.name)}: tensor {spec.name}{SCALE_SUFFIX}"
            wanted = "BF16 [rows, groups]" if packed else "F32 [rows]"
            raise ModelFileError(f"{name}: found {found} for {spec.dtype} {list(spec.shape)}, expected {wanted}")
        return True

    def float_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return (spec.shape[0], spec.shape[1] * 2) if spec.dtype == "U8" else spec.shape

    def float_blocks(self, name: str) -> Iterator[np.ndarray]:
        """Finite float32 blocks [rows, K] of a tensor."""
        spec = self.tensors.specs[name]
        scales = self.tensors.read(name + SCALE_SUFFIX) if spec.dtype in ("I8", "U8") else None
        first = 0
        for block in self.tensors.blocks(name):
            if scales is None:
                values = to_float32(block, spec.dtype)
            elif spec.dtype == "I8":
                values = to_float32(block, spec.dtype) * scales[first : first + len(block), None]
            else:
                with np.errstate(invalid="ignore"):  # what is no number is refused below
                    values = unpack(block, scales[first : first + len(block)], self.group_size)
            if not np.isfinite(values).all():
                where = f"{self.tensors.path_of(name)}: tensor {name}"
                raise ModelFileError(f"{where}: found NaN or Inf, expected finite numbers")
            first += len(block)
            yield values


def is_quantized_in_int8(spec: TensorSpec) -> bool:
    """Whether a tensor of a model directory becomes int8."""
    matrix = len(spec.shape) == 2 and spec.dtype in FLOAT_TYPES and spec.name.endswith(".weight")
    return matrix and not KEPT_IN_INT8.search(spec.name)


def is_quantized_in_int4(spec: TensorSpec, embeddings: str) -> bool:
    """Whether a tensor of a model directory becomes int4, embeddings and output projections being `embeddings`."""
    stays_int8 = embeddings == "int8" and EMBEDDINGS.search(spec.name)
    return is_quantized_in_int8(spec) and spec.shape[1] % BLOCK == 0 and not stays_int8


def row_scales(block: np.ndarray) -> np.ndarray:
    """float32 [rows]: max |row| / 127 of float32 [rows, K]."""
    return np.abs(block).max(axis=1) / np.float32(127)


def quantize_rows(block: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int8 [rows, K] of float32 [rows, K]: round-half-even(x / scale), zeros where the scale is 0."""
    divisors = np.where(scales > 0, scales, np.float32(1))
    values = np.where(scales[:, None] > 0, np.rint(block / divisors[:, None]), np.float32(0))
    return np.clip(values, -127, 127).astype(np.int8)


def _outputs(tensors: _Source, dtype: str, group_size: int, embeddings: str) -> list[_Output]:
    specs = tensors.tensors.specs
    outputs: list[_Output] = []
    for name, spec in specs.items():
        if not tensors.is_quantized(spec):
            if spec.dtype not in FLOAT_TYPES:
                outputs.append(_Output(spec, partial(tensors.tensors.blocks, name)))
                continue
            if name.removesuffix(SCALE_SUFFIX) in specs and name.endswith(SCALE_SUFFIX):
                continue  # goes with its matrix
        if dtype == "int4" and is_quantized_in_int4(spec, embeddings):
            outputs += _int4_outputs(tensors, spec, group_size)
        elif dtype in QUANTIZED and is_quantized_in_int8(spec):
            outputs += _int8_outputs(tensors, spec)
        else:
            outputs.append(_float_output(tensors, spec, dtype))
    return outputs


def _int8_outputs(tensors: _Source, spec: TensorSpec) -> list[_Output]:
    scale = TensorSpec(spec.name + SCALE_SUFFIX, "F32", spec.shape[:1])
    values = TensorSpec(spec.name, "I8", spec.shape)
    return _quantized_outputs(tensors, scale, values, row_scales, quantize_rows)


def _int4_outputs(tensors: _Source, spec: TensorSpec, group_size: int) -> list[_Output]:
    rows, cols = spec.shape
    scale = TensorSpec(spec.name + SCALE_SUFFIX, "BF16", (rows, -(-cols // group_size)))
    values = TensorSpec(spec.name, "U8", (rows, cols // 2))
    return _quantized_outputs(
        tensors,
        scale,
        values,
        partial(group_scales, group_size=group_size),
        partial(pack_levels, group_size=group_size),
    )


def _quantized_outputs(
    tensors: _Source,
    scale: TensorSpec,
    values: TensorSpec,
    scales_of: Callable[[np.ndarray], np.ndarray],
    values_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[_Output]:
    scales: list[np.ndarray] = []  # computed when they are written, which is before the narrower values

    def scale_blocks() -> list[np.ndarray]:
        scales.append(np.concatenate([scales_of(block) for block in tensors.float_blocks(values.name)]))
        return scales

    def value_blocks() -> Iterator[np.ndarray]:
        first = 0
        for block in tensors.float_blocks(values.name):
            yield values_of(block, scales[0][first : first + len(block)])
            first += len(block)

    if scale.name in tensors.tensors.specs:
        raise ModelFileError(f"{tensors.tensors.path_of(scale.name)}: tensor {scale.name} belongs to a quantised model")
    return [_Output(scale, scale_blocks), _Output(values, value_blocks)]


def _float_output(tensors: _Source, spec: TensorSpec, dtype: str) -> _Output:
    kept = spec.dtype if spec.dtype in ("F16", "BF16") else "F32"
    shape = tensors.float_shape(spec)
    target = "F32" if dtype == "float32" else "BF16" if dtype == "bfloat16" and len(shape) >= 2 else kept
    encode = FLOAT_ENCODERS[target]
    return _Output(TensorSpec(spec.name, target, shape), lambda: map(encode, tensors.float_blocks(spec.name)))


def _write_weights(tensors: SafetensorsDirectory, outputs: list[_Output], path: Path) -> None:
    by_name = {output.spec.name: output for output in outputs}
    if not by_name:
        raise ModelFileError(f"{tensors.directory}: holds no tensors")
    with SafetensorsWriter(path, (output.spec for output in outputs)) as writer:
        for spec in writer.order:
            writer.write(spec.name, by_name[spec.name].blocks())


def _read_config(source: Path) -> dict[str, Any]:
    path = source / "config.json"
    config = parse_json(path, read_model_file(path))
    if config.get("model_type") not in MODEL_TYPES:
        raise UnsupportedModelError(
            f"{path}: found model_type {config.get('model_type')!r}, expected one of {', '.join(MODEL_TYPES)}"
        )
    quantization = config.get("quantization")
    if quantization is not None and not _is_scheme(quantization):
        expected = f"{INT8_SCHEME} or {INT4_SCHEMES[DEFAULT_GROUP_SIZE]} (groups of 32, 64 or 128)"
        raise UnsupportedModelError(f"{path}: found quantization {quantization!r}, expected {expected}")
    return config


def _is_scheme(quantization: object) -> bool:
    """As JSON: 64.0 is no group size."""
    return json.dumps(quantization, sort_keys=True) in (json.dumps(scheme, sort_keys=True) for scheme in SCHEMES)


def _new_config(config: dict[str, Any], dtype: str, scheme: Mapping[str, object] | None) -> dict[str, Any]:
    """The config with `quantization`, and with the float type that PyTorch opens the weights in, where it names one."""
    new = {key: value for key, value in config.items() if key != "quantization"}
    if scheme is not None:
        return {**new, "quantization": dict(scheme)}
    for part in (new, new.get("encoder"), new.get("llm")):
        for key in ("dtype", "torch_dtype"):
            if isinstance(part, dict) and part.get(key) is not None:
                part[key] = dtype
    return new


def copy_other_files(source: Path, destination: Path) -> None:
    """Tokenizers and generation settings: the files beside the weights, and those of `llm/`."""
    for folder in (Path(), Path("llm")):
        if not (source / folder).is_dir():
            continue
        (destination / folder).mkdir(exist_ok=True)
        for path in (source / folder).iterdir():
            if path.is_file() and not re.search(r"\.(safetensors|bin|pt|pth|gguf|index\.json)$", path.name):
                shutil.copyfile(path, destination / folder / path.name)
