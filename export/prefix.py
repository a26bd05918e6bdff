"""What the LLM reads of a source (MODELS.md, B): [BOS] [mapped tokens] [end boundary], as one graph."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from lrengine.export.blocks import WIDE, activate, additive_mask, layer_norm, linear, scaled, softmax, split_heads
from lrengine.export.classifier import FusedEncoder
from lrengine.export.graph import Graph
from lrengine.export.llm import EMBEDDING


def prefix_tokens(config: dict[str, Any], source: int | None) -> int | None:
    """Columns of prefix.onnx's output for so many source tokens; None: it varies."""
    mapper = config["mapper"]
    mapped = mapper["num_latents"] if mapper["type"] == "latent" else source
    return None if mapped is None else mapped + 1 + (config["bos_token_id"] is not None)


def build_prefix(g: Graph, config: dict[str, Any]) -> None:
    """prefix [batch, prefix, E], zeros after each row's `lengths` [batch] vectors."""
    encoder = FusedEncoder(config)
    _, mixed = encoder.states(g)
    llm_width = config["llm"]["hidden_size"]
    mask = "attention_mask"
    if config["mapper"]["type"] == "latent":
        mapped = _latent(g, config["mapper"], mixed.fused, mask)
        kept = g.op("Expand", g.integer(config["mapper"]["num_latents"]), g.dim("batch"))
    else:
        mapped = g.op("Mul", g.wide(_token_mapper(g, config["mapper"], mixed.fused)), mixed.kept)
        tokens = g.op("ReduceSum", mixed.kept, g.ints(1, 2), keepdims=0)
        kept = g.op("Cast", tokens, to=TensorProto.INT64)
    first = int(config["bos_token_id"] is not None)
    row = g.op("Pad", mapped, g.ints(0, first, 0, 0, 1, 0))
    columns = g.op("Squeeze", g.op("Shape", row, start=1, end=2), g.ints(0))
    index = g.op("Range", g.integer(0), columns, g.integer(1))
    if first:
        at_start = g.op("Unsqueeze", g.op("Equal", index, g.integer(0)), g.ints(0, 2))
        row = g.op("Where", at_start, _vector(g, "bos", lambda: g.weights.read(EMBEDDING)[config["bos_token_id"]]), row)
    end = g.op("Unsqueeze", g.op("Add", kept, g.integer(first)), g.ints(1))
    at_end = g.op("Unsqueeze", g.op("Equal", g.op("Unsqueeze", index, g.ints(0)), end), g.ints(2))
    row = g.op("Where", at_end, _vector(g, "end_boundary", lambda: g.weights.read("end_boundary")), row)
    columns_known = prefix_tokens(config, g.fixed.get("source"))
    g.output("prefix", row, TensorProto.FLOAT, "batch", columns_known or "prefix", llm_width)
    g.output("lengths", g.op("Add", kept, g.integer(first + 1)), TensorProto.INT64, "batch")


def _vector(g: Graph, name: str, make: Any) -> str:
    """Wide [1, 1, E]"""
    return g.op("Unsqueeze", g.weight(g.weights.placed(f"prefix.{name}", make, WIDE)), g.ints(0, 1))


def _token_mapper(g: Graph, settings: dict[str, Any], states: str) -> str:
    mapped = linear(g, states, "mapper.layers.0")
    if settings["type"] == "linear":
        return mapped
    return linear(g, activate(g, mapped, settings["activation"]), "mapper.layers.1")


def _latent(g: Graph, settings: dict[str, Any], states: str, attention_mask: str) -> str:
    """LangBridge's resampler: wide [batch, latents, E]."""
    count = settings["num_latents"]
    width = g.weights.read("mapper.latents").shape[1]
    latents = g.weight(g.weights.placed("mapper.latents", lambda: g.weights.read("mapper.latents"), WIDE))
    shape = g.op("Concat", g.dim("batch"), g.ints(count, width), axis=0)
    x = g.op("Expand", latents, shape)
    mask = additive_mask(g, attention_mask, 1, 2)
    mask = g.op("Pad", mask, g.ints(0, 0, 0, 0, 0, 0, 0, count))  # latents see latents
    for index in range(settings["depth"]):
        layer = f"mapper.layers.{index}."
        x = g.op("Add", x, _latent_attention(g, settings, f"{layer}attention.", x, states, mask))
        inner = activate(g, linear(g, x, f"{layer}fc_in"), "gelu")
        x = g.op("Add", x, g.wide(linear(g, inner, f"{layer}fc_out")))
    return layer_norm(g, g.wide(linear(g, x, "mapper.out_proj", False)), "mapper.norm", 1e-5)


def _latent_attention(g: Graph, settings: dict[str, Any], name: str, latents: str, states: str, mask: str) -> str:
    heads, head_dim = settings["heads"], settings["head_dim"]
    latents = layer_norm(g, latents, f"{name}norm_latents", 1e-5)
    seen = g.op("Concat", layer_norm(g, states, f"{name}norm_media", 1e-5), latents, axis=1)
    query = split_heads(g, scaled(g, linear(g, latents, f"{name}to_q", False), head_dim), heads, head_dim, 0, 2, 1, 3)
    key = split_heads(g, linear(g, seen, f"{name}to_k", False), heads, head_dim, 0, 2, 3, 1)
    value = split_heads(g, linear(g, seen, f"{name}to_v", False), heads, head_dim, 0, 2, 1, 3)
    mixed = g.op("MatMul", softmax(g, g.op("MatMul", query, key), mask), value)
    mixed = g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, heads * head_dim)
    return g.wide(linear(g, mixed, f"{name}to_out", False))
