"""SWCM as three graphs (MODELS.md, A): encoder, decoder (a first step of any length), decoder_with_past (one token).

The encoder computes the source's keys and values for every decoder layer, in the layout in which a step multiplies
them: cross_key [batch, H, d, source], cross_value [batch, H, source, d]. Rows may be a multiple of the batch: the beams
of a source are further queries of one product, so its keys are neither repeated nor read once a beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import TensorProto

from lrengine.export.blocks import (
    additive_mask,
    embed,
    feed_forward,
    join_heads,
    layer_norm,
    linear,
    project_to_vocabulary,
    scaled,
    softmax,
    split_heads,
)
from lrengine.export.encoders import bert_position_table, encoder_layer_states, position_offset
from lrengine.export.graph import Graph
from lrengine.export.self_cache import SelfCache, attend_past_and_new, causal_mask
from lrengine.layer_kinds import layer_kinds

WORDS = "encoder.embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class _Layer:
    """A decoder layer: where its blocks' tensors are. norms: their own."""

    kind: str  # custom, normal
    self_attention: list[str]  # q, k, v, out
    cross_attention: list[str]
    feed_forwards: list[tuple[str, str]]
    norm: str


@dataclass(frozen=True)
class Swcm:
    """What config.json says, and how the decoder is built from it."""

    config: dict[str, Any]

    @property
    def encoder(self) -> dict[str, Any]:
        return self.config["encoder"]

    @property
    def heads(self) -> int:
        return self.encoder["num_attention_heads"]

    @property
    def width(self) -> int:
        return self.encoder["hidden_size"]

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def max_target(self) -> int:
        return self.encoder["max_position_embeddings"] - position_offset(self.encoder)

    def layers(self) -> list[_Layer]:
        config = self.config
        kinds = layer_kinds(
            self.encoder["num_hidden_layers"], config["normal_layer_interval"], config["normal_after_last"]
        )
        return [
            _normal_layer(index) if kind == "normal" else _custom_layer(index, kinds[:index].count("custom"), config)
            for index, kind in enumerate(kinds)
        ]

    # -- graphs --------------------------------------------------------------------------------------------------------

    def build_encoder(self, g: Graph) -> None:
        ids = g.input("input_ids", TensorProto.INT64, "batch", "source")
        mask = g.input("attention_mask", TensorProto.INT64, "batch", "source")
        states = encoder_layer_states(g, self.encoder, ids, mask)[-1]
        g.output("encoder_states", states, TensorProto.FLOAT, "batch", "source", self.width)
        # Zeros at padding: a source without any token mixes to zeros then, as it should.
        kept = g.narrow(g.op("Unsqueeze", g.op("Cast", mask, to=TensorProto.FLOAT), g.ints(1, 3)))
        for index, layer in enumerate(self.layers()):
            _, key, value, _ = layer.cross_attention
            keys = split_heads(g, linear(g, states, key), self.heads, self.head_dim, 0, 2, 3, 1)
            values = split_heads(g, linear(g, states, value), self.heads, self.head_dim, 0, 2, 1, 3)
            key_shape, value_shape = self._cross_shapes()
            g.output(f"cross_key_{index}", keys, g.narrow_type, *key_shape)
            g.output(f"cross_value_{index}", g.op("Mul", values, kept), g.narrow_type, *value_shape)

    def build_decoder(self, g: Graph) -> None:
        """`length` first tokens of every row; logits of those that logit_rows names, flat: row * length + token."""
        ids = g.input("input_ids", TensorProto.INT64, "rows", "length")
        cross_mask = self._cross_mask(g)
        wanted = g.input("logit_rows", TensorProto.INT64, "wanted")
        positions = g.op("Slice", self._positions(g), g.ints(0), g.dim("length"), g.ints(0))
        causal = causal_mask(g, "length")

        def attend(index: int, query: str, key: str, value: str) -> str:
            for name, part in (("key", key), ("value", value)):
                new = g.reshape(part, 0, 0, self.heads, self.head_dim)
                g.output(f"new_{name}_{index}", new, g.narrow_type, "rows", "length", self.heads, self.head_dim)
            query, value = (split_heads(g, part, self.heads, self.head_dim, 0, 2, 1, 3) for part in (query, value))
            keys = split_heads(g, key, self.heads, self.head_dim, 0, 2, 3, 1)
            return g.op("MatMul", softmax(g, g.op("MatMul", query, keys), causal), value)

        hidden = self._decode(g, ids, positions, cross_mask, attend)
        chosen = g.op("Gather", g.reshape(hidden, -1, self.width), wanted)
        g.output("logits", self._logits(g, chosen), TensorProto.FLOAT, "wanted", self.config["vocab_size"])

    def build_decoder_with_past(self, g: Graph) -> None:
        """One token of every row, after `position` earlier ones."""
        ids = g.input("input_ids", TensorProto.INT64, "rows", 1)
        position = g.input("position", TensorProto.INT64, "rows")
        cross_mask = self._cross_mask(g)
        cache = SelfCache.inputs(g, self.heads, self.head_dim, position)
        mask = g.op("Pad", cache.mask, g.ints(0, 0, 0, 0, 0, 0, 0, 1))  # a token sees itself
        positions = g.op("Unsqueeze", g.op("Gather", self._positions(g), position), g.ints(1))

        def attend(index: int, query: str, key: str, value: str) -> str:
            for name, part in (("key", key), ("value", value)):
                new = g.reshape(part, 0, self.heads, self.head_dim)
                g.output(f"new_{name}_{index}", new, g.narrow_type, "rows", self.heads, self.head_dim)
            query, key, value = (g.reshape(part, 0, self.heads, 1, self.head_dim) for part in (query, key, value))
            past = cache.past(g, index)
            return attend_past_and_new(g, query, past, (key, value), lambda scores: softmax(g, scores, mask))

        hidden = self._decode(g, ids, positions, cross_mask, attend)
        logits = self._logits(g, g.reshape(hidden, -1, self.width))
        g.output("logits", logits, TensorProto.FLOAT, "rows", self.config["vocab_size"])

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _cross_shapes(self) -> tuple[tuple[int | str, ...], tuple[int | str, ...]]:
        heads, head_dim = self.heads, self.head_dim
        return ("batch", heads, head_dim, "source"), ("batch", heads, "source", head_dim)

    def _cross_mask(self, g: Graph) -> str:
        return additive_mask(g, g.input("attention_mask", TensorProto.INT64, "batch", "source"), 1, 2)

    def _positions(self, g: Graph) -> str:
        return g.weight(bert_position_table(g, self.encoder))

    def _logits(self, g: Graph, hidden: str) -> str:
        table = WORDS if self.config["tie_word_embeddings"] else "lm_head.weight"
        return project_to_vocabulary(g, hidden, table, "lm_head.bias" if self.config["output_bias"] else None)

    def _decode(self, g: Graph, ids: str, positions: str, cross_mask: str, attend: Any) -> str:
        """Wide [rows, length, D]. attend(layer, q, k, v, each [rows, length, D]) -> [rows, H, length, d]."""
        x = layer_norm(
            g, g.op("Add", embed(g, ids, WORDS), positions), "encoder.embeddings.LayerNorm",
            self.encoder["layer_norm_eps"],
        )  # fmt: skip
        published = self.config["norm_style"] == "published"
        for index, layer in enumerate(self.layers()):
            blocks = _LayerBlocks(self, g, layer, index, cross_mask, attend)
            x = (blocks.published if published else blocks.post)(x)
        return x


@dataclass(frozen=True)
class _LayerBlocks:
    """One decoder layer as nodes: its blocks, and the two ways of putting norms and residuals around them."""

    swcm: Swcm
    g: Graph
    layer: _Layer
    index: int
    cross_mask: str
    attend: Any

    def post(self, x: str) -> str:
        if self.layer.kind == "normal":
            x = self._norm(self._add(x, self._self(x)), 1)
            x = self._norm(self._add(x, self._cross(x)), 2)
            return self._norm(self._add(x, self._feed_forward(x, 0)), 3)
        x = self._norm(self._add(x, self._self(x)), 1)
        x = self._norm(self._add(x, self._feed_forward(x, 0)), 2)
        x = self._norm(self._add(x, self._cross(x)), 3)
        return self._norm(self._add(x, self._feed_forward(x, 1)), 4)

    def published(self, x: str) -> str:
        if self.layer.kind == "normal":
            x = self._norm(x, 1)
            x = self._norm(self._add(x, self._self(x)), 1)  # the same norm again: as the checkpoint was trained
            x = self._norm(self._add(x, self._cross(x)), 2)
            return self._add(x, self._feed_forward(x, 0))
        x = self._self(self._norm(x, 1))  # no residual: as the checkpoint was trained
        x = self._add(x, self._feed_forward(self._norm(x, 2), 0))
        x = self._add(x, self._cross(self._norm(x, 3)))
        return self._add(x, self._feed_forward(self._norm(x, 4), 1))

    def _add(self, x: str, y: str) -> str:
        return self.g.op("Add", x, y)

    def _norm(self, x: str, number: int) -> str:
        return layer_norm(self.g, x, f"{self.layer.norm}{number}", self.swcm.config["decoder_layer_norm_eps"])

    def _feed_forward(self, x: str, number: int) -> str:
        fc_in, fc_out = self.layer.feed_forwards[number]
        return feed_forward(self.g, x, fc_in, fc_out, self.swcm.encoder["hidden_act"])

    def _self(self, x: str) -> str:
        g, names = self.g, self.layer.self_attention
        query, key, value = (linear(g, x, name) for name in names[:3])
        mixed = self.attend(self.index, scaled(g, query, self.swcm.head_dim), key, value)
        return g.wide(linear(g, join_heads(g, mixed, self.swcm.width), names[3]))

    def _cross(self, x: str) -> str:
        g, swcm, names = self.g, self.swcm, self.layer.cross_attention
        key_shape, value_shape = swcm._cross_shapes()
        keys = g.input(f"cross_key_{self.index}", g.narrow_type, *key_shape)
        values = g.input(f"cross_value_{self.index}", g.narrow_type, *value_shape)
        query = scaled(g, linear(g, x, names[0]), swcm.head_dim)
        query = g.op("Transpose", g.reshape(query, "batch", -1, swcm.heads, swcm.head_dim), perm=[0, 2, 1, 3])
        mixed = g.op("MatMul", softmax(g, g.op("MatMul", query, keys), self.cross_mask), values)
        mixed = g.op("Transpose", mixed, perm=[0, 2, 1, 3])
        length = "length" if "length" in g.symbols else 1
        return g.wide(linear(g, g.reshape(mixed, "rows", length, swcm.width), names[3]))


def _custom_layer(index: int, encoder_index: int, config: dict[str, Any]) -> _Layer:
    own = f"decoder.layers.{index}."
    if config["sharing"] == "tied":
        encoder = f"encoder.encoder.layer.{encoder_index}."
        attention = [f"{encoder}attention.self.{part}" for part in ("query", "key", "value")]
        attention.append(f"{encoder}attention.output.dense")
        feed_forward = (f"{encoder}intermediate.dense", f"{encoder}output.dense")
        return _Layer("custom", attention, attention, [feed_forward, feed_forward], f"{own}norm")
    feed_forwards = [(f"{own}{ffn}.fc_in", f"{own}{ffn}.fc_out") for ffn in ("ffn1", "ffn2")]
    return _Layer("custom", *_attentions(own), feed_forwards, f"{own}norm")


def _normal_layer(index: int) -> _Layer:
    own = f"decoder.layers.{index}."
    return _Layer("normal", *_attentions(own), [(f"{own}ffn.fc_in", f"{own}ffn.fc_out")], f"{own}norm")


def _attentions(layer: str) -> tuple[list[str], list[str]]:
    """Projections of self- and cross-attention."""
    parts = ("q_proj", "k_proj", "v_proj", "out_proj")
    first, second = ([f"{layer}{block}.{part}" for part in parts] for block in ("self_attention", "cross_attention"))
    return first, second
