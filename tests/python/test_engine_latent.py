"""LangBridge's latent mapper in the engine: a fixed number of LLM positions for any source, as PyTorch has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lrengine import Engine
from tiny import LLM_VOCABULARY, random_sources, tiny_fusion

LATENTS = 5
MAPPER: dict[str, Any] = {
    "type": "latent", "num_latents": LATENTS, "depth": 2, "heads": 3, "head_dim": 11, "ffn_dim": 40,
}  # fmt: skip
SOURCES = random_sources([1, 17, 300, 4])
PROMPTS = random_sources([2, 6, 1, 30], seed=4, vocabulary=LLM_VOCABULARY)


@pytest.mark.parametrize("mixer", ["last", "transformer"])
@torch.no_grad()
def test_scores_are_pytorchs(tmp_path: Path, mixer: str) -> None:
    model = tiny_fusion(encoder="mt5", llm="mistral", mixer=mixer, mapper=MAPPER)
    model.save_pretrained(tmp_path)
    targets = random_sources([5, 1, 30, 60], seed=3, vocabulary=LLM_VOCABULARY)
    found = Engine.load(tmp_path, threads=1).score(SOURCES, targets, prompts=PROMPTS)
    for source, prompt, target, score in zip(SOURCES, PROMPTS, targets, found, strict=True):
        logits = model(torch.tensor([source]), prompt_ids=torch.tensor([prompt]), labels=torch.tensor([target])).logits
        expected = logits[0].log_softmax(-1)[torch.arange(len(target)), torch.tensor(target)].tolist()
        assert score.token_logprobs == pytest.approx(expected, abs=1e-4)


def test_a_batch_changes_nothing_and_tokens_are_pytorchs(tmp_path: Path) -> None:
    model: Any = tiny_fusion(encoder="xlm-roberta", llm="llama", mixer="global", mapper=MAPPER)
    model.save_pretrained(tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    together = engine.generate(SOURCES, prompts=PROMPTS, max_new_tokens=12)
    for source, prompt, generation in zip(SOURCES, PROMPTS, together, strict=True):
        (alone,) = engine.generate([source], prompts=[prompt], max_new_tokens=12)
        assert (alone.tokens, alone.score) == (generation.tokens, generation.score)
        expected = model.generate(
            torch.tensor([source]), prompt_ids=torch.tensor([prompt]), max_new_tokens=12, do_sample=False
        )[0].tolist()
        end = model.config.eos_token_id
        assert generation.tokens == (expected[: expected.index(end)] if end in expected else expected)


def test_a_source_without_tokens_leaves_the_latents(tmp_path: Path) -> None:
    tiny_fusion(encoder="mt5", mapper=MAPPER).save_pretrained(tmp_path)
    (generation,) = Engine.load(tmp_path, threads=1).generate([[]], prompts=[[3, 4]], max_new_tokens=3)
    assert generation.tokens or generation.finish_reason == "stop"
