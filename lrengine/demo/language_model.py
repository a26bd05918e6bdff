"""A small English Llama from random weights: the demo's stand-in for an LLM."""

from __future__ import annotations

import random

from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lrengine.demo.pretrain import near_lengths, padded
from lrengine.models.losses import IGNORED_LABEL


class TextBatches:
    """Ids of whole texts -> batches for next-token prediction."""

    def __init__(self, texts: list[list[int]], pad: int, size: int) -> None:
        self.texts = sorted(texts, key=len)
        self.lengths = [len(text) for text in self.texts]
        self.pad = pad
        self.size = size

    def make(self, generator: random.Random) -> dict[str, Tensor]:
        rows = [self.texts[i] for i in near_lengths(self.lengths, self.size, generator)]
        ids = padded(rows, self.pad)
        mask = (ids != self.pad).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED_LABEL)}


def small_llm(vocabulary: int, width: int, layers: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=width // 64, intermediate_size=8 * width // 3 // 32 * 32, max_position_embeddings=256,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)
