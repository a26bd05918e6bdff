"""A small encoder from random weights, pretrained so that its languages align: the demo's stand-in for XLM-R.

The objective is translation ranking (arXiv 2007.01852): a text's mean vector must find its translation's among those of
the batch. Masked LM over two translations side by side (TLM, arXiv 1901.07291) beside it was measured: within minutes
its loss hardly moves, and for the same time zero-shot accuracy is lower.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import XLMRobertaConfig, XLMRobertaModel

from lrengine.demo.pretrain import near_lengths, padded

TEMPERATURE = 0.05  # arXiv 2007.01852 scales cosines by 1/0.05 .. 1/0.01
LONGEST = 40  # tokens of a text; longer ones are cut: their meaning is clear by then


@dataclass(frozen=True)
class SpecialIds:
    begin: int
    pad: int
    end: int


class AlignmentBatches:
    """Groups of translations (ids without special tokens, by language) -> tensors for `AlignmentModel`."""

    def __init__(self, groups: list[dict[str, list[int]]], ids: SpecialIds, size: int) -> None:
        self.groups = sorted(groups, key=lambda group: max(map(len, group.values())))
        self.lengths = [max(map(len, group.values())) for group in self.groups]
        self.ids = ids
        self.size = size

    def make(self, generator: random.Random) -> dict[str, Tensor]:
        pairs = [self._pair(self.groups[i], generator) for i in near_lengths(self.lengths, self.size, generator)]
        rows = [[self.ids.begin, *pair[side][:LONGEST], self.ids.end] for side in (0, 1) for pair in pairs]
        return {"sides": padded(rows, self.ids.pad)}

    def _pair(self, group: dict[str, list[int]], generator: random.Random) -> tuple[list[int], list[int]]:
        """Two languages of a group, English in half of the pairs: the labels will come in English."""
        first, second = generator.sample(sorted(group), 2)
        if "en" in group and generator.random() < 0.5:
            first, second = "en", generator.choice(sorted(set(group) - {"en"}))
        return group[first], group[second]


class AlignmentModel(nn.Module):
    """An encoder and the ranking loss."""

    def __init__(self, encoder: XLMRobertaModel) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, sides: Tensor) -> dict[str, Tensor]:
        """sides [2B, S]: rows i and B + i are translations of each other."""
        mask = torch.ne(sides, int(self.encoder.config.pad_token_id or 0))
        hidden = self.encoder(input_ids=sides, attention_mask=mask.long()).last_hidden_state
        mean = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        left, right = normalize(mean, dim=-1).chunk(2)
        scores = left @ right.T / TEMPERATURE
        truth = torch.arange(len(scores))
        return {"loss": (cross_entropy(scores, truth) + cross_entropy(scores.T, truth)) / 2}


def small_encoder(vocabulary: int, width: int, layers: int) -> XLMRobertaModel:
    """Random weights; drawn wider than XLM-R's 0.02, which suits a width of 768."""
    config = XLMRobertaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        intermediate_size=4 * width, max_position_embeddings=258, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, initializer_range=0.05,
    )  # fmt: skip
    return XLMRobertaModel(config, add_pooling_layer=False)
