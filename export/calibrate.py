"""How large what flows into the products of a float32 export becomes, column by column, measured in ONNX Runtime.

Decoders run on what they generate themselves, greedily, from the sources; or, where there are no sources to give, on
ids by chance, which show the columns that are large whatever is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from lrengine.export.manifest import MANIFEST
from lrengine.export.smoothing import Product

Arrays = dict[str, np.ndarray]
TOKENS = 24  # generated for each source: enough for a cache
ROWS_BY_CHANCE, TOKENS_BY_CHANCE = 4, 48


def measure_columns(
    directory: Path, sources: Sequence[Sequence[int]] | None, products: Mapping[str, list[Product]]
) -> dict[str, list[np.ndarray]]:
    """Graph -> the largest magnitude of each column of each product's input, in order. `directory`: a dynamic float32
    export with these products; files are added to it. sources: rows of ids, or None for ids by chance."""
    run = _Run(directory, products)
    if sources is None:
        run.add_by_chance()
    for source in sources or ():
        run.add(source)
    return {name: [run.largest[name][each.x] for each in written] for name, written in products.items()}


def _watched(graph: Path, products: Sequence[Product]) -> Path:
    """The graph with one more output `NAME largest` for every tensor NAME that products read."""
    model = onnx.load(graph, load_external_data=False)
    for x, columns in {each.x: each.columns for each in products}.items():
        shape, axes = f"{x} rows", f"{x} axes"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, columns]), shape))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), axes))
        model.graph.node.extend(
            [
                helper.make_node("Reshape", [x, shape], [f"{x} flat"]),
                helper.make_node("Abs", [f"{x} flat"], [f"{x} size"]),
                helper.make_node("ReduceMax", [f"{x} size", axes], [f"{x} largest"], keepdims=0),
            ]
        )
        model.graph.output.append(helper.make_tensor_value_info(f"{x} largest", TensorProto.FLOAT, [columns]))
    path = graph.with_suffix(".watched.onnx")
    onnx.save(model, path)
    return path


@dataclass
class _Run:
    """An export run on sources, one at a time. largest: graph -> tensor -> what was found so far."""

    directory: Path
    products: Mapping[str, list[Product]]
    largest: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._manifest: dict[str, Any] = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
        self._sessions = {
            name: onnxruntime.InferenceSession(
                _watched(self.directory / graph["file"], self.products[name]), providers=["CPUExecutionProvider"]
            )
            for name, graph in self._manifest["graphs"].items()
        }

    def add_by_chance(self) -> None:
        random = np.random.default_rng(0)
        length = min(TOKENS_BY_CHANCE, self._manifest["max_source"] or TOKENS_BY_CHANCE)
        for _ in range(ROWS_BY_CHANCE):
            target = None
            if self._manifest["cache"] is not None:
                tokens = min(TOKENS_BY_CHANCE, self._manifest["max_target"] - length - 4)
                target = random.integers(0, self._manifest["vocab_size"], max(tokens, 1))
            self.add(random.integers(0, self._manifest["source_vocab_size"], length).tolist(), target)

    def add(self, source: Sequence[int], target: np.ndarray | None = None) -> None:
        """target: what a decoder reads, in place of what it generates."""
        ids = np.array([source], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for name in ("classifier", "encode"):
            if name in self._sessions:
                self._call(name, inputs)
        if "encoder" in self._sessions:
            self._add_swcm(inputs, target)
        elif "prefix" in self._sessions:
            self._add_llm(self._call("prefix", inputs)["prefix"], target)

    def _call(self, name: str, inputs: Arrays) -> Arrays:
        session = self._sessions[name]
        feed = {port.name: np.array(inputs[port.name]) for port in session.get_inputs()}
        outputs = dict(zip([port.name for port in session.get_outputs()], session.run(None, feed), strict=True))
        found = self.largest.setdefault(name, {})
        for x in {each.x for each in self.products[name]}:
            seen = outputs.pop(f"{x} largest")
            found[x] = np.maximum(found[x], seen) if x in found else seen
        return outputs

    def _add_swcm(self, inputs: Arrays, target: np.ndarray | None) -> None:
        source = {**inputs, **self._call("encoder", inputs)}
        cache, tokens = _Cache(self._manifest["cache"]), [self._manifest["special_ids"]["decoder_start"]]
        for step in range(min(TOKENS, self._manifest["max_target"])):
            outputs = self._call(
                "decoder_with_past", {**source, **cache.inputs(), "input_ids": np.array([tokens[-1:]])}
            )
            cache.append(outputs)
            tokens.append(int(outputs["logits"].argmax()) if target is None else int(target[step % len(target)]))
            if target is None and tokens[-1] in self._manifest["special_ids"]["eos"]:
                break
        ids = np.array([tokens[:-1]])
        self._call("decoder", {**source, "input_ids": ids, "logit_rows": np.arange(ids.size)})

    def _add_llm(self, prefix: np.ndarray, target: np.ndarray | None) -> None:
        cache = _Cache(self._manifest["cache"])
        step = {"input_ids": np.full((1, prefix.shape[1]), -1), "embeds": prefix}
        for _ in range(TOKENS if target is None else 1):
            last = np.array([step["input_ids"].size - 1])
            outputs = self._call("llm_with_past", {**step, **cache.inputs(), "logit_rows": last})
            cache.append(outputs)
            token = int(outputs["logits"].argmax())
            if token in self._manifest["special_ids"]["eos"]:
                break
            step = {"input_ids": np.array([[token]]), "embeds": np.zeros_like(prefix[:, :1])}
        if target is not None:
            embeds = np.zeros((1, len(target), prefix.shape[2]), np.float32)
            step = {"input_ids": target[None], "embeds": embeds, "logit_rows": np.arange(len(target))}
            self._call("llm_with_past", {**step, **_Cache(self._manifest["cache"]).inputs()})


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
