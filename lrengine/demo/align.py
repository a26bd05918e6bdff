"""A small encoder from random weights, pretrained so that its languages align: the demo's stand-in for XLM-R.

Two objectives at once: masked LM over two translations side by side (TLM, arXiv 1901.07291) and translation ranking
(arXiv 2007.01852): a text's mean vector must find its translation's among the batch's. Measured, for the same time:
ranking alone aligns whole texts better (zero-shot accuracy .29 against .22 to .27), but leaves a translator made from
the encoder far behind (loss 5.0 against 3.5 after 400 steps): the word level is TLM's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear, normalize
from transformers import XLMRobertaConfig, XLMRobertaModel

from lrengine.demo.pretrain import near_lengths, padded
from lrengine.models.losses import IGNORED_LABEL

RANKING_TEMPERATURE = 0.05  # arXiv 2007.01852 scales cosines by 1/0.05 .. 1/0.01; 0.05 was best at this size
MASKED_SHARE = 0.25  # above BERT's 15%: short texts, few steps


@dataclass(frozen=True)
class SpecialIds:
    begin: int
    pad: int
    end: int
    mask: int
    first_piece: int  # ids from here on are pieces of text


class AlignmentBatches:
    """Groups of translations (ids without special tokens, by language) -> tensors for `AlignmentModel`."""

    def __init__(self, groups: list[dict[str, list[int]]], vocabulary: int, ids: SpecialIds, size: int) -> None:
        self.groups = sorted(groups, key=lambda group: max(map(len, group.values())))
        self.lengths = [max(map(len, group.values())) for group in self.groups]
        self.vocabulary = vocabulary
        self.ids = ids
        self.size = size
        self.longest = 40  # tokens a side; longer texts are cut, as both objectives survive it

    def make(self, generator: random.Random) -> dict[str, Tensor]:
        chosen = [self._pair(self.groups[i], generator) for i in near_lengths(self.lengths, self.size, generator)]
        ids = self.ids
        sides = [[ids.begin, *pair[side], ids.end] for side in (0, 1) for pair in chosen]
        joined = [[ids.begin, *a, ids.end, ids.end, *b, ids.end] for a, b in chosen[: self.size // 4]]
        labels = padded(joined, ids.pad)
        masked, labels = self._mask(labels, torch.Generator().manual_seed(generator.getrandbits(32)))
        return {"sides": padded(sides, ids.pad), "masked": masked, "labels": labels}

    def _pair(self, group: dict[str, list[int]], generator: random.Random) -> tuple[list[int], list[int]]:
        """Two languages of a group, English in half of the pairs: the labels will come in English."""
        first, second = generator.sample(sorted(group), 2)
        if "en" in group and generator.random() < 0.5:
            first, second = "en", generator.choice(sorted(set(group) - {"en"}))
        return group[first][: self.longest], group[second][: self.longest]

    def _mask(self, original: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """BERT's corruption: of the chosen positions 80% become <mask>, 10% a random piece, 10% stay."""
        draw = torch.rand(original.shape, generator=generator)
        chosen = (draw < MASKED_SHARE) & (original >= self.ids.first_piece)
        fate = torch.rand(original.shape, generator=generator)
        noise = torch.randint(self.ids.first_piece, self.vocabulary, original.shape, generator=generator)
        masked = torch.where(chosen & (fate < 0.8), torch.full_like(original, self.ids.mask), original)
        masked = torch.where(chosen & (fate > 0.9), noise, masked)
        return masked, original.masked_fill(~chosen, IGNORED_LABEL)


class AlignmentModel(nn.Module):
    """The encoder and, for this stage only, XLM-R's masked-LM head with the word embedding as its output matrix."""

    def __init__(self, encoder: XLMRobertaModel) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(encoder.config.vocab_size))

    def states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(hidden [B, S, D], mask [B, S, 1])."""
        mask = torch.ne(ids, int(self.encoder.config.pad_token_id or 0))
        return self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask.unsqueeze(-1)

    def forward(self, sides: Tensor, masked: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """sides [2B, S]: row i and row B + i are translations; masked, labels [B', S']."""
        return {"loss": self.ranking_loss(sides) + self.masked_loss(masked, labels)}

    def ranking_loss(self, sides: Tensor) -> Tensor:
        hidden, mask = self.states(sides)
        mean = (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)
        left, right = normalize(mean, dim=-1).chunk(2)
        scores = left @ right.T / RANKING_TEMPERATURE
        truth = torch.arange(len(scores))
        return (cross_entropy(scores, truth) + cross_entropy(scores.T, truth)) / 2

    def masked_loss(self, masked: Tensor, labels: Tensor) -> Tensor:
        hidden, _ = self.states(masked)
        chosen = labels != IGNORED_LABEL
        features = self.norm(gelu(self.dense(hidden[chosen])))
        logits = linear(features, self.encoder.embeddings.word_embeddings.weight, self.bias)
        return cross_entropy(logits.float(), labels[chosen])


def small_encoder(vocabulary: int, width: int, layers: int) -> XLMRobertaModel:
    config = XLMRobertaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        intermediate_size=4 * width, max_position_embeddings=258, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return XLMRobertaModel(config, add_pooling_layer=False)
