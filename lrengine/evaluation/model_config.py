"""What evaluation reads in config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrengine.errors import ModelFileError
from lrengine.model_file import read_model_file
from lrengine.safetensors_io import parse_json


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises ModelFileError."""
    path = directory / "config.json"
    config = parse_json(path, read_model_file(path))
    if "model_type" not in config:
        raise ModelFileError(f"{path}: expected an object with 'model_type'")
    return config


def source_positions(encoder: dict[str, Any]) -> int:
    """Longest source in tokens; relative positions have no end."""
    if encoder.get("model_type") in ("t5", "mt5", "umt5"):
        return 1 << 20
    offset = 0 if encoder.get("model_type") == "bert" else int(encoder.get("pad_token_id", 1)) + 1
    return int(encoder["max_position_embeddings"]) - offset
