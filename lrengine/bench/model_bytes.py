"""Weight bytes that a model directory's steps must read: over the memory's bandwidth, the floor of a latency."""

from __future__ import annotations

import json
from pathlib import Path

from lrengine.safetensors_directory import SafetensorsDirectory


def weight_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.glob("*.safetensors"))


def step_bytes(directory: Path) -> int:
    """Of one decode step. SWCM: decoder layers (less cross K and V) and the output projection, the tied layers' from
    the encoder; fusion: the LLM. A classifier: its encoder's layers, which a pass over one source reads once."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    model_type, tied = config["model_type"], config.get("sharing") == "tied"

    def is_read(name: str) -> bool:
        if model_type == "layer_fusion":
            return name.startswith("llm.")
        if model_type == "layer_fusion_classifier":
            return "embeddings" not in name
        if name.startswith("decoder.") or (tied and name.startswith("encoder.encoder.layer.")):
            return "cross_attention.k_proj" not in name and "cross_attention.v_proj" not in name
        if config.get("tie_word_embeddings", True):
            return name.startswith("encoder.embeddings.word_embeddings")
        return name.startswith("lm_head")

    with SafetensorsDirectory(directory) as tensors:
        return sum(spec.nbytes for name, spec in tensors.specs.items() if is_read(name))
