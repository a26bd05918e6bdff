"""Frequencies of rotary positions, in float32 and in the order of operations of transformers' modeling_rope_utils."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lrengine.errors import UnsupportedModelError


def inverse_frequencies(config: dict[str, Any], head_dim: int) -> np.ndarray:
    """float32 [head_dim / 2] of an LLM's config in either spelling. Raises UnsupportedModelError."""
    scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    theta = config["rope_theta"] if config.get("rope_theta") is not None else scaling.get("rope_theta", 10000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if scaling.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise UnsupportedModelError("partial_rotary_factor cannot be exported: expected 1, all of a head turns")
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1.0) / np.float32(theta) ** exponents
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / np.float32(scaling["factor"])
    if kind == "llama3":
        return _llama3(frequencies, scaling, config["max_position_embeddings"])
    raise UnsupportedModelError(f"rope_type '{kind}' cannot be exported: expected default, linear or llama3")


def _llama3(frequencies: np.ndarray, scaling: dict[str, Any], max_positions: int) -> np.ndarray:
    """Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended."""
    factor, low, high = (np.float32(scaling[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = scaling.get("original_max_position_embeddings", max_positions)
    wavelengths = np.float32(2 * math.pi) / frequencies
    smooth = (np.float32(original) / wavelengths - low) / (high - low)
    blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    slowed = np.where(wavelengths > original / low, frequencies / factor, frequencies)
    between = (wavelengths <= original / low) & (wavelengths >= original / high)
    return np.where(between, blended, slowed).astype(np.float32)
