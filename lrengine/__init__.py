"""Text generation and classification for languages that large models do not speak."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrengine.engine import Engine
    from lrengine.export.engine import OnnxEngine
    from lrengine.results import Classification, Generation, Score, Token

_HOMES = {"Engine": "engine", "OnnxEngine": "export.engine"}
__all__ = ["Classification", "Engine", "Generation", "OnnxEngine", "Score", "Token"]
__version__ = "0.1.0"

_TREE = Path(__file__).parents[1]
if (_TREE / "setup.py").is_file() and (_TREE / "kernels").is_dir():
    # in a source tree, lrengine.kernels and lrengine.export lie beside this folder; an installation has them inside
    __path__.append(str(_TREE))


def __getattr__(name: str) -> Any:
    """The engine is opened when it is asked for: training needs no compiled module, and generating no PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module 'lrengine' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lrengine.{_HOMES.get(name, 'results')}"), name)
