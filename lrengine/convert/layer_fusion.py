"""The checkpoint of the published layer-fusion code (MODELS.md, B): all layers of an encoder, mixed, before an LLM."""

from __future__ import annotations

import re
from typing import Any

from lrengine.convert.fusion_parts import FusionParts
from lrengine.convert.options import ConvertOptions
from lrengine.convert.output import ConvertedModel
from lrengine.convert.stored_tensor import SourceTensors
from lrengine.errors import UnsupportedModelError

_TRANSFORMER = "encoder_mt.layer_weights."
_ENCODER_LAYER = f"{_TRANSFORMER}transformerEncoder.layers.0."
# The three mappers of the published code: their layers' names, first to last. ReLU between two.
_MAPPER_LAYERS = (("fc",), ("fc1", "fc2"), ("linear1", "linear2"))


def is_layer_fusion(source: SourceTensors) -> bool:
    return source.has_prefix("encoder_mt.") and source.has_prefix("mapping.")


def convert_layer_fusion(source: SourceTensors, options: ConvertOptions) -> ConvertedModel:
    """Sub-configs come from local files. Raises ModelFileError or UnsupportedModelError naming what does not fit."""
    parts = FusionParts.read(options)
    parts.add_encoder(source, "encoder_mt.embedding_model_base.")
    parts.add_llm(source, "model_llm.model.", "model_llm.lm_head.weight", "llm_embedding_layer.weight")
    mixer = _mixer(source, parts)
    mapper = _mapper(source, parts)
    parts.add("end_boundary", source.take("mapping.end_boundary").flatten())  # stored as [1, 1, E]
    return parts.finish(source, options, mixer, mapper)


def _mixer(source: SourceTensors, parts: FusionParts) -> dict[str, Any]:
    """Takes the mixer's tensors and describes them; without any it is the baseline, the last layer."""
    if "encoder_mt.layer_weights_lb" in source:
        parts.add("mixer.layer_logits", source.take("encoder_mt.layer_weights_lb"))
        parts.add("mixer.temperature", source.take("encoder_mt.temp").reshape(1))
        return {"type": "global", "temperature_base": 100.0, "temperature_factor": 1e5}
    if not source.has_prefix(_TRANSFORMER):
        return {"type": "last"}
    if source.has_prefix(f"{_TRANSFORMER}transformerEncoder.layers.1."):
        raise UnsupportedModelError(f"{source.where}: the mixer has several Transformer layers, expected one")
    parts.add("mixer.position_embeddings", source.take(f"{_TRANSFORMER}layer_pos_emb"))
    parts.add("mixer.cls", source.take(f"{_TRANSFORMER}cls").flatten())  # stored as [1, 1, D]
    for name, tensor in source.take_prefix(_ENCODER_LAYER).items():
        parts.add("mixer." + re.sub(r"^self_attn\.", "attention.", name), tensor)
    for part in ("weight", "bias"):
        parts.add(f"mixer.output.{part}", source.take(f"{_TRANSFORMER}layer_weights.{part}"))
    ffn = parts.tensors.get("mixer.linear1.bias")
    return {"type": "transformer", "layer_norm_eps": 1e-5, **({"ffn_dim": ffn.shape[0]} if ffn else {})}


def _mapper(source: SourceTensors, parts: FusionParts) -> dict[str, Any]:
    for layers in _MAPPER_LAYERS:
        if f"mapping.mlp.{layers[0]}.weight" not in source:
            continue
        for index, layer in enumerate(layers):
            for part in ("weight", "bias"):
                parts.add(f"mapper.layers.{index}.{part}", source.take(f"mapping.mlp.{layer}.{part}"))
        if len(layers) == 1:
            return {"type": "linear"}
        return {"type": "mlp", "hidden_dim": parts.tensors["mapper.layers.0.bias"].shape[0], "activation": "relu"}
    raise UnsupportedModelError(f"{source.where}: found no mapping.mlp of a known form")
