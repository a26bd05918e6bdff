"""Ranges of what flows into the products of a float32 export, measured on sources by ONNX Runtime's calibrator.

Decoders are calibrated on what they generate themselves, greedily, from the sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

from lrengine.export.manifest import MANIFEST

Arrays = dict[str, np.ndarray]
TOKENS = 24  # generated for each source: enough for a cache, little to keep


def measure_ranges(
    directory: Path, sources: Sequence[Sequence[int]], products: Mapping[str, list[str]]
) -> dict[str, list[float]]:
    """Graph -> the largest magnitude of each product's input. `directory`: a dynamic float32 export; `products`: what
    each product of each graph reads (FloatProducts.inputs). Files are added to `directory`."""
    run = _Run(directory)
    for source in sources:
        run.add(source)
    ranges = {}
    for name, feeds in run.feeds.items():
        largest = _largest(directory / f"{name}.onnx", feeds)
        ranges[name] = [largest[x] for x in products[name]]
    return ranges


def _largest(graph: Path, feeds: list[Arrays]) -> dict[str, float]:
    augmented = str(graph.with_suffix(".calibrated.onnx"))
    options: dict[str, Any] = {"calibrate_method": CalibrationMethod.MinMax, "use_external_data_format": True}
    calibrator = create_calibrator(str(graph), ["MatMul", "Gemm"], augmented, **options)
    calibrator.collect_data(_Reader(feeds))
    found = calibrator.compute_data().data
    return {
        name: max(abs(float(value)) for bound in data.range_value for value in np.ravel(bound))
        for name, data in found.items()
    }


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: list[Arrays]) -> None:
        self._feeds: Iterator[Arrays] = iter(feeds)

    def get_next(self) -> Arrays | None:
        return next(self._feeds, None)


@dataclass
class _Run:
    """An export run on sources, one at a time; feeds: what each graph was given."""

    directory: Path
    feeds: dict[str, list[Arrays]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._manifest: dict[str, Any] = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
        self._sessions = {
            name: onnxruntime.InferenceSession(self.directory / graph["file"], providers=["CPUExecutionProvider"])
            for name, graph in self._manifest["graphs"].items()
        }

    def add(self, source: Sequence[int]) -> None:
        ids = np.array([source], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for name in ("classifier", "encode"):
            if name in self._sessions:
                self._call(name, inputs)
        if "encoder" in self._sessions:
            self._add_swcm(inputs)
        elif "prefix" in self._sessions:
            self._add_llm(self._call("prefix", inputs)["prefix"])

    def _call(self, name: str, inputs: Arrays) -> Arrays:
        session = self._sessions[name]
        feed = {port.name: np.array(inputs[port.name]) for port in session.get_inputs()}
        self.feeds.setdefault(name, []).append(feed)
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, feed), strict=True))

    def _add_swcm(self, inputs: Arrays) -> None:
        source = {**inputs, **self._call("encoder", inputs)}
        cache, tokens = _Cache(self._manifest["cache"]), [self._manifest["special_ids"]["decoder_start"]]
        for _ in range(min(TOKENS, self._manifest["max_target"])):
            step = {**source, **cache.inputs(), "input_ids": np.array([tokens[-1:]])}
            outputs = self._call("decoder_with_past", step)
            cache.append(outputs)
            tokens.append(int(outputs["logits"].argmax()))
            if tokens[-1] in self._manifest["special_ids"]["eos"]:
                break
        ids = np.array([tokens[:-1]])
        self._call("decoder", {**source, "input_ids": ids, "logit_rows": np.arange(ids.size)})

    def _add_llm(self, prefix: np.ndarray) -> None:
        cache = _Cache(self._manifest["cache"])
        step = {"input_ids": np.full((1, prefix.shape[1]), -1), "embeds": prefix}
        for _ in range(TOKENS):
            last = np.array([step["input_ids"].size - 1])
            outputs = self._call("llm_with_past", {**step, **cache.inputs(), "logit_rows": last})
            cache.append(outputs)
            token = int(outputs["logits"].argmax())
            if token in self._manifest["special_ids"]["eos"]:
                break
            step = {"input_ids": np.array([[token]]), "embeds": np.zeros_like(prefix[:, :1])}


class _Cache:
    """One row's slots, in order."""

    def __init__(self, cache: dict[str, Any]) -> None:
        shape = (0, cache["kv_heads"], cache["head_dim"])
        names = [f"{part}_{layer}" for part in ("key", "value") for layer in range(cache["layers"])]
        self._parts = {name: np.zeros(shape, np.float32) for name in names}

    def inputs(self) -> Arrays:
        """At least one slot, since the calibrator's reductions cannot take less; position masks it."""
        used = len(next(iter(self._parts.values())))
        parts = {
            f"past_{name}": part if used else np.zeros((1, *part.shape[1:]), np.float32)
            for name, part in self._parts.items()
        }
        return {**parts, "cache_rows": np.arange(max(used, 1))[None], "position": np.array([used])}

    def append(self, outputs: Arrays) -> None:
        for name, part in self._parts.items():
            self._parts[name] = np.concatenate([part, outputs[f"new_{name}"].reshape(-1, *part.shape[1:])])
