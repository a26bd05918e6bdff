"""`convert()`: recognises a checkpoint and writes it as a model directory, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lrengine.atomic_directory import atomic_directory
from lrengine.convert.gguf import convert_gguf, is_gguf
from lrengine.convert.langbridge import convert_langbridge, is_langbridge
from lrengine.convert.layer_fusion import convert_layer_fusion, is_layer_fusion
from lrengine.convert.new_swcm import write_new_swcm
from lrengine.convert.options import TYPES, ConvertOptions
from lrengine.convert.output import ConvertedModel, write_model
from lrengine.convert.source import open_source
from lrengine.convert.stored_tensor import SourceTensors
from lrengine.convert.swcm import convert_swcm, is_swcm
from lrengine.errors import UnsupportedModelError

_LAYOUTS: dict[str, tuple[Callable[[SourceTensors], bool], Callable[[SourceTensors, ConvertOptions], ConvertedModel]]]
_LAYOUTS = {
    "swcm": (is_swcm, convert_swcm),
    "langbridge": (is_langbridge, convert_langbridge),
    "layer-fusion": (is_layer_fusion, convert_layer_fusion),
}


def convert(
    source: Path,
    destination: Path,
    layout: str = "auto",
    options: ConvertOptions | None = None,
    force: bool = False,
) -> str:
    """Write the checkpoint `source` as the model directory `destination`; returns the layout (one of TYPES).

    gguf gives a plain Hugging Face LLM directory. Raises ModelFileError and UnsupportedModelError; then `destination`
    is what it was."""
    if layout not in TYPES:
        raise UnsupportedModelError(f"layout {layout!r}: expected one of {', '.join(TYPES)}")
    options = options or ConvertOptions()
    if layout == "swcm-from-encoder":
        with atomic_directory(destination, force) as folder:
            write_new_swcm(source, folder, options)
        return layout
    if layout == "gguf" or (layout == "auto" and is_gguf(source)):
        layout, model = "gguf", convert_gguf(source, options)
    else:
        tensors = open_source(source)
        layout = _recognise(tensors) if layout == "auto" else layout
        model = _LAYOUTS[layout][1](tensors, options)
    with atomic_directory(destination, force) as folder:
        write_model(model, source, folder)
    return layout


def _recognise(tensors: SourceTensors) -> str:
    for layout, (matches, _) in _LAYOUTS.items():
        if matches(tensors):
            return layout
    names = ", ".join(sorted(tensors)[:5])
    raise UnsupportedModelError(f"{tensors.where}: no known layout has tensors like {names}; give --type")
