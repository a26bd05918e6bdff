"""Models of the suites: ours at real dimensions with random weights, and peers' that read the same bytes a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workloads import VOCABULARY, llama_sizes, xlm_roberta_sizes

SWCM_FEED_FORWARDS = 12 * 2 + 4  # two a custom layer, one a normal one
# 16 layers of the peers' decoder read what SWCM's 28 feed-forwards of 3,072 read; all else is alike.
PEER_FEED_FORWARD = 3072 * SWCM_FEED_FORWARDS // 16


def build_m2m100(folder: Path, small: bool = False) -> None:
    """Encoder 12 layers, decoder 16, width 768, SWCM's vocabulary, output tied; the decoder's feed-forwards as wide
    as SWCM's together, so that a step reads the same bytes."""
    if (folder / "config.json").exists():
        return
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    torch.manual_seed(0)
    size: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "vocab_size": 320, "d_model": 64} if small else {}
    size |= {"encoder_ffn_dim": 96, "decoder_ffn_dim": 96} if small else {}
    heads = 4 if small else 12
    config = M2M100Config(**{
        "vocab_size": VOCABULARY, "d_model": 768, "encoder_layers": 12, "decoder_layers": 16, "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": PEER_FEED_FORWARD, "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "max_position_embeddings": 512, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0,
    } | size)  # fmt: skip
    M2M100ForConditionalGeneration(config).save_pretrained(folder)


def build_xlm_roberta(folder: Path, ours: Path, small: bool = False) -> None:
    """XLM-R base with a head of eight labels, as transformers has it (`folder`) and as our classifier (`ours`)."""
    if (folder / "config.json").exists() and (ours / "config.json").exists():
        return
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaModel

    from lrengine.models import LayerFusionForSequenceClassification

    torch.manual_seed(0)
    config = XLMRobertaConfig(**xlm_roberta_sizes(250_002, small))
    config.num_labels = 8
    XLMRobertaForSequenceClassification(config).save_pretrained(folder)
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    labels = [f"label {i}" for i in range(8)]
    LayerFusionForSequenceClassification.from_encoder(encoder, labels, mixer="last").save_pretrained(ours)


def build_llama(folder: Path, ours: Path, small: bool = False) -> None:
    """Llama-3.2-1B's dimensions alone (`folder`), and behind an encoder too small to matter (`ours`), so that our
    prefill of a source is the LLM's."""
    if (folder / "config.json").exists() and (ours / "config.json").exists():
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, XLMRobertaConfig, XLMRobertaModel

    from lrengine.models import LayerFusionForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        llm = LlamaForCausalLM(LlamaConfig(**llama_sizes(small), bos_token_id=1, eos_token_id=2))
        llm.save_pretrained(folder)
        encoder = XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=320, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                max_position_embeddings=514, type_vocab_size=1,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        LayerFusionForCausalLM.from_pretrained_parts(encoder, llm, mixer="last").save_pretrained(ours)
    finally:
        torch.set_default_dtype(torch.float32)


def plain_step_bytes(folder: Path, dtype_bytes: float) -> int:
    """Weight bytes of a step of a peer's model, were each weight stored in `dtype_bytes` bytes: the decoder less its
    cross K and V and the tied output; an LLM's every matrix; an encoder's layers."""
    from lrengine.safetensors_directory import SafetensorsDirectory

    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]

    def is_read(name: str) -> bool:
        if model_type == "m2m_100":
            cross = "encoder_attn.k_proj" in name or "encoder_attn.v_proj" in name
            return name.startswith("model.shared") or (name.startswith("model.decoder.layers") and not cross)
        return model_type == "llama" or "embeddings" not in name

    with SafetensorsDirectory(folder) as tensors:
        counts = [spec.nbytes // _size(spec.dtype) for name, spec in tensors.specs.items() if is_read(name)]
    return int(sum(counts) * dtype_bytes)


def _size(dtype: str) -> int:
    return {"F32": 4, "BF16": 2, "F16": 2}[dtype]
