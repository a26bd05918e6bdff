"""Beam search where its rules matter: a vocabulary so small that beams end all the time, at every length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lrengine import Engine
from lrengine.models import SwcmConfig, SwcmForConditionalGeneration
from tiny import random_sources, randomise, tiny_encoder_config

VOCABULARY = 17
SOURCES = random_sources([6] * 24, vocabulary=VOCABULARY)


def small_vocabulary_model(eos: Any, seed: int) -> SwcmForConditionalGeneration:
    encoder = tiny_encoder_config("xlm-roberta", layers=1, vocab_size=VOCABULARY)
    config = SwcmConfig(
        encoder=encoder, bos_token_id=0, pad_token_id=1, eos_token_id=eos, tie_word_embeddings=False, output_bias=True
    )
    model = randomise(SwcmForConditionalGeneration(config), seed)
    # Flatter than a random model: what beams win by is then often less than what lengths are worth.
    with torch.no_grad():
        model.lm_head.weight.mul_(0.6)
    return model


def check(model: SwcmForConditionalGeneration, engine: Engine, **options: Any) -> None:
    """Equal-length sources need no padding, so PyTorch may answer them as one batch."""
    options = {"max_new_tokens": 11, **options}
    count = options["num_return_sequences"]
    ends = model.config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    result = model.generate(
        torch.tensor(SOURCES), do_sample=False, return_dict_in_generate=True, output_scores=True, **options
    )
    answers = [answer for answers in engine.generate(SOURCES, **options) for answer in answers]
    for number, (row, ranked, answer) in enumerate(
        zip(result.sequences.tolist(), result.sequences_scores.tolist(), answers, strict=True)
    ):
        row = row[1:]
        end = next((at for at, token in enumerate(row) if token in ends), None)
        where = (number // count, number % count, options)
        assert answer.tokens == row[:end], where
        assert answer.finish_reason == ("length" if end is None else "stop"), where
        length = len(answer.tokens) + (end is not None)
        assert answer.score / length ** options["length_penalty"] == pytest.approx(ranked, abs=1e-4), where


@pytest.mark.parametrize("eos", [2, [2, 9, 11, 16]])
@pytest.mark.parametrize("num_beams", [2, 3, 5])
def test_beams_end_as_in_transformers(tmp_path: Path, eos: Any, num_beams: int) -> None:
    model = small_vocabulary_model(eos, seed=num_beams)
    model.save_pretrained(tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    for early_stopping in (False, True, "never"):
        for length_penalty in (-1.0, 0.0, 0.6, 1.0, 2.0):
            check(
                model,
                engine,
                num_beams=num_beams,
                num_return_sequences=num_beams,
                early_stopping=early_stopping,
                length_penalty=length_penalty,
            )


def test_beams_with_processors_and_many_ends(tmp_path: Path) -> None:
    model = small_vocabulary_model([2, 9, 11], seed=1)
    model.save_pretrained(tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    shared = {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 1.0}
    for options in (
        {"min_new_tokens": 5},
        {"no_repeat_ngram_size": 2, "early_stopping": "never"},
        {"suppress_tokens": [3, 4, 5], "early_stopping": True},
    ):
        check(model, engine, **shared, **options)
