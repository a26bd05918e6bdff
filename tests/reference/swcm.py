"""SWCM for one source and one target, straight from MODELS.md section A; tensor names: MODEL_DIRECTORY.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from reference.basics import Array, Weights, gelu, layer_norm, linear, multi_head, part_of


@dataclass(frozen=True)
class SwcmSizes:
    heads: int
    encoder_layers: int
    kinds: list[str]  # custom, normal in the order applied
    norm_style: str
    tied: bool
    encoder_eps: float
    decoder_eps: float
    position_offset: int  # of the first token: 2 for XLM-R, 0 for BERT


def logits(weights: Weights, sizes: SwcmSizes, source: list[int], target: list[int]) -> Array:
    """[T, V]: logits after each target token."""
    encoded = encode(weights, sizes, source)
    hidden = embed(part_of(weights, "encoder.embeddings"), sizes, target)
    done = 0
    for index, kind in enumerate(sizes.kinds):
        layer = part_of(weights, f"decoder.layers.{index}")
        if kind == "custom":
            if sizes.tied:
                layer = {**layer, **shared_blocks(part_of(weights, f"encoder.encoder.layer.{done}"))}
            hidden = custom_layer(layer, sizes, hidden, encoded)
            done += 1
        else:
            hidden = normal_layer(layer, sizes, hidden, encoded)
    words = weights.get("lm_head.weight", weights["encoder.embeddings.word_embeddings.weight"])
    return hidden @ words.T + weights.get("lm_head.bias", 0.0)


def embed(weights: Weights, sizes: SwcmSizes, ids: list[int]) -> Array:
    """LayerNorm(word + position + type 0): the encoder's, for source and target."""
    positions = np.arange(len(ids)) + sizes.position_offset
    summed = (
        weights["word_embeddings.weight"][ids]
        + weights["position_embeddings.weight"][positions]
        + weights["token_type_embeddings.weight"][0]
    )
    return layer_norm(summed, weights, "LayerNorm", sizes.encoder_eps)


def encode(weights: Weights, sizes: SwcmSizes, ids: list[int]) -> Array:
    """The post-norm encoder: h = LN(h + SelfAttn(h)); h = LN(h + FFN(h))."""
    h = embed(part_of(weights, "encoder.embeddings"), sizes, ids)
    for index in range(sizes.encoder_layers):
        layer = part_of(weights, f"encoder.encoder.layer.{index}")
        blocks = shared_blocks(layer)
        h = h + attention(part_of(blocks, "self_attention"), sizes, h, h)
        h = layer_norm(h, layer, "attention.output.LayerNorm", sizes.encoder_eps)
        h = layer_norm(h + feed_forward(part_of(blocks, "ffn1"), h), layer, "output.LayerNorm", sizes.encoder_eps)
    return h


def shared_blocks(encoder_layer: Weights) -> Weights:
    """The table "Where the custom layer's weights come from"."""
    sources = {
        "q_proj": "attention.self.query",
        "k_proj": "attention.self.key",
        "v_proj": "attention.self.value",
        "out_proj": "attention.output.dense",
        "fc_in": "intermediate.dense",
        "fc_out": "output.dense",
    }
    blocks = {}
    for block in ("self_attention", "cross_attention", "ffn1", "ffn2"):
        for part, source in sources.items():
            if part.startswith("fc") == block.startswith("ffn"):
                for kind in ("weight", "bias"):
                    blocks[f"{block}.{part}.{kind}"] = encoder_layer[f"{source}.{kind}"]
    return blocks


def custom_layer(weights: Weights, sizes: SwcmSizes, x: Array, encoded: Array) -> Array:
    def norm(number: int, value: Array) -> Array:
        return layer_norm(value, weights, f"norm{number}", sizes.decoder_eps)

    def self_attention(value: Array) -> Array:
        return attention(part_of(weights, "self_attention"), sizes, value, value, causal=True)

    def cross_attention(value: Array) -> Array:
        return attention(part_of(weights, "cross_attention"), sizes, value, encoded)

    ffn1, ffn2 = part_of(weights, "ffn1"), part_of(weights, "ffn2")
    if sizes.norm_style == "published":
        h = self_attention(norm(1, x))
        h = h + feed_forward(ffn1, norm(2, h))
        h = h + cross_attention(norm(3, h))
        return h + feed_forward(ffn2, norm(4, h))
    h = norm(1, x + self_attention(x))
    h = norm(2, h + feed_forward(ffn1, h))
    h = norm(3, h + cross_attention(h))
    return norm(4, h + feed_forward(ffn2, h))


def normal_layer(weights: Weights, sizes: SwcmSizes, x: Array, encoded: Array) -> Array:
    def norm(number: int, value: Array) -> Array:
        return layer_norm(value, weights, f"norm{number}", sizes.decoder_eps)

    def self_attention(value: Array) -> Array:
        return attention(part_of(weights, "self_attention"), sizes, value, value, causal=True)

    def cross_attention(value: Array) -> Array:
        return attention(part_of(weights, "cross_attention"), sizes, value, encoded)

    ffn = part_of(weights, "ffn")
    if sizes.norm_style == "published":
        h = norm(1, x)
        h = h + self_attention(h)
        h = norm(1, h)
        h = h + cross_attention(h)
        h = norm(2, h)
        return h + feed_forward(ffn, h)
    h = norm(1, x + self_attention(x))
    h = norm(2, h + cross_attention(h))
    return norm(3, h + feed_forward(ffn, h))


def attention(weights: Weights, sizes: SwcmSizes, x: Array, source: Array, causal: bool = False) -> Array:
    query = linear(x, weights, "q_proj")
    key, value = linear(source, weights, "k_proj"), linear(source, weights, "v_proj")
    return linear(multi_head(query, key, value, sizes.heads, causal), weights, "out_proj")


def feed_forward(weights: Weights, x: Array) -> Array:
    return linear(gelu(linear(x, weights, "fc_in")), weights, "fc_out")
