"""What to add to a classifier's logits in a language that it was not trained on, from texts of it without labels.

Both biases bring the answers to the label mix of the training texts, so the texts must have about that mix and be of
the same kind as those asked. Letters: n texts, C classes."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 200  # on the emoji names the mean probabilities then lie within 1e-7 of the frequencies


def means_bias(logits: Tensor, trained: Tensor) -> Tensor:
    """[C], with which the mean of `logits` [n, C] is that of `trained`, the training texts' [m, C]. For a linear layer
    the same as moving the mean of its inputs: centring (Libovický, Rosa & Fraser 2020, arXiv 2004.05160)."""
    return trained.mean(0) - logits.mean(0)


def frequencies_bias(logits: Tensor, frequencies: Tensor) -> Tensor:
    """[C], with which the mean softmax of `logits` [n, C] is `frequencies` [C], all above zero: prior matching (Liusie,
    Manakul & Gales 2023, arXiv 2309.04992, who match equal ones), by Sinkhorn's iteration."""
    bias = torch.zeros_like(frequencies)
    for _ in range(ROUNDS):
        bias = bias + (frequencies / (logits + bias).softmax(1).mean(0)).log()
    return bias


def with_biases(
    asked: Tensor,
    languages: list[str],
    unlabelled: dict[str, Tensor],
    trained: Tensor,
    frequencies: Tensor,
    counts: list[int],
) -> dict[str, Tensor]:
    """ "KIND of COUNT" -> the logits `asked` [n, C], each with the bias of its language, from the first COUNT of the
    language's `unlabelled` logits."""
    found: dict[str, Tensor] = {}
    for count in counts:
        first = {language: logits[:count] for language, logits in unlabelled.items()}
        for kind, biases in (
            ("means", {language: means_bias(logits, trained) for language, logits in first.items()}),
            ("frequencies", {language: frequencies_bias(logits, frequencies) for language, logits in first.items()}),
        ):
            found[f"{kind} of {count}"] = asked + torch.stack([biases[language] for language in languages])
    return found
