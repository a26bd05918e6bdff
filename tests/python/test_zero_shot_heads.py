"""benchmarks/zero_shot_heads.py in miniature, and the biases of language_bias.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from training_support import write_lines

from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from tiny import tiny_encoder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def language_bias(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import language_bias

    return language_bias


@pytest.fixture
def zero_shot_heads(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import zero_shot_heads

    return zero_shot_heads


def test_the_mean_probabilities_become_the_frequencies(language_bias):
    torch.manual_seed(0)
    logits = 3 * torch.randn(50, 3) + torch.tensor([2.0, 0.0, -2.0])
    frequencies = torch.tensor([0.2, 0.5, 0.3])
    assert (logits.softmax(1).mean(0) - frequencies).abs().max() > 0.3
    bias = language_bias.frequencies_bias(logits, frequencies)
    torch.testing.assert_close((logits + bias).softmax(1).mean(0), frequencies)


def test_a_language_with_the_training_texts_means_gets_no_bias(language_bias):
    torch.manual_seed(0)
    logits = torch.randn(8, 3)
    torch.testing.assert_close(language_bias.means_bias(logits.flip(0), logits), torch.zeros(3))


def test_the_bias_of_the_means_centres_the_inputs_of_a_linear_layer(language_bias):
    torch.manual_seed(0)
    linear, english, names, asked = torch.nn.Linear(5, 3), torch.randn(8, 5), torch.randn(6, 5) + 2, torch.randn(4, 5)
    bias = language_bias.means_bias(linear(names), linear(english))
    torch.testing.assert_close(linear(asked) + bias, linear(asked - names.mean(0) + english.mean(0)))


def test_a_row_gets_the_bias_of_its_language_from_the_first_names(language_bias):
    trained, frequencies = torch.zeros(1, 2), torch.tensor([0.5, 0.5])
    names = {"ug": torch.tensor([[2.0, 0.0], [99.0, 0.0]]), "zh": torch.tensor([[0.0, 4.0], [99.0, 0.0]])}
    asked = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    found = language_bias.with_biases(asked, ["zh", "ug", "zh"], names, trained, frequencies, [1])
    assert list(found) == ["means of 1", "frequencies of 1"]
    assert found["means of 1"].tolist() == [[1, -3], [-1, 1], [1, -3]]
    differences = found["frequencies of 1"][:, 0] - found["frequencies of 1"][:, 1]
    torch.testing.assert_close(differences, torch.tensor([4.0, -2.0, 4.0]))


def test_all_mixers_with_and_without_biases(tmp_path, monkeypatch, capsys, zero_shot_heads):
    kinds = {"en": ("red", "blue"), "ug": ("ab", "cd"), "zh": ("ef", "gh")}
    splits = ("train", "train", "dev", "test")
    (tmp_path / "emoji").mkdir()
    for language, words in kinds.items():
        rows = [
            {"text": f"{words[n % 2]} {letter}", "label": "rb"[n % 2], "split": splits[n % 8 // 2], "id": letter}
            for n, letter in enumerate("abcdefghijklmnopqrstuvwxyz")
        ]
        write_lines(tmp_path / "emoji" / f"{language}.jsonl", rows)
    texts = zero_shot_heads.read(tmp_path / "emoji")
    assert [len(part) for part in (texts.train, texts.dev, texts.rest, texts.test)] == [14, 6, 24, 12]
    assert {example.group for example in texts.rest} == set("efghmnopuvwx")
    assert {texts.rest[index].group for index in texts.test} == set("ghopwx")
    assert sorted(name[-1] for name in texts.unlabelled["ug"]) == list("abcdijklqrstyz")
    tiny_encoder("bert", pad_token_id=1).save_pretrained(tmp_path / "encoder")
    lines = [example.source for example in [*texts.train, *texts.rest]]
    save_tokenizer(train_tokenizer(lines, 80), tmp_path / "encoder")
    out = tmp_path / "heads.json"
    arguments = [tmp_path / "encoder", tmp_path / "emoji", "--seeds", 2, "--unlabelled", 4, 14, "--json", out]
    monkeypatch.setattr(sys, "argv", ["zero_shot_heads.py", *map(str, arguments)])
    zero_shot_heads.main()
    found = json.loads(out.read_text())
    assert set(found["scores"]) == {"majority", "tfidf", "linear", *zero_shot_heads.MIXERS}
    for part in ("dev and test", "test"):
        biases = found["parts"][part]
        assert list(biases) == ["none", "means of 4", "frequencies of 4", "means of 14", "frequencies of 14"]
        for mixers in biases.values():
            assert list(mixers) == [*zero_shot_heads.MIXERS, "mean"]
            leads = [mixers[mixer]["score"]["value"] - biases["none"][mixer]["score"]["value"] for mixer in mixers]
            assert leads == pytest.approx([figures["lead_over_unbiased"]["value"] for figures in mixers.values()])
    assert found["parts"]["dev and test"]["none"]["last"]["score"] == found["scores"]["last"]["mean"]
    assert "| test | means of 14 | transformer + global |" in capsys.readouterr().out
