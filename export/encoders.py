"""The multilingual encoders as ONNX nodes: BERT and its kin, the encoders of T5's kin, M2M-100.

Sources are right-padded: a token's position is its column, so no position needs to be counted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrengine.errors import UnsupportedModelError
from lrengine.export.blocks import (
    WIDE,
    activate,
    additive_mask,
    embed,
    feed_forward,
    join_heads,
    layer_norm,
    linear,
    rms_norm,
    scaled,
    softmax,
    split_heads,
)
from lrengine.export.graph import Graph
from lrengine.export.weights import Placed

BERT_KINDS = ("xlm-roberta", "roberta", "bert")
T5_KINDS = ("t5", "mt5", "umt5")


@dataclass(frozen=True)
class Source:
    """What every layer sees: mask, float32 [batch, 1, 1, source], 0 at tokens."""

    mask: str


def encoder_layer_states(g: Graph, config: dict[str, Any], input_ids: str, attention_mask: str) -> list[str]:
    """The L layers' states, each wide [batch, source, D], as lrengine.models.encoders.all_layer_states gives them."""
    mask = additive_mask(g, attention_mask, 1, 2)
    kind = config["model_type"]
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise UnsupportedModelError("encoder: expected absolute positions, and an encoder that sees both ways")
    if kind in BERT_KINDS:
        return _bert(g, config, input_ids, mask)
    if kind in T5_KINDS:
        return _t5(g, config, input_ids, mask)
    if kind == "m2m_100":
        return _m2m100(g, config, input_ids, mask)
    raise UnsupportedModelError(f"encoder model_type '{kind}' cannot be exported")


def width_of(config: dict[str, Any]) -> int:
    return int(config["d_model"] if "d_model" in config else config["hidden_size"])


def layers_of(config: dict[str, Any]) -> int:
    names = {"m2m_100": "encoder_layers", **dict.fromkeys(T5_KINDS, "num_layers")}
    return int(config[names.get(config["model_type"], "num_hidden_layers")])


def max_source(config: dict[str, Any]) -> int | None:
    """The longest source that the position table holds; None: any."""
    if config["model_type"] in T5_KINDS:
        return None
    offset = position_offset(config) if config["model_type"] in BERT_KINDS else 0
    return int(config["max_position_embeddings"]) - offset


def position_offset(config: dict[str, Any]) -> int:
    """Row of the position table of the first token: pad + 1 in (XLM-)RoBERTa, 0 in BERT."""
    return 0 if config["model_type"] == "bert" else int(config["pad_token_id"]) + 1


def bert_position_table(g: Graph, config: dict[str, Any]) -> Placed:
    """float32 [positions, D], the first token's row first, with token type 0 added: what is added to the word
    embedding of encoder and decoder."""

    def make() -> np.ndarray:
        table = g.weights.read("encoder.embeddings.position_embeddings.weight")
        types = g.weights.read("encoder.embeddings.token_type_embeddings.weight")
        return table[position_offset(config) :] + types[0]

    return g.weights.placed("encoder.embeddings.positions_and_type", make, WIDE)


def _self_attention(g: Graph, x: str, names: list[str], heads: int, head_dim: int, *, bias: bool, scale: bool,
                    masks: tuple[str, ...]) -> str:  # fmt: skip
    """Wide; names: of the four projections."""
    query, key, value = (linear(g, x, name, bias) for name in names[:3])
    query = split_heads(g, scaled(g, query, head_dim) if scale else query, heads, head_dim, 0, 2, 1, 3)
    key, value = split_heads(g, key, heads, head_dim, 0, 2, 3, 1), split_heads(g, value, heads, head_dim, 0, 2, 1, 3)
    weights = softmax(g, g.op("MatMul", query, key), *masks)
    mixed = join_heads(g, g.op("MatMul", weights, value), heads * head_dim)
    return g.wide(linear(g, mixed, names[3], bias))


def _bert(g: Graph, config: dict[str, Any], input_ids: str, mask: str) -> list[str]:
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    positions = g.op("Slice", g.weight(bert_position_table(g, config)), g.ints(0), g.dim("source"), g.ints(0))
    x = g.op("Add", embed(g, input_ids, "encoder.embeddings.word_embeddings.weight"), positions)
    x = layer_norm(g, x, "encoder.embeddings.LayerNorm", epsilon)
    states = []
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.encoder.layer.{index}."
        names = [f"{layer}attention.self.{part}" for part in ("query", "key", "value")]
        names.append(f"{layer}attention.output.dense")
        attended = _self_attention(g, x, names, heads, width // heads, bias=True, scale=True, masks=(mask,))
        x = layer_norm(g, g.op("Add", x, attended), f"{layer}attention.output.LayerNorm", epsilon)
        inner = feed_forward(g, x, f"{layer}intermediate.dense", f"{layer}output.dense", config["hidden_act"])
        x = layer_norm(g, g.op("Add", x, inner), f"{layer}output.LayerNorm", epsilon)
        states.append(x)
    return states


def _m2m100(g: Graph, config: dict[str, Any], input_ids: str, mask: str) -> list[str]:
    width, heads = config["d_model"], config["encoder_attention_heads"]

    def table() -> np.ndarray:
        rows = config["pad_token_id"] + 1 + config["max_position_embeddings"]
        return sinusoidal_positions(rows, width)[config["pad_token_id"] + 1 :]

    scale = math.sqrt(width) if config["scale_embedding"] else 1.0
    sinusoids = g.weight(g.weights.placed("encoder.embed_positions", table, WIDE))
    positions = g.op("Slice", sinusoids, g.ints(0), g.dim("source"), g.ints(0))
    x = g.op("Add", embed(g, input_ids, "encoder.embed_tokens.weight", scale), positions)
    states = []
    for index in range(config["encoder_layers"]):
        layer = f"encoder.layers.{index}."
        names = [f"{layer}self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")]
        normed = layer_norm(g, x, f"{layer}self_attn_layer_norm", 1e-5)
        attended = _self_attention(g, normed, names, heads, width // heads, bias=True, scale=True, masks=(mask,))
        x = g.op("Add", x, attended)
        normed = layer_norm(g, x, f"{layer}final_layer_norm", 1e-5)
        inner = feed_forward(g, normed, f"{layer}fc1", f"{layer}fc2", config["activation_function"])
        x = g.op("Add", x, inner)
        states.append(x)
    states[-1] = layer_norm(g, x, "encoder.layer_norm", 1e-5)
    return states


def sinusoidal_positions(rows: int, width: int) -> np.ndarray:
    """float32 [rows, width]: sines, then cosines (M2M100SinusoidalPositionalEmbedding)."""
    half = width // 2
    step = np.float32(-math.log(10000.0) / (half - 1))
    angles = np.arange(rows, dtype=np.float32)[:, None] * np.exp(np.arange(half, dtype=np.float32) * step)[None]
    table = np.zeros((rows, width), np.float32)
    table[:, :half], table[:, half : 2 * half] = np.sin(angles), np.cos(angles)
    return table


def _t5(g: Graph, config: dict[str, Any], input_ids: str, mask: str) -> list[str]:
    heads, head_dim, epsilon = config["num_heads"], config["d_kv"], config["layer_norm_epsilon"]
    shared = "encoder.shared.weight"
    x = embed(g, input_ids, shared if shared in g.weights else "encoder.encoder.embed_tokens.weight")
    distances = _distances(g, config["relative_attention_max_distance"])
    bias = ""
    states = []
    for index in range(config["num_layers"]):
        layer = f"encoder.encoder.block.{index}.layer."
        if index == 0 or config["model_type"] == "umt5":
            bias = _relative_bias(g, config, f"{layer}0.SelfAttention.relative_attention_bias.weight", distances)
            bias = g.op("Add", bias, mask)
        names = [f"{layer}0.SelfAttention.{part}" for part in "qkvo"]
        normed = rms_norm(g, x, f"{layer}0.layer_norm", epsilon)
        attended = _self_attention(g, normed, names, heads, head_dim, bias=False, scale=False, masks=(bias,))
        x = g.op("Add", x, attended)
        normed = rms_norm(g, x, f"{layer}1.layer_norm", epsilon)
        x = g.op("Add", x, _t5_feed_forward(g, normed, f"{layer}1.DenseReluDense.", config["feed_forward_proj"]))
        states.append(x)
    states[-1] = rms_norm(g, x, "encoder.encoder.final_layer_norm", epsilon)
    return states


def _t5_feed_forward(g: Graph, x: str, name: str, projection: str) -> str:
    """Wide all through after the first product: mT5's inner states and its output leave float16's range."""
    kind = projection.removeprefix("gated-")
    if projection == "gated-gelu":
        kind = "gelu_new"  # what T5Config makes of it
    if projection.startswith("gated-"):
        gate = activate(g, g.wide(linear(g, x, f"{name}wi_0", False)), kind, wide=True)
        inner = g.op("Mul", gate, g.wide(linear(g, x, f"{name}wi_1", False)))
    else:
        inner = activate(g, g.wide(linear(g, x, f"{name}wi", False)), kind, wide=True)
    return g.products.matmul(g, inner, f"{name}wo.weight", wide=True)


def _distances(g: Graph, limit: int) -> str:
    """int64 [source, source]: key's column minus query's row, clipped to +-limit, from 0."""
    index = g.range("source")
    distance = g.op("Sub", g.op("Unsqueeze", index, g.ints(0)), g.op("Unsqueeze", index, g.ints(1)))
    # Not Clip, which TensorRT has for floats alone.
    return g.op("Add", g.op("Min", g.op("Max", distance, g.integer(-limit)), g.integer(limit)), g.integer(limit))


def _relative_bias(g: Graph, config: dict[str, Any], name: str, distances: str) -> str:
    """float32 [1, heads, source, source]. The buckets are resolved into a table over distances, since all of them
    beyond the maximum share a bucket."""
    limit = config["relative_attention_max_distance"]

    def make() -> np.ndarray:
        buckets = relative_buckets(np.arange(-limit, limit + 1), config["relative_attention_num_buckets"], limit)
        return g.weights.read(name)[buckets].T

    table = g.weight(g.weights.placed(f"{name}.by_distance", make, WIDE))
    return g.op("Unsqueeze", g.op("Gather", table, distances, axis=1), g.ints(0))


def relative_buckets(distance: np.ndarray, buckets: int, max_distance: int) -> np.ndarray:
    """T5's bidirectional buckets (T5Attention._relative_position_bucket), in float32 as there."""
    half = buckets // 2
    exact = half // 2
    away = np.abs(distance)
    ratio = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(max_distance / exact)
    )
    far = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    return np.where(distance > 0, half, 0) + np.where(away < exact, away, far)
