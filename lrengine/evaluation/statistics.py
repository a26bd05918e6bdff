"""Metrics as sums over examples: score = finish(sum of rows), so that a resample is a weighted sum of the same rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrengine.evaluation.metrics import bleu_tokens
from lrengine.evaluation.rouge import rouge_l

Rows = NDArray[np.float64]
CHRF_ORDER, CHRF_BETA = 6, 2.0
BLEU_ORDER = 4


@dataclass(frozen=True)
class Statistic:
    """One metric. rows(predictions, references, language of the references): [n, k]; finish: sums [..., k] to scores
    [...], in percent."""

    rows: Callable[[Sequence[str], Sequence[str], str | None], Rows]
    finish: Callable[[Rows], Rows]


def _share(sums: Rows) -> Rows:
    return 100.0 * sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


def _mean_of(value: Callable[[str, str], float]) -> Statistic:
    """A metric that is the mean of a value an example."""

    def rows(predictions: Sequence[str], references: Sequence[str], language: str | None = None) -> Rows:
        return np.array([[value(ours, theirs), 1.0] for ours, theirs in zip(predictions, references, strict=True)])

    return Statistic(rows, _share)


def _chrf_rows(predictions: Sequence[str], references: Sequence[str], language: str | None = None) -> Rows:
    """n-grams of the prediction, of the reference, and in both, for n = 1 .. 6; white space is left out."""
    rows = []
    for ours, theirs in zip(predictions, references, strict=True):
        texts = ["".join(text.split()) for text in (ours, theirs)]
        row: list[float] = []
        for order in range(1, CHRF_ORDER + 1):
            first, second = (Counter(text[at : at + order] for at in range(len(text) - order + 1)) for text in texts)
            row += [first.total(), second.total(), (first & second).total()]
        rows.append(row)
    return np.array(rows)


def _chrf(sums: Rows) -> Rows:
    """chrF (Popovic 2015): F-beta of the mean precision and the mean recall over the orders that both sides have."""
    ours, theirs, both = (sums[..., part::3] for part in range(3))
    present = (ours > 0) & (theirs > 0)
    orders = np.maximum(present.sum(-1), 1)
    precision = np.where(present, both / np.maximum(ours, 1e-12), 0.0).sum(-1) / orders
    recall = np.where(present, both / np.maximum(theirs, 1e-12), 0.0).sum(-1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    scores: Rows = 100.0 * (1 + CHRF_BETA**2) * precision * recall / np.maximum(weighted, 1e-12)
    return scores


def _bleu_rows(predictions: Sequence[str], references: Sequence[str], language: str | None = None) -> Rows:
    """Lengths of prediction and reference in tokens, then for n = 1 .. 4 the prediction's n-grams and those that the
    reference has too."""
    cut = bleu_tokens(language)
    rows = []
    for ours, theirs in zip(predictions, references, strict=True):
        words = [cut(text) for text in (ours, theirs)]
        row: list[float] = [len(words[0]), len(words[1])]
        for order in range(1, BLEU_ORDER + 1):
            first, second = (
                Counter(tuple(text[at : at + order]) for at in range(len(text) - order + 1)) for text in words
            )
            row += [first.total(), (first & second).total()]
        rows.append(row)
    return np.array(rows)


def _bleu(sums: Rows) -> Rows:
    """Papineni et al. 2002, with sacreBLEU's smoothing: the k-th order without a match counts 2^-k matches; an order
    that no prediction is long enough for ends the count, and the score is 0, as it is where no word is right."""
    ours, theirs, counts, matches = sums[..., 0], sums[..., 1], sums[..., 2::2], sums[..., 3::2]
    missing = matches == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), matches)
    logs = np.log(smoothed / np.maximum(counts, 1e-12)).mean(-1)
    brevity = np.where(ours < theirs, 1.0 - theirs / np.maximum(ours, 1e-12), 0.0)
    possible = (counts > 0).all(-1) & (matches[..., 0] > 0)
    scores: Rows = np.where(possible, 100.0 * np.exp(np.where(possible, logs + brevity, 0.0)), 0.0)
    return scores


CLASSIFICATION: dict[str, Statistic] = {"accuracy": _mean_of(lambda ours, theirs: float(ours.strip() == theirs))}
TEXT: dict[str, Statistic] = {
    "chrf": Statistic(_chrf_rows, _chrf),
    "bleu": Statistic(_bleu_rows, _bleu),
    "rouge_l": _mean_of(lambda ours, theirs: rouge_l(ours, theirs).f1),
    "exact": _mean_of(lambda ours, theirs: float(ours.strip() == theirs.strip())),
}
