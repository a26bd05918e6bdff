"""What type checkers are told of the engine's options (lrengine/options.py) is what it takes."""

from __future__ import annotations

import inspect
from typing import Any

from lrengine import Engine
from lrengine.engine import OPTIONS
from lrengine.options import GenerateOptions, StreamOptions

BEAMS = {"num_beams", "num_return_sequences", "length_penalty", "early_stopping"}


def keywords(method: Any) -> set[str]:
    return {
        name for name, one in inspect.signature(method).parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
    }


def test_generate() -> None:
    assert set(GenerateOptions.__annotations__) | {"num_return_sequences"} == keywords(Engine.generate)
    assert keywords(Engine.generate) - {"prompts", "prefix", "stop"} == OPTIONS


def test_stream() -> None:
    assert set(StreamOptions.__annotations__) == OPTIONS - BEAMS
    assert keywords(Engine.stream) == {"prompts", "prefix", "stop"}
