"""Metrics against values computed by hand."""

import math

import pytest

from lrengine.data.examples import Example
from lrengine.errors import DataError
from lrengine.evaluation import metrics
from lrengine.evaluation.evaluate import Evaluation, score


def test_accuracy_and_macro_f1_by_hand():
    theirs = ["a", "a", "a", "b", "c"]
    ours = ["a", "a", "b", "b", "a"]
    assert metrics.accuracy(ours, theirs) == pytest.approx(60.0)
    # a: tp 2, fp 1, fn 1 -> 4/6; b: tp 1, fp 1, fn 0 -> 2/3; c: tp 0 -> 0
    assert metrics.macro_f1(ours, theirs) == pytest.approx(100 * (4 / 6 + 2 / 3 + 0) / 3)
    assert metrics.majority_share(theirs) == pytest.approx(60.0)
    # an answer that is no label counts as a label of its own, with F1 0
    assert metrics.macro_f1(["a", "?"], ["a", "b"]) == pytest.approx(100 / 3)


def test_exact_match_ignores_white_space_at_the_ends_only():
    assert metrics.exact_match(["a b ", "ab"], ["a b", "a b"]) == 50.0


def test_bleu_by_hand():
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; equal length, no brevity penalty
    expected = 100 * math.exp((math.log(5 / 6) + math.log(3 / 5) + math.log(2 / 4) + math.log(1 / 3)) / 4)
    assert metrics.bleu(["the cat sat on mat the"], ["the cat sat on the mat"]) != pytest.approx(expected)
    assert metrics.bleu(["the cat sat on a mat"], ["the cat sat on the mat"]) == pytest.approx(expected)


def test_bleu_knows_what_a_word_is():
    chinese = ["世界人权宣言的"], ["世界人权宣言是"]
    assert metrics.bleu(*chinese, language="zh") > 60 > metrics.bleu(*chinese, language="en")
    tibetan = ["བཀྲ་ཤིས་བདེ་ལེགས་ཡིན"], ["བཀྲ་ཤིས་བདེ་ལེགས་རེད"]
    assert metrics.bleu(*tibetan, language="bo") > 60 > metrics.bleu(*tibetan, language="en")


def test_chrf_and_rouge():
    assert metrics.chrf(["сәлем"], ["сәлем"]) == pytest.approx(100.0)
    assert 0 < metrics.chrf(["сәлемде"], ["сәлем"]) < 100
    assert metrics.mean_rouge_l(["a b", "c"], ["a b", "d"]) == pytest.approx(50.0)


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no predictions"):
        metrics.accuracy([], [])
    with pytest.raises(ValueError, match="zip"):
        metrics.accuracy(["a"], [])


def test_scores_are_grouped_and_averaged_over_the_groups():
    examples = [
        Example("x", "a", "ug", "labels"),
        Example("y", "b", "ug", "labels"),
        Example("z", "a", "bo", "labels"),
    ]
    scores = score(examples, ["a", "a ", "b"], "classification")
    assert scores["ug"]["accuracy"] == 50.0 and scores["bo"]["accuracy"] == 0.0
    assert scores["mean"]["accuracy"] == 25.0 and scores["mean"]["examples"] == 3
    table = Evaluation("m", "classification", "torch", scores, 1.5, [{}] * 3).table()
    assert [line.split()[0] for line in table.splitlines()] == ["examples", "ug", "bo", "mean", "3"]
    assert len({len(line) for line in table.splitlines()[:-1]}) == 1, "columns are aligned"
