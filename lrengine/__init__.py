"""Text generation and classification for languages that large models do not speak."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrengine.engine import Engine
    from lrengine.results import Classification, Generation, Score, Token

__all__ = ["Classification", "Engine", "Generation", "Score", "Token"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The engine is opened when it is asked for: training needs no compiled module, and generating no PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module 'lrengine' has no attribute '{name}'")
    return getattr(importlib.import_module("lrengine.engine" if name == "Engine" else "lrengine.results"), name)
