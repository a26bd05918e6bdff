"""Checks a converted model against what its config says and writes it, a tensor at a time."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel

from lrengine.convert.stored_tensor import StoredTensor
from lrengine.convert.tokenizer_files import copy_tokenizer
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models.config_io import complete_dict
from lrengine.safetensors_io import FLOAT_TYPES, STORAGE_TYPES, SafetensorsWriter, TensorSpec, to_float32

_TORCH_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass
class ConvertedModel:
    """A model directory in the making.

    `aliases` are pairs of a source tensor and the name of the one that it must equal. `tokenizers` maps folders of the
    model directory ("", "llm") to where their files come from."""

    config: PretrainedConfig
    model_class: type[PreTrainedModel]
    tensors: dict[str, StoredTensor]
    aliases: list[tuple[StoredTensor, str]] = field(default_factory=list)
    tokenizers: dict[str, Path] = field(default_factory=dict)


def write_model(model: ConvertedModel, where: Path, folder: Path) -> None:
    """Writes into the empty directory `folder`. `where` is the checkpoint, for messages.

    Raises ModelFileError for a missing or superfluous tensor, a wrong shape or type, NaN, Inf, or an alias that differs
    from its original; UnsupportedModelError for a config that its model class cannot build."""
    _check_shapes(model, where)
    for alias, name in model.aliases:
        _check_alias(alias, model.tensors[name])
    specs = [TensorSpec(name, _target_type(tensor), tensor.shape) for name, tensor in model.tensors.items()]
    with SafetensorsWriter(folder / "model.safetensors", specs) as writer:
        for spec in writer.order:
            writer.write(spec.name, [_values(model.tensors[spec.name], spec.dtype)])
    _set_dtype(model.config, specs)
    model.config.architectures = [model.model_class.__name__]
    text = json.dumps(complete_dict(model.config), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    for subfolder, source in model.tokenizers.items():
        copy_tokenizer(source, folder / subfolder)


def expected_shapes(model_class: type[PreTrainedModel], config: PretrainedConfig) -> list[dict[str, tuple[int, ...]]]:
    """Names and shapes of a model's tensors, without memory for them; names of one tied tensor are in one dict."""
    with torch.device("meta"), contextlib.redirect_stderr(io.StringIO()):
        model = model_class(config)
    persistent = set(model.state_dict())
    groups: dict[int, dict[str, tuple[int, ...]]] = {}
    named: Iterable[tuple[str, torch.Tensor]] = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        if name in persistent:
            groups.setdefault(id(tensor), {})[name] = tuple(tensor.shape)
    return list(groups.values())


def _check_shapes(model: ConvertedModel, where: Path) -> None:
    _check_sizes(model, where)
    try:
        groups = expected_shapes(model.model_class, model.config)
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError, IndexError, ZeroDivisionError) as error:
        raise UnsupportedModelError(f"{where}: no model can be built from the configs: {error}") from error
    known: set[str] = set()
    for group in groups:
        known |= set(group)
        present = [name for name in group if name in model.tensors]
        if len(present) != 1:
            name, shape = next(iter(group.items()))
            raise ModelFileError(f"{where}: {len(present)} tensors for {name} {list(shape)}, expected one")
        tensor, shape = model.tensors[present[0]], group[present[0]]
        if tensor.shape != shape:
            message = f"found shape {list(tensor.shape)}, expected {list(shape)} for {present[0]}"
            raise ModelFileError(f"{tensor}: {message}")
    for name in model.tensors.keys() - known:
        raise ModelFileError(f"{model.tensors[name]}: the model of these configs has no {name}")


def _check_sizes(model: ConvertedModel, where: Path) -> None:
    """Before a model is built: a config of 1e9 layers would take all memory even without weights."""
    for config in (model.config, *(getattr(model.config, name) for name in getattr(model.config, "sub_configs", {}))):
        for name in ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers"):
            layers = getattr(config, name, None)
            if layers is not None and not (isinstance(layers, int) and 0 <= layers <= 4 * len(model.tensors)):
                message = f"{name} is {layers!r}, but the checkpoint has {len(model.tensors)} tensors"
                raise ModelFileError(f"{where}: {config.model_type} config: {message}")


def _check_alias(alias: StoredTensor, original: StoredTensor) -> None:
    if alias.shape != original.shape or alias.dtype != original.dtype:
        found = f"{alias.dtype} {list(alias.shape)}, expected {original.dtype} {list(original.shape)}"
        raise ModelFileError(f"{alias}: found {found} as in {original.name}, whose copy it is")
    if not np.array_equal(alias.load(), original.load()):
        raise ModelFileError(f"{alias}: differs from {original.name}, whose copy it should be")


def _target_type(tensor: StoredTensor) -> str:
    if tensor.dtype not in FLOAT_TYPES:
        raise ModelFileError(f"{tensor}: found type {tensor.dtype}, expected one of {', '.join(sorted(FLOAT_TYPES))}")
    return "F32" if tensor.dtype == "F64" else tensor.dtype


def _values(tensor: StoredTensor, dtype: str) -> np.ndarray:
    array = tensor.load()
    if not np.isfinite(to_float32(array, tensor.dtype)).all():
        raise ModelFileError(f"{tensor}: found NaN or Inf, expected finite numbers")
    return array.astype(STORAGE_TYPES[dtype], copy=False)


def _set_dtype(config: PretrainedConfig, specs: list[TensorSpec]) -> None:
    """One float type for the model and its parts, the widest that is stored: PyTorch opens all weights in it."""
    present = {spec.dtype for spec in specs}
    widest: Any = "F32" if present - {"F16"} and present - {"BF16"} else min(present)
    for part in (config, *(getattr(config, name) for name in getattr(config, "sub_configs", {}))):
        part.dtype = getattr(torch, _TORCH_NAMES[widest])
