"""Denoising on real text: the published share and span lengths, measured."""

import math
from collections import Counter

import numpy as np
import pytest
from training_support import UDHR

from lrengine.data import DataReport, TextNeeds, load_examples
from lrengine.data.denoising import NoiseConfig, draw_span_lengths, mask_spans, permute_sentences
from lrengine.data.sources import SourceConfig

MASK = -1


@pytest.fixture(scope="module")
def texts():
    source = SourceConfig("text", path=UDHR, languages=["ug", "kk", "mn", "bo", "zh"])
    return [example.source for example in load_examples([source], TextNeeds(), DataReport(), "train")]


def spans_of(tokens, noised):
    """Lengths of the spans behind each mask: tokens are 0..n-1, so the neighbours of a mask tell what it hides."""
    lengths, expected = [], 0
    for index, token in enumerate(noised):
        if token == MASK:
            after = noised[index + 1] if index + 1 < len(noised) else len(tokens)
            lengths.append(after - expected)
            expected = after
        else:
            assert token == expected, "kept tokens stay in order"
            expected = token + 1
    return lengths


def test_the_masked_share_is_35_percent_on_real_text(texts):
    rng = np.random.default_rng(0)
    masked = total = 0
    for text in texts:
        tokens = list(range(len(text)))
        lengths = spans_of(tokens, mask_spans(tokens, MASK, NoiseConfig(), rng))
        masked += sum(lengths)
        total += len(tokens)
    assert masked / total == pytest.approx(0.35, abs=0.005)


def test_the_share_is_exact_on_average_even_for_short_texts():
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 5, 8):
        tokens = list(range(count))
        shares = [sum(spans_of(tokens, mask_spans(tokens, MASK, NoiseConfig(), rng))) / count for _ in range(4000)]
        assert np.mean(shares) == pytest.approx(0.35, abs=0.03), count


def test_span_lengths_follow_poisson_3_5():
    rng = np.random.default_rng(2)
    lengths = draw_span_lengths(100_000, 3.5, rng)[:-1]
    assert np.mean(lengths) == pytest.approx(3.5, abs=0.05)
    assert np.var(lengths) == pytest.approx(3.5, abs=0.1)
    counts = Counter(lengths)
    for length in range(9):
        expected = math.exp(-3.5) * 3.5**length / math.factorial(length)
        assert counts[length] / len(lengths) == pytest.approx(expected, abs=0.01)


def test_span_lengths_measured_on_real_text(texts):
    rng = np.random.default_rng(3)
    lengths = []
    long_texts = [text for text in texts if len(text) > 200]
    for text in long_texts * 5:
        tokens = list(range(len(text)))
        lengths += spans_of(tokens, mask_spans(tokens, MASK, NoiseConfig(), rng))
    # the last span of each text is cut to the budget, so the mean is a little under 3.5
    assert 3.2 < np.mean(lengths) < 3.55
    assert lengths.count(0) / len(lengths) == pytest.approx(math.exp(-3.5), abs=0.012)


def test_no_two_masks_touch_so_every_mask_is_one_span(texts):
    rng = np.random.default_rng(4)
    for text in texts[:100]:
        noised = mask_spans(list(range(len(text))), MASK, NoiseConfig(), rng)
        assert all(not (a == b == MASK) for a, b in zip(noised, noised[1:], strict=False))


def test_spans_lie_everywhere():
    rng = np.random.default_rng(5)
    hidden = Counter()
    for _ in range(3000):
        hidden.update(set(range(40)) - set(mask_spans(list(range(40)), MASK, NoiseConfig(), rng)))
    rates = [hidden[position] / 3000 for position in range(40)]
    # the first and last tokens can only be hidden by a span that starts or ends there, in every such scheme
    assert min(rates[3:-3]) > 0.3 and max(rates) < 0.45 and min(rates) > 0.1


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0.0, 0.35, 0.95])
def test_tiny_texts_do_not_break(count, ratio):
    rng = np.random.default_rng(6)
    for _ in range(200):
        tokens = list(range(count))
        spans_of(tokens, mask_spans(tokens, MASK, NoiseConfig(mask_ratio=ratio, poisson_lambda=0.5), rng))


def test_sentences_are_permuted_and_kept():
    text = "One. Two. Three. Four."
    orders = {permute_sentences(text, np.random.default_rng(seed)) for seed in range(200)}
    assert len(orders) == 24
    assert all(sorted(order.split()) == sorted(text.split()) for order in orders)
    assert "甲。乙。" in {permute_sentences("乙。甲。", np.random.default_rng(seed)) for seed in range(20)}
    assert permute_sentences("only one", np.random.default_rng(0)) == "only one"
