"""`lrengine convert model.gguf DST`: the plain Hugging Face directory computes what the GGUF file was written from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize as gguf_quantize
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lrengine.convert.options import ConvertOptions
from lrengine.convert.run import convert
from lrengine.errors import UnsupportedModelError
from lrengine.models import LayerFusionForCausalLM
from tiny import tiny_encoder, tiny_llm

Encode = Callable[[np.ndarray], tuple[np.ndarray, gguf.GGMLQuantizationType | None]]
LAYER_PARTS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
OTHER_PARTS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name: str) -> str:
    stem, _, part = name.rpartition(".")
    if stem in OTHER_PARTS:
        return f"{OTHER_PARTS[stem]}.{part}"
    layer, _, stem = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{LAYER_PARTS[stem]}.{part}"


def interleave_rotations(rows: np.ndarray, heads: int) -> np.ndarray:
    """Row i and row i + d/2 of every head next to each other, as llama.cpp rotates them."""
    result = np.empty_like(rows)
    width = len(rows) // heads
    for head in range(heads):
        block = rows[head * width : (head + 1) * width]
        result[head * width : (head + 1) * width : 2] = block[: width // 2]
        result[head * width + 1 : (head + 1) * width : 2] = block[width // 2 :]
    return result


def plain(array: np.ndarray) -> tuple[np.ndarray, None]:
    return array, None


def write_gguf(model: PreTrainedModel, path: Path, encode: Encode = plain, **extra: np.ndarray) -> Path:
    config = model.config
    kind = "llama" if config.model_type == "mistral" else config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.to_dict()
    writer.add_rope_freq_base(rope.get("rope_theta") or rope["rope_parameters"]["rope_theta"])
    writer.add_key_length(model.model.layers[0].self_attn.head_dim)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if kind == "llama" and ("q_proj" in name or "k_proj" in name):
            array = interleave_rotations(
                array, config.num_attention_heads if "q_" in name else config.num_key_value_heads
            )
        array, dtype = encode(array) if array.ndim == 2 else plain(array)
        writer.add_tensor(gguf_name(name), array, raw_dtype=dtype)
    for name, array in extra.items():
        writer.add_tensor(f"{name}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model.eval()(input_ids=torch.tensor([[1, 9, 200, 33, 7, 150, 12, 77]])).logits


def load(directory: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_logits(tmp_path: Path, kind: str) -> None:
    model = tiny_llm(kind)
    convert(write_gguf(model, tmp_path / "model.gguf"), tmp_path / "dst")
    found = load(tmp_path / "dst")
    torch.testing.assert_close(logits(found), logits(model), rtol=1e-5, atol=1e-5)
    assert found.config.tie_word_embeddings == model.config.tie_word_embeddings
    assert found.config.rms_norm_eps == model.config.rms_norm_eps
    assert (found.config.bos_token_id, found.config.eos_token_id) == (1, 2)


def test_attention_biases_are_reordered_too(tmp_path: Path) -> None:
    model = tiny_llm("llama", attention_bias=True)
    for layer in model.model.layers:  # llama.cpp has no bias there
        torch.nn.init.zeros_(layer.self_attn.o_proj.bias)
    convert(write_gguf(model, tmp_path / "model.gguf"), tmp_path / "dst")
    torch.testing.assert_close(logits(load(tmp_path / "dst")), logits(model), rtol=1e-5, atol=1e-5)


LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def llama3_factors(model: PreTrainedModel) -> np.ndarray:
    """What llama.cpp stores: unscaled over scaled frequencies."""
    unscaled = tiny_llm("llama", rope_theta=500000.0).model.rotary_emb.inv_freq
    return (unscaled / model.model.rotary_emb.inv_freq).numpy()


def test_llama3_rope_scaling_is_recovered_from_its_factors(tmp_path: Path) -> None:
    scaling = {**LLAMA3, "original_max_position_embeddings": 8192}
    model = tiny_llm("llama3", rope_scaling=dict(scaling))
    convert(write_gguf(model, tmp_path / "a.gguf", rope_freqs=llama3_factors(model)), tmp_path / "dst")
    fields = json.loads((tmp_path / "dst/config.json").read_text())
    assert fields["rope_scaling"] == scaling and fields["rope_theta"] == 500000.0
    found = load(tmp_path / "dst")
    torch.testing.assert_close(found.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    torch.testing.assert_close(logits(found), logits(model), rtol=1e-5, atol=1e-5)


def test_factors_of_another_scaling_are_refused(tmp_path: Path) -> None:
    model = tiny_llm("llama3")  # of a context of 64
    path = write_gguf(model, tmp_path / "a.gguf", rope_freqs=llama3_factors(model))
    with pytest.raises(UnsupportedModelError, match="rope_freqs.weight"):
        convert(path, tmp_path / "dst")


@pytest.mark.parametrize(("encoding", "levels"), [("Q8_0", 127), ("Q4_1", 7.5)])
def test_block_types_are_dequantised(tmp_path: Path, encoding: str, levels: float) -> None:
    kind = gguf.GGMLQuantizationType[encoding]
    model = tiny_llm("llama", hidden_size=64, intermediate_size=96, num_attention_heads=4)
    path = write_gguf(model, tmp_path / "a.gguf", lambda array: (gguf_quantize(array, kind), kind))
    convert(path, tmp_path / "dst")
    found = load(tmp_path / "dst").state_dict()
    for name, tensor in model.state_dict().items():
        step = tensor.abs().max() / levels  # of a block: at most that of the tensor
        assert (found[name] - tensor).abs().max() <= 0.51 * step + 1e-3 * tensor.abs().max(), name


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    path = write_gguf(tiny_llm("llama"), tmp_path / "a.gguf", lambda array: (array.astype(np.float16), None))
    convert(path, tmp_path / "dst")
    parameters = sum(tensor.numel() for tensor in tiny_llm("llama").parameters())
    assert (tmp_path / "dst/model.safetensors").stat().st_size < 2.2 * parameters


def test_the_directory_is_an_llm_for_layer_fusion(tmp_path: Path) -> None:
    convert(write_gguf(tiny_llm("llama"), tmp_path / "a.gguf"), tmp_path / "dst", options=ConvertOptions(pad_id=0))
    model = LayerFusionForCausalLM.from_pretrained_parts(tiny_encoder("mt5"), tmp_path / "dst")
    assert model.config.llm.model_type == "llama" and model.config.pad_token_id == 0
    assert model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, min_new_tokens=3).shape == (1, 3)


def test_other_architectures_and_layers_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.ones((2, 2), np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    with pytest.raises(UnsupportedModelError, match="mamba"):
        convert(tmp_path / "a.gguf", tmp_path / "dst")
    experts: dict[str, Any] = {"blk.0.ffn_gate_exps": np.ones((2, 2), np.float32)}
    with pytest.raises(UnsupportedModelError, match="ffn_gate_exps"):
        convert(write_gguf(tiny_llm("llama"), tmp_path / "b.gguf", **experts), tmp_path / "dst")


@pytest.mark.real
@pytest.mark.skipif("LRENGINE_REAL" not in os.environ, reason="LRENGINE_REAL names no directory with real weights")
def test_a_real_file_gives_what_transformers_reads_from_it(tmp_path: Path) -> None:
    real = Path(os.environ["LRENGINE_REAL"])
    convert(next((real / "cache").rglob("*.gguf")), tmp_path / "dst")
    expected = AutoModelForCausalLM.from_pretrained(real / "smollm2-135m-instruct", dtype=torch.float32)
    found = load(tmp_path / "dst")
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    torch.testing.assert_close(logits(found), logits(expected), rtol=1e-5, atol=1e-5)
    text = "The capital of France is"
    ours, theirs = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "dst", real / "smollm2-135m-instruct"))
    assert ours(text).input_ids == theirs(text).input_ids and ours.chat_template == theirs.chat_template
