"""The engine computes what PyTorch computes: log-probabilities, encoder states, mixer weights, labels, within 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrengine import Engine
from tiny import (
    BERT_ENCODERS,
    ENCODERS,
    LLM_VOCABULARY,
    LLMS,
    random_sources,
    tiny_classifier,
    tiny_fusion,
    tiny_swcm,
)

LENGTHS = [1, 17, 300, 4]
SOURCES = random_sources(LENGTHS)


def saved(model: Any, directory: Path, **options: Any) -> Engine:
    model.save_pretrained(directory)
    return Engine.load(directory, **{"threads": 1, **options})


def log_probs_of(logits: torch.Tensor, targets: list[int]) -> list[float]:
    return logits.log_softmax(-1)[torch.arange(len(targets)), torch.tensor(targets)].tolist()


@pytest.mark.parametrize("norm_style", ["post", "published"])
@pytest.mark.parametrize("encoder", BERT_ENCODERS)
@torch.no_grad()
def test_swcm_scores(tmp_path: Path, norm_style: str, encoder: str) -> None:
    model = tiny_swcm(encoder=encoder, norm_style=norm_style, output_bias=True)
    targets = random_sources([5, 1, 30, 100], seed=3)
    found = saved(model, tmp_path).score(SOURCES, targets)
    for source, target, score in zip(SOURCES, targets, found, strict=True):
        logits = model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).logits[0]
        assert score.token_logprobs == pytest.approx(log_probs_of(logits, target), abs=1e-4)


@pytest.mark.parametrize(
    ("encoder", "llm"), [*((kind, "llama") for kind in ENCODERS), *(("bert", kind) for kind in LLMS)]
)
@torch.no_grad()
def test_fusion_scores(tmp_path: Path, encoder: str, llm: str) -> None:
    model = tiny_fusion(encoder=encoder, llm=llm)
    targets = random_sources([5, 1, 30, 60], seed=3, vocabulary=LLM_VOCABULARY)
    prompts = random_sources([0, 6, 1, 90], seed=4, vocabulary=LLM_VOCABULARY)
    found = saved(model, tmp_path).score(SOURCES, targets, prompts=prompts)
    for source, prompt, target, score in zip(SOURCES, prompts, targets, found, strict=True):
        prompt_ids = torch.tensor([prompt]) if prompt else None
        logits = model(input_ids=torch.tensor([source]), prompt_ids=prompt_ids, labels=torch.tensor([target])).logits[0]
        assert score.token_logprobs == pytest.approx(log_probs_of(logits, target), abs=1e-4)


@torch.no_grad()
def encoder_layers(model: Any, source: list[int]) -> np.ndarray:
    """Outputs of all layers [L, S, D], as transformers gives them."""
    states = model.encoder(input_ids=torch.tensor([source]), output_hidden_states=True).hidden_states[1:]
    return torch.cat(states).numpy()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoder_states(tmp_path: Path, encoder: str) -> None:
    model = tiny_classifier(encoder=encoder)
    engine = saved(model, tmp_path)
    for source, every, last in zip(SOURCES, engine.encode(SOURCES, "all"), engine.encode(SOURCES, "last"), strict=True):
        expected = encoder_layers(model, source)
        np.testing.assert_allclose(every, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
        np.testing.assert_array_equal(last, every[-1])


@pytest.mark.parametrize("mixer", ["last", "global", "transformer", {"type": "transformer", "add_global": True}])
@torch.no_grad()
def test_mixer_and_labels(tmp_path: Path, mixer: Any) -> None:
    model = tiny_classifier(encoder="xlm-roberta", mixer=mixer)
    engine = saved(model, tmp_path)
    weights, fused = engine.encode(SOURCES, "weights"), engine.encode(SOURCES)
    found = engine.classify(SOURCES)
    for number, source in enumerate(SOURCES):
        every = encoder_layers(model, source)
        output = model(input_ids=torch.tensor([source]))
        expected = output.mixer_weights[0].numpy()
        np.testing.assert_allclose(weights[number], expected, atol=1e-4)
        np.testing.assert_allclose(fused[number], np.einsum("sl,lsd->sd", expected, every), atol=1e-4)
        probabilities = output.logits[0].softmax(-1).tolist()
        assert list(found[number].scores) == ["red", "green", "blue"]
        assert list(found[number].scores.values()) == pytest.approx(probabilities, abs=1e-4)
        assert found[number].label == ["red", "green", "blue"][int(np.argmax(probabilities))]


def test_some_labels_share_the_probability(tmp_path: Path) -> None:
    engine = saved(tiny_classifier(), tmp_path)
    (full,), (some,) = engine.classify(SOURCES[:1]), engine.classify(SOURCES[:1], ["blue", "red"])
    total = full.scores["blue"] + full.scores["red"]
    assert some.scores == pytest.approx({"blue": full.scores["blue"] / total, "red": full.scores["red"] / total})


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 4e-2), ("float16", 1e-2), ("int8", 4e-2)])
def test_other_element_types_stay_close(tmp_path: Path, dtype: str, tolerance: float) -> None:
    model = tiny_swcm()
    exact = saved(model, tmp_path)
    engine = Engine.load(tmp_path, dtype=dtype, threads=1)
    assert engine.dtype == dtype and engine.memory_bytes < exact.memory_bytes
    targets = random_sources([5, 1, 30, 100], seed=3)
    for near, true in zip(engine.score(SOURCES, targets), exact.score(SOURCES, targets), strict=True):
        np.testing.assert_allclose(near.token_logprobs, true.token_logprobs, rtol=tolerance, atol=tolerance * 4)
    assert all(len(answer.tokens) > 0 for answer in engine.generate(SOURCES, max_new_tokens=4))
