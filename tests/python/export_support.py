"""Runs exported graphs by hand: onnxruntime alone, no engine of ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
Arrays = dict[str, np.ndarray]


class Exported:
    """The graphs of an export as functions of named arrays."""

    def __init__(self, directory: Path, level: str = "all") -> None:
        self.directory = directory
        self.manifest: dict[str, Any] = json.loads((directory / "lrengine_onnx.json").read_text())
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = LEVELS[level]
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.sessions = {
            name: onnxruntime.InferenceSession(directory / graph["file"], options, ["CPUExecutionProvider"])
            for name, graph in self.manifest["graphs"].items()
        }

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        session = self.sessions[graph]
        wanted = {port.name: inputs[port.name] for port in session.get_inputs()}
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, wanted), strict=True))


class SlotCache:
    """The self-attention cache as docs/ONNX.md describes it: slots, and rows that name them."""

    def __init__(self, manifest: dict[str, Any], slots: int, rows: int) -> None:
        cache = manifest["cache"]
        shape = (cache["slots"] or slots, cache["kv_heads"], cache["head_dim"])
        dtype = np.dtype(cache["type"])
        self.buffers = {
            f"past_{kind}_{layer}": np.zeros(shape, dtype)
            for layer in range(cache["layers"])
            for kind in ("key", "value")
        }
        self.capacity, self.used = cache["capacity"], 0
        self.rows: list[list[int]] = [[] for _ in range(rows)]

    def inputs(self) -> Arrays:
        width = self.capacity or max(map(len, self.rows))
        padded = [row + [0] * (width - len(row)) for row in self.rows]
        position = np.array([len(row) for row in self.rows], np.int64)
        return {
            "cache_rows": np.array(padded, np.int64).reshape(len(padded), width),
            "position": position,
            **self.buffers,
        }

    def append(self, outputs: Arrays, tokens: int = 1, lengths: list[int] | None = None) -> None:
        """Stores the new keys and values of `tokens` tokens a row, of which the first lengths[row] are real."""
        count = len(self.rows) * tokens
        for name, buffer in self.buffers.items():
            new = outputs[name.replace("past", "new")]
            buffer[self.used : self.used + count] = new.reshape(count, *buffer.shape[1:])
        for number, row in enumerate(self.rows):
            first = self.used + number * tokens
            row.extend(range(first, first + (tokens if lengths is None else lengths[number])))
        self.used += count

    def reorder(self, parents: list[int]) -> None:
        self.rows = [list(self.rows[parent]) for parent in parents]


def weight_regions(directory: Path) -> dict[tuple[int, int], str]:
    """(offset, length) -> a hash of the bytes, of everything that any graph reads in weights.bin."""
    data = (directory / "weights.bin").read_bytes()
    regions = {}
    for path in directory.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                assert place["location"] == "weights.bin"
                offset, length = int(place["offset"]), int(place["length"])
                regions[offset, length] = hashlib.sha256(data[offset : offset + length]).hexdigest()
    return regions
