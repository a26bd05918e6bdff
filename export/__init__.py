"""ONNX export: a model directory as graphs for ONNX Runtime and TensorRT (docs/ONNX.md)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrengine.export.engine import OnnxEngine
    from lrengine.export.exporter import export_onnx
    from lrengine.export.options import ExportOptions, Profile

__all__ = ["ExportOptions", "OnnxEngine", "Profile", "export_onnx"]

_HOMES = {"ExportOptions": "options", "OnnxEngine": "engine", "Profile": "options", "export_onnx": "exporter"}


def __getattr__(name: str) -> Any:
    """Imported when asked for: writing graphs needs onnx, running them onnxruntime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lrengine.export' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lrengine.export.{_HOMES[name]}"), name)
