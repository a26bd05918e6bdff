"""Finite weights whose products overflow: NaN and infinite logits. A request that meets them gets a typed error and no
answer; other requests get theirs. (`attack_files_test` has weights that are NaN or infinite themselves.)"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lrengine import Engine
from lrengine.errors import ModelFileError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import small_tokenizers  # noqa: E402

from tiny import tiny_fusion, tiny_swcm  # noqa: E402

SANE, POISON = [5, 8, 2], [5, 300, 2]
NOT_FINITE = "the model's logits are not finite: weights or element type overflow"
LARGE = 1e30  # its square is no float32
SUM_OVERFLOWS = 3e38  # a norm's mean is then infinite

CALLS: dict[str, Callable[[Engine, list[list[int]]], object]] = {
    "greedy": lambda engine, rows: engine.generate(rows, max_new_tokens=4),
    "beams": lambda engine, rows: engine.generate(rows, max_new_tokens=4, num_beams=3),
    "sampling": lambda engine, rows: engine.generate(rows, max_new_tokens=4, do_sample=True, seed=1, top_k=5),
    "sampled beams": lambda engine, rows: engine.generate(rows, max_new_tokens=4, do_sample=True, seed=1, num_beams=2),
    "processors": lambda engine, rows: engine.generate(
        rows, max_new_tokens=4, repetition_penalty=1.5, no_repeat_ngram_size=2, suppress_tokens=[8], min_new_tokens=2
    ),
    "stream": lambda engine, rows: [list(engine.stream([row], max_new_tokens=4)) for row in rows],
    "score": lambda engine, rows: engine.score(rows, [[7, 8]] * len(rows)),
    "classify": lambda engine, rows: engine.classify(rows, ["fox", "dog"]),
}


def opened(model: Any, directory: Path) -> Engine:
    model.save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    if model.config.model_type == "layer_fusion":
        small_tokenizers.save(small_tokenizers.byte_level(), directory / "llm")
    return Engine.load(directory, threads=1)


@pytest.fixture(scope="module", params=["swcm", "layer_fusion"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Token 300 of a source drives the encoder beyond float32; no other token does."""
    model = tiny_swcm(tie_word_embeddings=False) if request.param == "swcm" else tiny_fusion(encoder="xlm-roberta")
    with torch.no_grad():
        model.encoder.get_input_embeddings().weight[300] = SUM_OVERFLOWS
    return opened(model, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", CALLS)
def test_a_row_that_overflows_is_refused_and_others_are_answered(engine: Engine, name: str) -> None:
    call = CALLS[name]
    before = call(engine, [SANE])
    for rows in ([POISON], [SANE, POISON]):
        with pytest.raises(ModelFileError, match=NOT_FINITE):
            call(engine, rows)
        assert call(engine, [SANE]) == before


def swcm_with_output(weight: torch.Tensor) -> Any:
    """Logits = weight @ h for an h that does not depend on anything: LARGE, LARGE, and small numbers."""
    model = tiny_swcm(tie_word_embeddings=False)
    last = model.decoder.layers[-1].norm4
    with torch.no_grad():
        last.weight.zero_()
        last.bias[:2] = LARGE
        model.lm_head.weight.copy_(weight)
    return model


def output(**columns: dict[int, float]) -> torch.Tensor:
    """Random weights [331, 72] that read nothing of h[0] and h[1] but what is given: first={token: weight}."""
    weight = torch.randn(331, 72, generator=torch.Generator().manual_seed(3))
    weight[:, :2] = 0.0
    for name, values in columns.items():
        for token, value in values.items():
            weight[token, ("first", "second").index(name)] = value
    return weight


OVERFLOWS = {
    "one is NaN": output(first={7: LARGE}, second={7: -LARGE}),
    "one is infinite": output(first={7: LARGE}),
    "all are -infinite": output(first=dict.fromkeys(range(331), -LARGE)),
    "all are NaN": output(first=dict.fromkeys(range(331), LARGE), second=dict.fromkeys(range(331), -LARGE)),
}


@pytest.mark.parametrize("case", OVERFLOWS)
def test_logits_that_are_no_distribution_are_refused(tmp_path: Path, case: str) -> None:
    engine = opened(swcm_with_output(OVERFLOWS[case]), tmp_path)
    states = engine.encode([SANE])[0]
    for name, call in CALLS.items():
        with pytest.raises(ModelFileError, match=NOT_FINITE):
            call(engine, [SANE])
            pytest.fail(name)
    assert (engine.encode([SANE])[0] == states).all()


def test_one_impossible_token_is_never_written(tmp_path: Path) -> None:
    """One logit of -infinity leaves a distribution: transformers generates from it, and so does the engine."""
    weight = output(first={7: -LARGE})
    model = swcm_with_output(weight)
    engine = opened(model, tmp_path)
    expected = model.generate(torch.tensor([SANE]), max_new_tokens=4, num_beams=3, do_sample=False)[0, 1:].tolist()
    (found,) = engine.generate([SANE], max_new_tokens=4, num_beams=3)
    assert found.tokens == [token for token in expected if token != 2]
    drawn = engine.generate([SANE] * 40, max_new_tokens=8, do_sample=True, seed=4, temperature=50.0)
    assert all(7 not in answer.tokens for answer in drawn) and len({tuple(answer.tokens) for answer in drawn}) > 30
    with pytest.raises(ModelFileError, match=NOT_FINITE):
        engine.score([SANE], [[7]])
    assert engine.score([SANE], [[8]])[0].logprob < 0.0
