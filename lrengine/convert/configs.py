"""Configs of sub-models, from local files or from the shapes of their tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, XLMRobertaConfig

from lrengine.convert.stored_tensor import StoredTensor
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.model_file import read_model_file
from lrengine.safetensors_io import parse_json

_SIZES = {
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads",
    "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_key_value_heads", "head_dim",
    "relative_attention_num_buckets",
}  # fmt: skip
_MAX_LAYERS = 1000
_MAX_SIZE = 2**24


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelFileError when the file is missing, unreadable or no JSON object."""
    return parse_json(path, read_model_file(path))


def read_config(path: Path | None, option: str) -> PretrainedConfig:
    """The Hugging Face config in `path`: a config.json or its directory. `option`: its name to users."""
    if path is None:
        raise ModelFileError(f"the checkpoint does not hold this sub-model's dimensions: give them with {option} PATH")
    file = path / "config.json" if path.is_dir() else path
    fields = read_json(file)
    return build_config(fields.pop("model_type", None), fields, file)


def build_config(model_type: object, fields: dict[str, Any], where: Path) -> PretrainedConfig:
    """Of transformers' own class. Raises UnsupportedModelError when it has none, ModelFileError when it refuses."""
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(f"{where}: found model_type {model_type!r}, which transformers does not know")
    _check_sizes(fields, where)
    try:
        return AutoConfig.for_model(model_type, **fields)
    except Exception as error:  # ValueError, TypeError, and since transformers 5 validation errors of another family
        raise ModelFileError(f"{where}: {error}") from error


def _check_sizes(fields: dict[str, Any], where: Path) -> None:
    """Raises ModelFileError for a size that is no positive integer or out of all proportion: some configs and every
    model class loop over layers before anything could be compared with the weights."""
    for name in _SIZES & set(fields):
        value, limit = fields[name], _MAX_LAYERS if "layers" in name else _MAX_SIZE
        if name == "head_dim" and value is None:  # derived from the width, as in Mistral's published configs
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
            raise ModelFileError(f"{where}: {name}: found {value!r}, expected an integer from 1 to {limit}")


def infer_xlm_roberta(tensors: dict[str, StoredTensor], where: Path, heads: int | None) -> PretrainedConfig:
    """The config of an XLM-R encoder (names without `encoder.`) from its shapes; the rest is XLM-R's own.

    `heads` cannot be seen in the weights; without it, they are taken to be 64 wide, as in every published XLM-R.
    Raises ModelFileError when a tensor is missing or the width is no multiple of the heads."""

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors or len(tensors[name].shape) != rank:
            found = list(tensors[name].shape) if name in tensors else "none"
            raise ModelFileError(f"{where}: tensor encoder.{name}: found {found}, expected one of {rank} dimensions")
        return tensors[name].shape

    vocabulary, width = shape("embeddings.word_embeddings.weight", 2)
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    if width % (heads or 64):
        raise ModelFileError(f"{where}: width {width} is no multiple of {heads or 64}: give --encoder-heads")
    return XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads or width // 64,
        intermediate_size=shape("encoder.layer.0.intermediate.dense.weight", 2)[0],
        max_position_embeddings=shape("embeddings.position_embeddings.weight", 2)[0],
        type_vocab_size=shape("embeddings.token_type_embeddings.weight", 2)[0],
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
