"""Denoising auto-encoding as in mBART (arXiv 2001.08210, section 2.2): sentences are permuted, then spans of tokens are
replaced by one mask each (text infilling), and the model restores the original.

Span lengths follow Poisson(3.5); spans are drawn until 35% of the tokens are covered. A span of length 0 inserts a
mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrengine.data.sentences import split_sentences


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """mask_ratio: share of tokens covered by spans. poisson_lambda: mean span length. Both from the mBART paper."""

    mask_ratio: float = 0.35
    poisson_lambda: float = 3.5
    permute_sentences: bool = True


def draw_span_lengths(budget: int, poisson_lambda: float, rng: np.random.Generator) -> list[int]:
    """Poisson lengths until they cover `budget` tokens; the last one is cut so that the sum is exactly `budget`."""
    lengths: list[int] = []
    covered = 0
    while covered < budget:
        length = min(int(rng.poisson(poisson_lambda)), budget - covered)
        lengths.append(length)
        covered += length
    return lengths


def mask_spans(tokens: Sequence[int], mask_id: int, noise: NoiseConfig, rng: np.random.Generator) -> list[int]:
    """Text infilling of `tokens` (no special ids among them). No two spans touch: every <mask> is one span.

    The number of masked tokens is mask_ratio * n, rounded up or down at random so that its mean is exact even for
    texts of a few tokens. Spans are laid into distinct gaps between the tokens that stay, uniformly.
    """
    count = len(tokens)
    budget = min(count, int(noise.mask_ratio * count + rng.random()))
    kept = count - budget
    # kept + 1 gaps hold at most kept + 1 spans: more (possible only when nearly all is masked) are joined to the first
    lengths = draw_span_lengths(budget, noise.poisson_lambda, rng)
    while len(lengths) > kept + 1:
        lengths[0] += lengths.pop()
    gaps = np.sort(rng.choice(kept + 1, size=len(lengths), replace=False))
    noised: list[int] = []
    position = taken = 0
    for gap, length in zip(gaps, lengths, strict=True):
        keep = int(gap) - taken
        noised += tokens[position : position + keep]
        noised.append(mask_id)
        position += keep + length
        taken += keep
    noised += tokens[position:]
    return noised


def permute_sentences(text: str, rng: np.random.Generator) -> str:
    """The sentences of `text` in random order, separated by a space if the original put white space between them."""
    pieces = split_sentences(text)
    if len(pieces) < 2:
        return text
    separator = " " if any(piece != piece.rstrip() for piece in pieces[:-1]) else ""
    order = rng.permutation(len(pieces))
    return separator.join(pieces[index].strip() for index in order)
