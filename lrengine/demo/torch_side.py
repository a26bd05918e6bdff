"""The three models in PyTorch, asked as one would ask them in a script: text in, tokens or a label out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from lrengine.data.tokenization import load_tokenizer
from lrengine.models import (
    LayerFusionForCausalLM,
    LayerFusionForSequenceClassification,
    SwcmForConditionalGeneration,
)

CLASSES: dict[str, Any] = {
    "swcm": SwcmForConditionalGeneration,
    "fusion": LayerFusionForCausalLM,
    "classifier": LayerFusionForSequenceClassification,
}


def prepare(threads: int) -> None:
    """Inference only, no progress bars, `threads` threads."""
    use_threads(threads)
    torch.set_grad_enabled(False)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def use_threads(threads: int) -> None:
    torch.set_num_threads(threads)


class TorchModel:
    """float32, eager, KV cache on: what `generate` of transformers does by default."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.model = CLASSES[kind].from_pretrained(str(directory)).float().eval()
        self.tokenizer = load_tokenizer(str(directory))
        self.target_tokenizer = load_tokenizer(str(directory / "llm")) if kind == "fusion" else self.tokenizer

    def ids(self, text: str) -> Tensor:
        return torch.tensor([self.tokenizer(text)["input_ids"]])

    def generate(self, text: str, most: int, least: int) -> list[int]:
        """Greedy tokens without the decoder's start token; the end token, if written, is dropped."""
        ids = self.ids(text)
        result = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            min_new_tokens=least,
            do_sample=False,
            num_beams=1,
        )
        tokens = result[0].tolist()
        tokens = tokens[1:] if self.kind == "swcm" else tokens
        return without_end(tokens, self.model.config.eos_token_id)

    def answer(self, text: str, most: int, least: int) -> str:
        """From text to text: what a timed call does."""
        if self.kind == "classifier":
            return self.classify([text])[0][0]
        tokens = self.generate(text, most, least)
        return str(self.target_tokenizer.decode(tokens, skip_special_tokens=True))

    def score(self, text: str, tokens: list[int]) -> list[float]:
        """log p of each of `tokens` given the source and the tokens before it."""
        if not tokens:
            return []
        labels = torch.tensor([tokens])
        logits = self.model(input_ids=self.ids(text), labels=labels).logits[:, -len(tokens) :]
        chosen = logits.float().log_softmax(dim=-1).gather(2, labels.unsqueeze(-1))
        return [float(value) for value in chosen[0, :, 0]]

    def classify(self, texts: list[str]) -> tuple[list[str], list[list[float]]]:
        """(labels, probabilities in the order of the sorted labels), one text at a time."""
        names = [self.model.config.id2label[i] for i in range(self.model.config.num_labels)]
        order = sorted(range(len(names)), key=lambda i: names[i])
        labels, scores = [], []
        for text in texts:
            probabilities = self.model(input_ids=self.ids(text)).logits[0].softmax(dim=-1)
            labels.append(names[int(probabilities.argmax())])
            scores.append([float(probabilities[i]) for i in order])
        return labels, scores


def without_end(tokens: list[int], end: int | list[int]) -> list[int]:
    """`tokens` up to the first end token."""
    ends = set(end if isinstance(end, list) else [end])
    kept: list[int] = []
    for token in tokens:
        if token in ends:
            break
        kept.append(token)
    return kept
