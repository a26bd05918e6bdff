"""SWCM's decoder layers (MODELS.md, A): custom layers whose blocks are an encoder layer's, and normal layers.

A layer is four or three blocks and its norms. A block's matrices are held apart from the way they are applied, because
with `sharing = tied` a custom layer owns no matrices: it applies the encoder layer's own modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention
from transformers.activations import ACT2FN
from transformers.cache_utils import EncoderDecoderCache

from lrengine.kernels.dispatch import is_plain_linear, use_triton
from lrengine.kernels.tied_linear import tied_linear

if TYPE_CHECKING:
    from lrengine.models.swcm_config import SwcmConfig


class AttentionWeights(nn.Module):
    """The four projections [D, D] of a multi-head attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)


class FeedForwardWeights(nn.Module):
    """The two matrices [F, D] and [D, F] of a feed-forward block."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc_in = nn.Linear(width, inner)
        self.fc_out = nn.Linear(inner, width)


@dataclass(frozen=True)
class AttentionModules:
    """The same four projections, wherever their modules live."""

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    out_proj: nn.Module


@dataclass(frozen=True)
class FeedForwardModules:
    fc_in: nn.Module
    fc_out: nn.Module


Attention = AttentionWeights | AttentionModules
FeedForward = FeedForwardWeights | FeedForwardModules
KeysValues = tuple[Tensor, Tensor]  # [B, T, D] each, before they are split into heads


def attention_of(encoder_layer: Any) -> AttentionModules:
    """The self-attention of a BERT-type encoder layer: what both attentions of its custom layer are made from."""
    attention = encoder_layer.attention
    return AttentionModules(attention.self.query, attention.self.key, attention.self.value, attention.output.dense)


def feed_forward_of(encoder_layer: Any) -> FeedForwardModules:
    """The feed-forward block of a BERT-type encoder layer: what FFN1 and FFN2 are made from."""
    return FeedForwardModules(encoder_layer.intermediate.dense, encoder_layer.output.dense)


@dataclass
class DecoderInputs:
    """What every layer of one decoder call sees besides its hidden states and the encoder's.

    source_mask [B, 1, 1, S] bool or None (all tokens are real); target_mask [B, 1, T, P + T]
    bool or None (then `causal` says it all); cache: keys and values of P earlier tokens, or None."""

    source_mask: Tensor | None
    target_mask: Tensor | None
    causal: bool
    cache: EncoderDecoderCache | None


class DecoderLayer(nn.Module):
    """What custom and normal layers have in common: the blocks, without norms and residuals."""

    def __init__(self, config: SwcmConfig, index: int) -> None:
        super().__init__()
        encoder = config.encoder
        self.index = index  # position in the decoder: the layer's place in the cache
        self.heads = encoder.num_attention_heads
        self.published = config.norm_style == "published"
        self.activation = ACT2FN[encoder.hidden_act]
        self.hidden_dropout = encoder.hidden_dropout_prob
        self.attention_dropout = encoder.attention_probs_dropout_prob

    def _norm(self, config: SwcmConfig) -> nn.LayerNorm:
        return nn.LayerNorm(config.encoder.hidden_size, eps=config.decoder_layer_norm_eps)

    def _heads(self, states: Tensor) -> Tensor:
        """[B, T, D] -> [B, heads, T, D / heads]"""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(
        self, block: Attention, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        rate = self.attention_dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(
            self._heads(block.q_proj(query)), keys, values, attn_mask=mask, dropout_p=rate, is_causal=causal
        )
        return dropout(block.out_proj(mixed.transpose(1, 2).flatten(2)), self.hidden_dropout, self.training)

    def _self_attend(
        self, block: Attention, states: Tensor, inputs: DecoderInputs, projected: KeysValues | None = None
    ) -> Tensor:
        own = projected or (block.k_proj(states), block.v_proj(states))
        keys, values = (self._heads(part) for part in own)
        if inputs.cache is not None:
            keys, values = inputs.cache.self_attention_cache.update(keys, values, self.index)
        return self._attend(block, states, keys, values, inputs.target_mask, inputs.causal)

    def _cross_attend(
        self,
        block: Attention,
        states: Tensor,
        source: Tensor,
        inputs: DecoderInputs,
        projected: KeysValues | None = None,
    ) -> Tensor:
        """The source's keys and values are computed once and then live in the cache."""
        if inputs.cache is not None and inputs.cache.is_updated.get(self.index):
            cached: Any = inputs.cache.cross_attention_cache.layers[self.index]
            keys, values = cached.keys, cached.values
        else:
            own = projected or (block.k_proj(source), block.v_proj(source))
            keys, values = (self._heads(part) for part in own)
            if inputs.cache is not None:
                keys, values = inputs.cache.cross_attention_cache.update(keys, values, self.index)
                inputs.cache.is_updated[self.index] = True
        return self._attend(block, states, keys, values, inputs.source_mask, causal=False)

    def _feed_forward(self, block: FeedForward, states: Tensor) -> Tensor:
        return dropout(block.fc_out(self.activation(block.fc_in(states))), self.hidden_dropout, self.training)


class CustomLayer(DecoderLayer):
    """Self-attention -> FFN1 -> cross-attention -> FFN2, all four from one encoder layer."""

    def __init__(self, config: SwcmConfig, index: int) -> None:
        super().__init__(config, index)
        self.tied = config.sharing == "tied"
        width, inner = config.encoder.hidden_size, config.encoder.intermediate_size
        if not self.tied:
            self.self_attention = AttentionWeights(width)
            self.cross_attention = AttentionWeights(width)
            self.ffn1 = FeedForwardWeights(width, inner)
            self.ffn2 = FeedForwardWeights(width, inner)
        self.norm1, self.norm2, self.norm3, self.norm4 = (self._norm(config) for _ in range(4))

    def forward(self, x: Tensor, source: Tensor, inputs: DecoderInputs, encoder_layer: Any) -> Tensor:
        """x [B, T, D], source [B, S, D] -> [B, T, D]; `encoder_layer` is used only when tied."""
        self_attention: Attention
        cross_attention: Attention
        ffn1: FeedForward
        ffn2: FeedForward
        if self.tied:
            self_attention = cross_attention = attention_of(encoder_layer)
            ffn1 = ffn2 = feed_forward_of(encoder_layer)
        else:
            self_attention, cross_attention = self.self_attention, self.cross_attention
            ffn1, ffn2 = self.ffn1, self.ffn2
        first = self.norm1(x) if self.published else x
        own, of_source = self._project_together(self_attention, first, source, inputs)
        if self.published:
            h = self._self_attend(self_attention, first, inputs, own)  # no residual: as the checkpoint was trained
            h = h + self._feed_forward(ffn1, self.norm2(h))
            h = h + self._cross_attend(cross_attention, self.norm3(h), source, inputs, of_source)
            return h + self._feed_forward(ffn2, self.norm4(h))
        h = self.norm1(x + self._self_attend(self_attention, first, inputs, own))
        h = self.norm2(h + self._feed_forward(ffn1, h))
        h = self.norm3(h + self._cross_attend(cross_attention, h, source, inputs, of_source))
        return self.norm4(h + self._feed_forward(ffn2, h))

    def _project_together(
        self, block: Attention, states: Tensor, source: Tensor, inputs: DecoderInputs
    ) -> tuple[KeysValues, KeysValues] | tuple[None, None]:
        """Keys and values of `states` and of `source`, each tied matrix read once, where the kernel for it runs."""
        matrices = (block.k_proj, block.v_proj)
        known = inputs.cache is not None and bool(inputs.cache.is_updated.get(self.index))
        if not self.tied or known or not all(map(is_plain_linear, matrices)) or not use_triton(states, source):
            return None, None
        keys, values = (tied_linear((states, source), matrix.weight, matrix.bias) for matrix in matrices)
        return (keys[0], values[0]), (keys[1], values[1])

    @torch.no_grad()
    def copy_from(self, encoder_layer: Any) -> None:
        """Take the encoder layer's weights: its matrices (unless tied), and in the encoder's own form (`post`) the
        norms that stand behind them, so that every copied block keeps its meaning."""
        if not self.tied:
            for attention in (self.self_attention, self.cross_attention):
                _copy_modules(attention, attention_of(encoder_layer))
            for feed_forward in (self.ffn1, self.ffn2):
                _copy_modules(feed_forward, feed_forward_of(encoder_layer))
        if not self.published:
            for norm in (self.norm1, self.norm3):
                norm.load_state_dict(encoder_layer.attention.output.LayerNorm.state_dict())
            for norm in (self.norm2, self.norm4):
                norm.load_state_dict(encoder_layer.output.LayerNorm.state_dict())


class NormalLayer(DecoderLayer):
    """Self-attention -> cross-attention -> FFN with weights of its own, randomly initialised."""

    def __init__(self, config: SwcmConfig, index: int) -> None:
        super().__init__(config, index)
        width = config.encoder.hidden_size
        self.self_attention = AttentionWeights(width)
        self.cross_attention = AttentionWeights(width)
        self.ffn = FeedForwardWeights(width, config.encoder.intermediate_size)
        self.norm1, self.norm2 = self._norm(config), self._norm(config)
        if not self.published:
            self.norm3 = self._norm(config)

    def forward(self, x: Tensor, source: Tensor, inputs: DecoderInputs) -> Tensor:
        """x [B, T, D], source [B, S, D] -> [B, T, D]"""
        if self.published:
            h = self.norm1(x)
            h = h + self._self_attend(self.self_attention, h, inputs)
            h = self.norm1(h)  # the same norm again: as the checkpoint was trained
            h = h + self._cross_attend(self.cross_attention, h, source, inputs)
            h = self.norm2(h)
            return h + self._feed_forward(self.ffn, h)
        h = self.norm1(x + self._self_attend(self.self_attention, x, inputs))
        h = self.norm2(h + self._cross_attend(self.cross_attention, h, source, inputs))
        return self.norm3(h + self._feed_forward(self.ffn, h))


def _copy_modules(target: nn.Module, source: AttentionModules | FeedForwardModules) -> None:
    for name, module in target.named_children():
        module.load_state_dict(getattr(source, name).state_dict())
