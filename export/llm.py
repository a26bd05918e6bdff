"""The LLM of a layer-fusion model as one graph for prefill and steps: Llama, Mistral, Qwen2, Qwen3.

A new token is an id, or, where the id is negative, a vector of `embeds`: the prefix of the source. So one session holds
the weights once, and there is no If."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from onnx import TensorProto

from lrengine.errors import UnsupportedModelError
from lrengine.export.blocks import (
    activate,
    embed,
    join_heads,
    linear,
    project_to_vocabulary,
    rms_norm,
    scaled,
    softmax,
)
from lrengine.export.graph import Graph
from lrengine.export.rope import inverse_frequencies
from lrengine.export.self_cache import SelfCache, attend_past_and_new, causal_mask

EMBEDDING = "llm.model.embed_tokens.weight"
KINDS = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Llm:
    config: dict[str, Any]  # the LLM's own

    def __post_init__(self) -> None:
        if self.config["model_type"] not in KINDS:
            raise UnsupportedModelError(f"llm model_type '{self.config['model_type']}' cannot be exported")

    @property
    def heads(self) -> int:
        return self.config["num_attention_heads"]

    @property
    def kv_heads(self) -> int:
        return self.config.get("num_key_value_heads") or self.heads

    @property
    def head_dim(self) -> int:
        return self.config.get("head_dim") or self.config["hidden_size"] // self.heads

    @property
    def layers(self) -> int:
        return self.config["num_hidden_layers"]

    @cached_property
    def max_length(self) -> int:
        """Longer rows are refused: past the window of sliding attention, this graph would not forget."""
        config, longest = self.config, self.config["max_position_embeddings"]
        window = config.get("sliding_window", 4096 if config["model_type"] == "mistral" else None)
        if config["model_type"] == "llama" or window is None:
            return longest
        if config["model_type"].startswith("qwen"):
            types = config.get("layer_types")
            slides = "sliding_attention" in types if types else config["max_window_layers"] < self.layers
            if not config.get("use_sliding_window") or not slides:
                return longest
        return min(longest, window)

    def build(self, g: Graph) -> None:
        """`length` new tokens of every row after `position` earlier ones; logits of the new tokens that logit_rows
        names, flat: row * length + token."""
        x = self._embedded(g)
        position = g.input("position", TensorProto.INT64, "rows")
        cache = SelfCache.inputs(g, self.kv_heads, self.head_dim, position)
        mask = self._mask(g, cache)
        turns = self._turns(g, position)
        wanted = g.input("logit_rows", TensorProto.INT64, "wanted")
        epsilon, kind = self.config["rms_norm_eps"], self.config["hidden_act"]
        biased = self.config["model_type"] == "llama" and bool(self.config["mlp_bias"])
        for index in range(self.layers):
            layer = f"llm.model.layers.{index}."
            normed = rms_norm(g, x, f"{layer}input_layernorm", epsilon)
            x = g.op("Add", x, self._attention(g, normed, index, cache, mask, turns))
            normed = rms_norm(g, x, f"{layer}post_attention_layernorm", epsilon)
            gate = activate(g, linear(g, normed, f"{layer}mlp.gate_proj", biased), kind)
            inner = g.op("Mul", gate, linear(g, normed, f"{layer}mlp.up_proj", biased))
            x = g.op("Add", x, g.wide(linear(g, inner, f"{layer}mlp.down_proj", biased)))
        width = self.config["hidden_size"]
        chosen = g.op("Gather", g.reshape(x, -1, width), wanted)
        chosen = rms_norm(g, chosen, "llm.model.norm", epsilon)
        table = EMBEDDING if self.config["tie_word_embeddings"] else "llm.lm_head.weight"
        logits = project_to_vocabulary(g, chosen, table, None)
        g.output("logits", logits, TensorProto.FLOAT, "wanted", self.config["vocab_size"])

    def _embedded(self, g: Graph) -> str:
        ids = g.input("input_ids", TensorProto.INT64, "rows", "length")
        embeds = g.input("embeds", TensorProto.FLOAT, "rows", "length", self.config["hidden_size"])
        given = g.op("Unsqueeze", g.op("Less", ids, g.integer(0)), g.ints(2))
        return g.op("Where", given, embeds, embed(g, g.op("Max", ids, g.integer(0)), EMBEDDING))

    def _mask(self, g: Graph, cache: SelfCache) -> str:
        """float32 [rows, 1, length, past + length]"""
        shape = [g.dim("rows"), g.ints(1), g.dim("length")]
        past = g.op("Expand", cache.mask, g.op("Concat", *shape, g.ints(1), axis=0))
        new = g.op("Unsqueeze", causal_mask(g, "length"), g.ints(0, 1))
        new = g.op("Expand", new, g.op("Concat", g.dim("rows"), g.ints(1, 1, 1), axis=0))
        return g.op("Concat", past, new, axis=3)

    def _turns(self, g: Graph, position: str) -> tuple[str, str]:
        """Narrow cosines and sines [rows, length, 1, head_dim], both halves alike."""
        frequencies = g.constant(inverse_frequencies(self.config, self.head_dim))
        index = g.op("Add", g.op("Unsqueeze", position, g.ints(1)), g.range_row("length"))
        angles = g.op("Unsqueeze", g.op("Cast", index, to=TensorProto.FLOAT), g.ints(2, 3))
        angles = g.op("Mul", angles, frequencies)
        angles = g.op("Concat", angles, angles, axis=-1)
        return g.narrow(g.op("Cos", angles)), g.narrow(g.op("Sin", angles))

    def _turn(self, g: Graph, x: str, turns: tuple[str, str]) -> str:
        """Rotary positions: [rows, length, heads, head_dim], first half with second."""
        half = self.head_dim // 2
        first = g.op("Slice", x, g.ints(0), g.ints(half), g.ints(3))
        second = g.op("Slice", x, g.ints(half), g.ints(self.head_dim), g.ints(3))
        swapped = g.op("Concat", g.op("Neg", second), first, axis=3)
        return g.op("Add", g.op("Mul", x, turns[0]), g.op("Mul", swapped, turns[1]))

    def _attention(self, g: Graph, x: str, index: int, cache: SelfCache, mask: str, turns: tuple[str, str]) -> str:
        """Wide. A key/value head's group of queries is further rows of its product: keys are not repeated."""
        name = f"llm.model.layers.{index}.self_attn."
        kind = self.config["model_type"]
        biased = kind in ("llama", "qwen3") and bool(self.config["attention_bias"])
        query, key, value = (
            g.reshape(linear(g, x, f"{name}{part}_proj", biased or kind == "qwen2"), 0, 0, heads, self.head_dim)
            for part, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
        )
        if kind == "qwen3":
            epsilon = self.config["rms_norm_eps"]
            query = g.narrow(rms_norm(g, g.wide(query), f"{name}q_norm", epsilon))
            key = g.narrow(rms_norm(g, g.wide(key), f"{name}k_norm", epsilon))
        query, key = scaled(g, self._turn(g, query, turns), self.head_dim), self._turn(g, key, turns)
        for role, part in (("key", key), ("value", value)):
            g.output(f"new_{role}_{index}", part, g.narrow_type, "rows", "length", self.kv_heads, self.head_dim)
        mixed = self._attend(g, query, key, value, cache.past(g, index), mask)
        return g.wide(linear(g, mixed, f"{name}o_proj", biased))

    def _attend(self, g: Graph, query: str, key: str, value: str, past: tuple[str, str], mask: str) -> str:
        """Narrow [rows, length, H * d]"""
        query = g.reshape(g.op("Transpose", query, perm=[0, 2, 1, 3]), 0, self.kv_heads, -1, self.head_dim)
        new = tuple(g.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (key, value))

        def weigh(scores: str) -> str:
            """A head at a time, as the mask has it: [rows, H, length, past + length]."""
            return g.reshape(softmax(g, g.reshape(scores, 0, self.heads, -1, 0), mask), 0, self.kv_heads, -1, 0)

        mixed = g.reshape(attend_past_and_new(g, query, past, new, weigh), 0, self.heads, -1, self.head_dim)
        return join_heads(g, mixed, self.heads * self.head_dim)
