"""LangBridge checkpoints (MODELS.md, B): an encoder whose last layer is mapped into an LLM's embedding space.

Their config names the sub-models by hub id; the dimensions come from local files (`--encoder-config`,
`--llm-config`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lrengine.convert.configs import read_json
from lrengine.convert.fusion_parts import FusionParts
from lrengine.convert.options import ConvertOptions
from lrengine.convert.output import ConvertedModel
from lrengine.convert.stored_tensor import SourceTensors, StoredTensor
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.safetensors_io import FLOAT_ENCODERS, to_float32

_HEAD_DIM = 64  # of the resampler's attention: hard-coded there
_NORM_EPS = 1e-5  # nn.LayerNorm's default
_RESAMPLER_PARTS = ("norm_media.weight", "norm_media.bias", "norm_latents.weight", "norm_latents.bias",
                    "to_q.weight", "to_k.weight", "to_v.weight", "to_out.weight")  # fmt: skip


def is_langbridge(source: SourceTensors) -> bool:
    return source.has_prefix("lb.alignment.")


def convert_langbridge(source: SourceTensors, options: ConvertOptions) -> ConvertedModel:
    """Raises ModelFileError when config.json, the sub-configs and the tensors contradict each other."""
    folder = source.where if source.where.is_dir() else source.where.parent
    config = read_json(folder / "config.json")
    parts = FusionParts.read(options)
    for name, width in (("dim_enc", parts.encoder_config.hidden_size), ("dim_lm", parts.llm_config.hidden_size)):
        if config.get(name) != width:
            where = f"{folder / 'config.json'}: {name}"
            raise ModelFileError(f"{where}: found {config.get(name)!r}, expected the sub-config's {width}")
    parts.add_encoder(source, "lb.enc.")
    parts.add_llm(source, "lb.lm.", "lb.lm_head.weight", "lb.embeddings.weight")
    return parts.finish(source, options, {"type": "last"}, _mapper(source, parts, config, options))


def _mapper(
    source: SourceTensors, parts: FusionParts, config: dict[str, Any], options: ConvertOptions
) -> dict[str, Any]:
    """Takes the alignment's tensors and describes them."""
    kind = config.get("alignments")
    prefix = "lb.alignment."
    end = source.take(f"{prefix}enc_eos")
    if kind == "latent":
        return _resampler(source, parts, end, options)
    parts.add("end_boundary", end)
    if kind == "linear":
        for part in ("weight", "bias"):
            parts.add(f"mapper.layers.0.{part}", source.take(f"{prefix}linear.{part}"))
        return {"type": "linear"}
    if kind == "ffn":
        for ours, theirs in enumerate((0, 2)):
            for part in ("weight", "bias"):
                parts.add(f"mapper.layers.{ours}.{part}", source.take(f"{prefix}ffn.{theirs}.{part}"))
        hidden = parts.tensors["mapper.layers.0.weight"].shape[0]
        return {"type": "mlp", "hidden_dim": hidden, "activation": "gelu"}
    raise UnsupportedModelError(f"{source.where}: found alignments {kind!r}, expected linear, ffn or latent")


def _resampler(source: SourceTensors, parts: FusionParts, end: StoredTensor, options: ConvertOptions) -> dict[str, Any]:
    prefix = "lb.alignment."
    depth = 0
    while source.has_prefix(f"{prefix}layers.{depth}."):
        layer = f"mapper.layers.{depth}."
        for part in _RESAMPLER_PARTS:
            parts.add(f"{layer}attention.{part}", source.take(f"{prefix}layers.{depth}.0.{part}"))
        for ours, theirs in (("fc_in", 0), ("fc_out", 2)):
            for part in ("weight", "bias"):
                parts.add(f"{layer}{ours}.{part}", source.take(f"{prefix}layers.{depth}.1.{theirs}.{part}"))
        depth += 1
    for name in ("latents", "out_proj.weight", "norm.weight", "norm.bias"):
        parts.add(f"mapper.{name}", source.take(prefix + name))
    norm_weight, norm_bias = parts.tensors["mapper.norm.weight"], parts.tensors["mapper.norm.bias"]
    parts.add("end_boundary", _normalised(end, norm_weight, norm_bias))
    if depth == 0:
        raise ModelFileError(f"{source.where}: the latent alignment has no layers")
    inner = parts.tensors["mapper.layers.0.attention.to_q.weight"].shape[0]
    heads = options.latent_heads or inner // _HEAD_DIM
    if heads == 0 or inner % heads:
        raise ModelFileError(f"{source.where}: resampler width {inner} does not tell its heads: give --latent-heads")
    return {
        "type": "latent",
        "num_latents": parts.tensors["mapper.latents"].shape[0],
        "depth": depth,
        "heads": heads,
        "head_dim": inner // heads,
        "ffn_dim": parts.tensors["mapper.layers.0.fc_in.weight"].shape[0],
    }


def _normalised(end: StoredTensor, weight: StoredTensor, bias: StoredTensor) -> StoredTensor:
    """LangBridge's last LayerNorm runs over the end vector too; the result is a constant, computed here once."""

    def load() -> np.ndarray:
        x, gain, shift = (to_float32(part.load(), part.dtype).astype(np.float64) for part in (end, weight, bias))
        if x.shape != gain.shape or x.shape != shift.shape:
            raise ModelFileError(f"{end}: found shape {list(x.shape)}, expected that of {weight.name}")
        normalised = (x - x.mean()) / np.sqrt(x.var() + _NORM_EPS) * gain + shift
        return FLOAT_ENCODERS[end.dtype](normalised.astype(np.float32))

    return replace(end, load=load)
