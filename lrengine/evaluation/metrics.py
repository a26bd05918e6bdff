"""Scores of a list of predictions against their references. Text scores are in percent, as they are usually printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lrengine.errors import DataError
from lrengine.evaluation.rouge import rouge_l, tokenize


def bleu(predictions: Sequence[str], references: Sequence[str], language: str | None = None) -> float:
    """Corpus BLEU of sacreBLEU, the words being `bleu_tokens`."""
    import sacrebleu

    cut = bleu_tokens(language)
    ours, theirs = ([" ".join(cut(text)) for text in texts] for texts in (predictions, references))
    return float(sacrebleu.corpus_bleu(ours, [theirs], tokenize="none", force=True).score)


def bleu_tokens(language: str | None) -> Callable[[str], list[str]]:
    """What cuts a text into BLEU's words: sacreBLEU's for Chinese or for the rest, syllables in Tibetan, where 13a
    would see one word between two spaces."""
    import sacrebleu

    code = (language or "").split("-")[0]
    if code in ("bo", "dz"):
        return tokenize
    cut = sacrebleu.BLEU(tokenize="zh" if code == "zh" else "13a").tokenizer
    return lambda text: str(cut(text.rstrip())).split()


def chrf(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF (character 1- to 6-grams, beta 2) of sacreBLEU: needs no words, so it suits every script."""
    import sacrebleu

    return float(sacrebleu.corpus_chrf(list(predictions), [list(references)]).score)


def mean_rouge_l(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1 over the pairs."""
    return 100.0 * _mean([rouge_l(ours, theirs).f1 for ours, theirs in zip(predictions, references, strict=True)])


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions that equal their reference but for white space at the ends."""
    return 100.0 * _mean([ours.strip() == theirs.strip() for ours, theirs in zip(predictions, references, strict=True)])


def accuracy(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of right labels."""
    return 100.0 * _mean([ours == theirs for ours, theirs in zip(predictions, references, strict=True)])


def macro_f1(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Mean over the labels that occur in either list of F1 = 2 tp / (2 tp + fp + fn)."""
    scores = []
    pairs = list(zip(predictions, references, strict=True))
    for label in sorted({*predictions, *references}):
        right = sum(ours == theirs == label for ours, theirs in pairs)
        wrong = sum((ours == label) != (theirs == label) for ours, theirs in pairs)
        scores.append(2 * right / (2 * right + wrong))
    return 100.0 * _mean(scores)


def majority_share(references: Sequence[str]) -> float:
    """Accuracy of always answering the most frequent label: what a classifier has to beat."""
    return 100.0 * max(references.count(label) for label in set(references)) / len(references) if references else 0.0


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise DataError("no predictions to score")
    return float(sum(values)) / len(values)
