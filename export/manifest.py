"""lrengine_onnx.json: all that a program needs to know to run an export (docs/ONNX.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lrengine
from lrengine.export.graph import TYPE_NAMES, Graph, Port
from lrengine.export.options import ExportOptions
from lrengine.stop_ids import as_list

MANIFEST = "lrengine_onnx.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Facts:
    """What the kind of model decides. cache: as in the manifest, without its sizes."""

    vocab_size: int
    max_source: int | None
    max_target: int | None
    cache: dict[str, Any] | None
    source_pad: int


def manifest(
    config: dict[str, Any], facts: Facts, graphs: dict[str, Graph], options: ExportOptions, tokenizers: dict[str, Any]
) -> dict[str, Any]:
    encoder = config["encoder"]
    labels = config.get("id2label") if config["model_type"] == "layer_fusion_classifier" else None
    profile = options.static
    return {
        "format_version": FORMAT_VERSION,
        "lrengine_version": lrengine.__version__,
        "model_type": config["model_type"],
        "dtype": options.dtype,
        "opset": options.opset,
        "optimize": options.optimize,
        "profile": None if profile is None else vars(profile).copy(),
        "vocab_size": facts.vocab_size,
        "source_vocab_size": encoder["vocab_size"],
        "max_source": profile.source if profile else facts.max_source,
        "max_target": facts.max_target,
        "special_ids": {
            "bos": config.get("bos_token_id"),
            "eos": as_list(config.get("eos_token_id")),
            "pad": config.get("pad_token_id"),
            "decoder_start": config.get("decoder_start_token_id"),
            "source_pad": facts.source_pad,
        },
        "labels": None if labels is None else [labels[str(index)] for index in range(len(labels))],
        "prompt_template": config.get("prompt_template"),
        "tokenizer": tokenizers,
        "cache": facts.cache,
        "graphs": {name: _graph(graph) for name, graph in graphs.items()},
        "profiles": {} if profile else {name: _profiles(graph, facts, graphs) for name, graph in graphs.items()},
    }


def _graph(graph: Graph) -> dict[str, Any]:
    return {
        "file": f"{graph.name}.onnx",
        "inputs": [_port(port) for port in graph.inputs],
        "outputs": [_port(port) for port in graph.outputs],
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "type": TYPE_NAMES[port.elem_type], "shape": list(port.shape)}


def _profiles(graph: Graph, facts: Facts, graphs: dict[str, Graph]) -> dict[str, Any]:
    """TensorRT's min, opt and max shapes of each input. The maxima are for 4 sources of 512 tokens and 4 beams each; an
    engine that is built for less is smaller, so edit them."""
    source = min(facts.max_source or 512, 512)
    target = min(facts.max_target or 512, 512)
    rows = {"min": 1, "opt": 4, "max": 16}
    sizes = {
        "batch": {"min": 1, "opt": 1, "max": 4},
        "rows": rows,
        "source": {"min": 1, "opt": min(64, source), "max": source},
        "length": {"min": 1, "opt": min(64, source) if graph.name.startswith("llm") else 1, "max": target},
        "past": {"min": 1, "opt": min(64, target), "max": target},
        "slots": {"min": 1, "opt": 4 * min(64, target), "max": rows["max"] * target},
        "wanted": {"min": 1, "opt": 4, "max": rows["max"]},
    }
    return {
        port.name: {
            bound: [sizes[dim][bound] if isinstance(dim, str) else dim for dim in port.shape]
            for bound in ("min", "opt", "max")
        }
        for port in graph.inputs
    }
