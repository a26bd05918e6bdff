"""`--optimize ort`: the graphs as ONNX Runtime fuses them, written down, so that no start of a device has to do it.

What is saved has operators of ONNX Runtime's own (com.microsoft) and runs nowhere else. Constants are not folded,
because a folded copy of a weight would be stored beside it."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from lrengine.export.weights import WEIGHTS_FILE, WeightFile

_KEPT_INSIDE = 64  # bytes; smaller tensors stay in the graph


def fuse_for_onnxruntime(directory: Path, names: list[str]) -> None:
    """Replaces the graphs and weights.bin of an export."""
    rewritten = directory / f"{WEIGHTS_FILE}.new"
    with WeightFile(rewritten) as file:
        for name in names:
            fused = _fused(directory / f"{name}.onnx")
            _move_weights(fused, file)
            onnx.save(fused, directory / f"{name}.onnx")
    rewritten.replace(directory / WEIGHTS_FILE)


def _fused(path: Path) -> onnx.ModelProto:
    saved, data = path.with_suffix(".fused"), f"{path.stem}.fused.bin"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(saved)
    entry = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{entry}_file_name", data)
    options.add_session_config_entry(f"{entry}_min_size_in_bytes", str(_KEPT_INSIDE))
    onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
    )
    model = onnx.load(saved)
    saved.unlink()
    (path.parent / data).unlink(missing_ok=True)
    return model


def _move_weights(model: onnx.ModelProto, file: WeightFile) -> None:
    """Into weights.bin, under the names they have."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT64:
            continue  # shapes, which shape inference reads
        values = onnx.numpy_helper.to_array(tensor)
        if values.nbytes >= _KEPT_INSIDE:
            tensor.CopyFrom(file.place(tensor.name, values).initializer())
