"""Sampling draws from the distribution that temperature, top_k and top_p leave, and follows its seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lrengine import Engine
from lrengine.models import SwcmConfig, SwcmForConditionalGeneration
from tiny import randomise, tiny_encoder_config

VOCABULARY = 13
SOURCE = [5, 7, 9, 6]
DRAWS = 3000


@pytest.fixture(scope="module")
def model() -> SwcmForConditionalGeneration:
    encoder = tiny_encoder_config("xlm-roberta", layers=1, vocab_size=VOCABULARY)
    config = SwcmConfig(encoder=encoder, bos_token_id=0, pad_token_id=1, eos_token_id=2, tie_word_embeddings=False)
    return randomise(SwcmForConditionalGeneration(config), 2)


@pytest.fixture(scope="module")
def engine(model: SwcmForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("sampling")
    model.save_pretrained(directory)
    return Engine.load(directory, threads=1)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.5}, {"temperature": 2.0, "top_k": 4}, {"top_p": 0.7}, {"top_k": 6, "top_p": 0.8}]
)
@torch.no_grad()
def test_draws_have_the_warped_distribution(
    model: SwcmForConditionalGeneration, engine: Engine, options: dict[str, Any]
) -> None:
    logits = model(input_ids=torch.tensor([SOURCE]), decoder_input_ids=torch.tensor([[0]])).logits[:, -1]
    warpers = LogitsProcessorList()
    if "temperature" in options:
        warpers.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        warpers.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        warpers.append(TopPLogitsWarper(options["top_p"]))
    expected = warpers(torch.tensor([[0]]), logits)[0].softmax(-1).numpy() * DRAWS
    (answers,) = engine.generate(
        [SOURCE], do_sample=True, seed=1, max_new_tokens=1, num_return_sequences=DRAWS, **options
    )
    counts = Counter(2 if answer.finish_reason == "stop" else answer.tokens[0] for answer in answers)
    found = np.array([counts[token] for token in range(VOCABULARY)])
    assert found[expected == 0].sum() == 0
    kept = expected > 0
    chi_square = ((found[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    assert chi_square < 32.9  # 12 degrees of freedom, p = 0.001; filters leave fewer


def test_a_seed_repeats_and_another_differs(engine: Engine) -> None:
    def texts(seed: int | None) -> list[list[int]]:
        answers = engine.generate([SOURCE] * 6, do_sample=True, seed=seed, max_new_tokens=10, top_p=0.95)
        return [answer.tokens for answer in answers]

    assert texts(4) == texts(4)
    assert texts(4) != texts(5)
    assert texts(None) != texts(None)
    assert len({tuple(row) for row in texts(4)}) > 3  # equal inputs of one call draw apart


def test_greedy_ignores_what_only_sampling_uses(engine: Engine) -> None:
    greedy = engine.generate([SOURCE], max_new_tokens=8)
    assert engine.generate([SOURCE], max_new_tokens=8, temperature=0.3, top_k=2, top_p=0.1, seed=9) == greedy


def test_sampled_beams_are_distinct_and_ranked(engine: Engine) -> None:
    for seed in range(5):
        (answers,) = engine.generate(
            [SOURCE], do_sample=True, seed=seed, num_beams=4, num_return_sequences=4, max_new_tokens=6
        )
        ranks = [answer.score / (len(answer.tokens) + (answer.finish_reason == "stop")) for answer in answers]
        assert ranks == sorted(ranks, reverse=True)
        assert len({(tuple(answer.tokens), answer.finish_reason) for answer in answers}) == 4
