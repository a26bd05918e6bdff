"""What evaluation reads in config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lrengine.errors import ModelFileError


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises ModelFileError."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelFileError(f"{path}: expected an object with 'model_type'")
    return config


def source_positions(encoder: dict[str, Any]) -> int:
    """Longest source in tokens; relative positions have no end."""
    if encoder.get("model_type") in ("t5", "mt5", "umt5"):
        return 1 << 20
    offset = 0 if encoder.get("model_type") == "bert" else int(encoder.get("pad_token_id", 1)) + 1
    return int(encoder["max_position_embeddings"]) - offset
