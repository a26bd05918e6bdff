"""GGUF files of Llama-type LLMs, turned into plain Hugging Face directories.

llama.cpp stores the rows of Llama's query and key projections in another order (pairs of a rotation next to each
other, not half a head apart); they are put back. Qwen's are stored as they are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from lrengine.convert.configs import build_config
from lrengine.convert.gguf_file import MAGIC, GgufFile, read_gguf
from lrengine.convert.options import ConvertOptions
from lrengine.convert.output import ConvertedModel
from lrengine.convert.stored_tensor import SourceTensors, StoredTensor
from lrengine.errors import ModelFileError, UnsupportedModelError

# Mistral's files say "llama".
_MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "qwen2": Qwen2ForCausalLM,
    "qwen3": Qwen3ForCausalLM,
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_OTHER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
# Llama 3.1's constants (transformers' "llama3" rope type); the file holds only the factors that follow from them.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def is_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def convert_gguf(path: Path, options: ConvertOptions) -> ConvertedModel:
    """Raises ModelFileError for a malformed file, UnsupportedModelError for another architecture or rope scaling."""
    file = read_gguf(path)
    architecture = file.metadata.get("general.architecture")
    if architecture not in _MODEL_CLASSES:
        raise UnsupportedModelError(
            f"{path}: found architecture {architecture!r}, expected {', '.join(_MODEL_CLASSES)}"
        )
    config = _config(path, file, architecture, options)
    source = SourceTensors(path, file.tensors)
    source.drop(r"rope_freqs\.weight")
    tensors = {}
    for name in source:
        if name in source:
            tensors[_our_name(path, name)] = _permuted_back(source.take(name), architecture, config)
    tokenizer = options.llm_tokenizer or options.tokenizer
    if tokenizer is None and "tokenizer.ggml.model" in file.metadata:
        tokenizer = path
    return ConvertedModel(
        config, _MODEL_CLASSES[architecture], tensors, tokenizers={} if tokenizer is None else {"": tokenizer}
    )


def _our_name(path: Path, name: str) -> str:
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if match and match[1] is not None and match[2] in _LAYER_NAMES:
        return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    if match and match[1] is None and match[2] in _OTHER_NAMES:
        return f"{_OTHER_NAMES[match[2]]}.{match[3]}"
    raise UnsupportedModelError(f"{path}: tensor {name} has no place in a dense Llama-type model")


def _permuted_back(tensor: StoredTensor, architecture: str, config: PretrainedConfig) -> StoredTensor:
    match = re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", tensor.name)
    if architecture != "llama" or match is None:
        return tensor
    heads = config.num_attention_heads if match[1] == "q" else config.num_key_value_heads
    if tensor.shape[0] % (2 * heads):
        raise ModelFileError(f"{tensor}: found {tensor.shape[0]} rows, expected {heads} heads of even width")

    def load() -> np.ndarray:
        pairs = tensor.load().reshape(heads, tensor.shape[0] // heads // 2, 2, *tensor.shape[1:])
        return pairs.swapaxes(1, 2).reshape(tensor.shape)

    return replace(tensor, load=load)


def _config(path: Path, file: GgufFile, architecture: str, options: ConvertOptions) -> PretrainedConfig:
    def integer(name: str, default: int | None = None) -> int:
        value = file.metadata.get(f"{architecture}.{name}", default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ModelFileError(f"{path}: {architecture}.{name}: found {value!r}, expected a positive integer")
        return value

    width, heads = integer("embedding_length"), integer("attention.head_count")
    eps = file.metadata.get(f"{architecture}.attention.layer_norm_rms_epsilon")
    if not isinstance(eps, float) or not 0 <= eps < 1:
        raise ModelFileError(f"{path}: {architecture}.attention.layer_norm_rms_epsilon: found {eps!r}, expected 0 to 1")
    if "token_embd.weight" not in file.tensors:
        raise ModelFileError(f"{path}: tensor token_embd.weight is missing")
    head_dim = integer("attention.key_length", integer("rope.dimension_count", max(1, width // heads)))
    fields: dict[str, Any] = {
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "hidden_size": width,
        "num_hidden_layers": integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": integer("feed_forward_length"),
        "max_position_embeddings": integer("context_length"),
        "rms_norm_eps": float(np.float32(eps).astype(str)),  # 1e-05 again, not the nearest double of a float32
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "rope_theta": file.metadata.get(f"{architecture}.rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(path, file, architecture, head_dim),
        **_token_ids(file, options),
    }
    if architecture != "qwen2":
        fields["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    return build_config(architecture, fields, path)


def _token_ids(file: GgufFile, options: ConvertOptions) -> dict[str, Any]:
    stored = {name: file.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding")}
    eos = options.eos_id[0] if options.eos_id and len(options.eos_id) == 1 else options.eos_id
    return {
        "bos_token_id": stored["bos"] if options.bos_id is None else options.bos_id,
        "eos_token_id": stored["eos"] if eos is None else eos,
        "pad_token_id": stored["padding"] if options.pad_id is None else options.pad_id,
    }


def _rope_scaling(path: Path, file: GgufFile, architecture: str, head_dim: int) -> dict[str, Any] | None:
    kind = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "linear":
        return {"rope_type": "linear", "factor": file.metadata.get(f"{architecture}.rope.scaling.factor", 1.0)}
    if kind != "none":
        raise UnsupportedModelError(f"{path}: found rope scaling {kind!r}, expected none, linear or Llama 3's factors")
    if "rope_freqs.weight" not in file.tensors:
        return None
    found = file.tensors["rope_freqs.weight"].load().astype(np.float64)
    factor = round(float(found.max()), 3)
    theta = float(file.metadata.get(f"{architecture}.rope.freq_base", 10000.0))
    expected = _llama3_factors(theta, head_dim, factor)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3):
        raise UnsupportedModelError(f"{path}: tensor rope_freqs.weight: not the factors of Llama 3's rope scaling")
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def _llama3_factors(theta: float, head_dim: int, factor: float) -> np.ndarray:
    """What each rotation's frequency is divided by: 1 for short waves, `factor` for long ones, a blend between."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    blend = np.clip((_LLAMA3["original_max_position_embeddings"] / wavelengths - low) / (high - low), 0, 1)
    return 1 / ((1 - blend) / factor + blend)
