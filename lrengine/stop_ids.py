"""End tokens of a model directory: config.json's, which must be those that transformers' generate() stops at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lrengine.errors import ModelFileError
from lrengine.model_file import read_model_file
from lrengine.safetensors_io import parse_json

logger = logging.getLogger("lrengine")


def as_list(value: Any) -> list[Any]:
    """`eos_token_id` as configs spell it: null, an id or a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def warn_of_other_stop_ids(directory: Path, config: dict[str, Any]) -> None:
    """Tell the log when generation_config.json, which decides for transformers' generate() of a SWCM, has other end
    tokens than config.json. (Layer fusion's generate() reads config.json, as the engine does.)"""
    path = directory / "generation_config.json"
    if config.get("model_type") != "swcm" or not path.is_file():
        return
    try:
        fields = parse_json(path, read_model_file(path))
    except ModelFileError:
        return  # transformers' file: the engine can do without
    theirs = as_list(fields.get("eos_token_id"))
    ours = as_list(config.get("eos_token_id"))
    if theirs and sorted(map(repr, theirs)) != sorted(map(repr, ours)):
        logger.warning(
            "%s: eos_token_id is %s, but the engine stops at config.json's %s; saving the model again makes them one",
            path,
            theirs,
            ours,
        )
