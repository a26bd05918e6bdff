"""The published SWCM decoder, straight from MODELS.md (A), on nn.MultiheadAttention: an oracle for the converter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel


class Layer(nn.Module):
    """Names of the released checkpoint. `kind`: custom (two feed-forward blocks, four norms) or normal (one, two)."""

    def __init__(self, config: XLMRobertaConfig, kind: str) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.kind = kind
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        for name in ("ffn1", "ffn2") if kind == "custom" else ("ffn",):
            block = (nn.Linear(width, config.intermediate_size), nn.GELU(), nn.Linear(config.intermediate_size, width))
            setattr(self, name, nn.Sequential(*block))
        for number in range(1, 5 if kind == "custom" else 3):
            setattr(self, f"norm{number}", nn.LayerNorm(width))

    def forward(self, x: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        length = x.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).triu(1)

        def attend_self(h: Tensor) -> Tensor:
            return self.self_attention(h, h, h, attn_mask=causal, need_weights=False)[0]

        def attend_source(h: Tensor) -> Tensor:
            return self.cross_attention(h, memory, memory, key_padding_mask=memory_padding, need_weights=False)[0]

        if self.kind == "custom":
            h = attend_self(self.norm1(x))
            h = h + self.ffn1(self.norm2(h))
            h = h + attend_source(self.norm3(h))
            return h + self.ffn2(self.norm4(h))
        h = self.norm1(x)
        h = self.norm1(h + attend_self(h))
        h = self.norm2(h + attend_source(h))
        return h + self.ffn(h)


class Decoder(nn.Module):
    def __init__(self, config: XLMRobertaConfig, embed_layer: nn.Module, kinds: str) -> None:
        super().__init__()
        self.embed_layer = embed_layer
        self.layers = nn.ModuleList(Layer(config, {"c": "custom", "n": "normal"}[kind]) for kind in kinds)
        self.last_linear = nn.Linear(config.hidden_size, config.vocab_size)


class PublishedSwcm(nn.Module):
    """`kinds`: one letter a layer, c(ustom) or n(ormal), in order."""

    def __init__(self, config: XLMRobertaConfig, kinds: str) -> None:
        super().__init__()
        self.encoder = XLMRobertaModel(config)  # with its pooler, as published
        self.embed_layer = self.encoder.embeddings
        self.decoder = Decoder(config, self.embed_layer, kinds)
        for parameter in self.parameters():  # biases and norms too: none may be left out by chance
            nn.init.normal_(parameter, std=0.3)

    def forward(self, source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Logits [B, T, V] of ids [B, S] (mask 1 at tokens) and [B, T]."""
        memory = self.encoder(input_ids=source, attention_mask=mask).last_hidden_state
        hidden = self.embed_layer(input_ids=target)
        for layer in self.decoder.layers:
            hidden = layer(hidden, memory, mask == 0)
        return self.decoder.last_linear(hidden)
