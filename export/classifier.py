"""The classifier (MODELS.md, C) as one graph, and what the encoder side of every fused model shows as another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import TensorProto

from lrengine.export.blocks import linear
from lrengine.export.encoders import encoder_layer_states, layers_of, width_of
from lrengine.export.graph import Graph
from lrengine.export.mixer import Mixed, mix


@dataclass(frozen=True)
class FusedEncoder:
    """Encoder and mixer of a layer_fusion or layer_fusion_classifier config."""

    config: dict[str, Any]

    @property
    def width(self) -> int:
        return width_of(self.config["encoder"])

    def states(self, g: Graph) -> tuple[list[str], Mixed]:
        """Declares the source and gives the layers' states and their mix."""
        ids = g.input("input_ids", TensorProto.INT64, "batch", "source")
        mask = g.input("attention_mask", TensorProto.INT64, "batch", "source")
        states = encoder_layer_states(g, self.config["encoder"], ids, mask)
        return states, mix(g, self.config["mixer"], states, self.width, mask)

    def build_encode(self, g: Graph) -> None:
        """What Engine.encode shows: the last and the fused states, all layers' states, the mixer's weights."""
        states, mixed = self.states(g)
        shape = ("batch", "source", self.width)
        layers = layers_of(self.config["encoder"])
        stacked = g.op("Concat", *(g.op("Unsqueeze", state, g.ints(1)) for state in states), axis=1)
        g.output("last", states[-1], TensorProto.FLOAT, *shape)
        g.output("fused", mixed.fused, TensorProto.FLOAT, *shape)
        g.output("all", stacked, TensorProto.FLOAT, "batch", layers, "source", self.width)
        g.output("weights", mixed.weights, TensorProto.FLOAT, "batch", "source", layers)


def build_classifier(g: Graph, encoder: FusedEncoder) -> None:
    """logits = classifier(mean over the source's tokens of the mixed states)."""
    _, mixed = encoder.states(g)
    total = g.op("ReduceSum", mixed.fused, g.ints(1), keepdims=0)
    pooled = g.op("Div", total, g.op("ReduceSum", mixed.kept, g.ints(1), keepdims=0))
    logits = g.wide(linear(g, pooled, "classifier"))
    g.output("logits", logits, TensorProto.FLOAT, "batch", len(encoder.config["id2label"]))
