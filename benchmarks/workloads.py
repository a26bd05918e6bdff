"""Models at real dimensions with random weights (speed does not depend on them), and the bytes that decoding reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from lrengine.bench.model_bytes import step_bytes, weight_bytes

__all__ = ["build_fusion", "build_swcm", "quantized", "step_bytes", "weight_bytes"]
VOCABULARY = 135_359  # CINO's: XLM-R's pieces that the languages of the paper use
MT5_LARGE: dict[str, Any] = {
    "vocab_size": 250_112,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 2816,
    "num_layers": 24,
    "num_heads": 16,
}
MT5_SMALL: dict[str, Any] = {"vocab_size": 320, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}


def llama_sizes(small: bool) -> dict[str, Any]:
    """LlamaConfig's fields: Llama-3.2-1B's, or in miniature."""
    size: dict[str, Any] = (
        {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
        if small
        else {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64}
    )
    return size | {"tie_word_embeddings": True, "max_position_embeddings": 4096, "rope_theta": 500_000.0}


def xlm_roberta_sizes(vocabulary: int, small: bool) -> dict[str, Any]:
    """XLMRobertaConfig's fields: base's with another vocabulary, or in miniature."""
    size: dict[str, Any] = (
        {
            "vocab_size": 320,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 96,
        }
        if small
        else {"vocab_size": vocabulary}
    )
    return size | {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}


def build_swcm(folder: Path, sharing: str = "init", dtype: str = "float32", small: bool = False) -> None:
    """XLM-R base encoder, 12 custom and 4 normal decoder layers, width 768, output tied to the word embedding. Written
    once. `small`: in miniature."""
    if (folder / "config.json").exists():
        return
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from lrengine.models import SwcmForConditionalGeneration

    torch.manual_seed(0)
    config = XLMRobertaConfig(**xlm_roberta_sizes(VOCABULARY, small))
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    model = SwcmForConditionalGeneration.from_encoder(
        encoder, normal_layer_interval=3, normal_after_last=True, sharing=sharing, tie_word_embeddings=True
    )
    if sharing == "init":
        # No two matrices equal, as after training: an ONNX export stores, and its steps read, equal ones once.
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)


def build_fusion(folder: Path, dtype: str = "bfloat16", small: bool = False) -> None:
    """mT5-large's encoder, the transformer mixer, a linear mapper and Llama-3.2-1B's dimensions. Written once. `small`:
    the same shape in miniature, to try the script itself."""
    if (folder / "config.json").exists():
        return
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MT5Config, MT5EncoderModel

    from lrengine.models import LayerFusionForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        encoder = MT5EncoderModel(MT5Config(**(MT5_SMALL if small else MT5_LARGE), feed_forward_proj="gated-gelu"))
        llm = LlamaForCausalLM(LlamaConfig(**llama_sizes(small)))
        model = LayerFusionForCausalLM.from_pretrained_parts(encoder, llm, mixer="transformer")
        model.to(getattr(torch, dtype)).save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def quantized(folder: Path, dtype: str) -> Path:
    """The directory beside `folder` with its matrices in another type, made once. "int4+embeddings": word embeddings
    and output projections in int4 too."""
    target = folder.with_name(f"{folder.name}-{dtype}")
    if not target.exists():
        dtype, _, embeddings = dtype.partition("+")
        command = ["quantize", str(folder), str(target), "--dtype", dtype]
        command += ["--embeddings", "int4"] if embeddings == "embeddings" else []
        subprocess.run([sys.executable, "-m", "lrengine", *command], check=True)
    return target
