"""`generate()` of transformers on both generative models: the reference for the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny import BERT_ENCODERS, LLMS, pad_batch, random_sources, tiny_fusion, tiny_swcm

SOURCES = random_sources([9, 1, 5])
PROMPTS = random_sources([2, 6, 3], seed=1, vocabulary=270)
SEARCHES: list[dict[str, Any]] = [
    {},
    {"num_beams": 3, "length_penalty": 0.6},
    {"num_beams": 4, "num_return_sequences": 2, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
]
OPTIONS: dict[str, Any] = {"max_new_tokens": 9, "do_sample": False}


def rows(tokens: torch.Tensor, pad: int) -> list[list[int]]:
    """Without the padding behind rows that ended early."""
    found = tokens.tolist()
    for row in found:
        while row and row[-1] == pad:
            row.pop()
    return found


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("kind", BERT_ENCODERS)
def test_swcm_with_cache_equals_without(kind: str, search: dict[str, Any]) -> None:
    model = tiny_swcm(kind, norm_style="published" if kind == "roberta" else "post", tie_word_embeddings=False)
    ids, mask = pad_batch(SOURCES, model.config.encoder.pad_token_id)
    cached, plain = (model.generate(ids, attention_mask=mask, use_cache=c, **OPTIONS, **search) for c in (True, False))
    assert torch.equal(cached, plain)
    assert len({tuple(row) for row in cached.tolist()}) > 1, "a model that ignores its source proves nothing"


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sharing", ["init", "tied"])
def test_swcm_rows_do_not_depend_on_the_batch(sharing: str, search: dict[str, Any]) -> None:
    model = tiny_swcm(sharing=sharing)
    ids, mask = pad_batch(SOURCES, 1)
    together = rows(model.generate(ids, attention_mask=mask, **OPTIONS, **search), 1)
    alone = [rows(model.generate(torch.tensor([source]), **OPTIONS, **search), 1) for source in SOURCES]
    assert together == [row for answer in alone for row in answer]


def test_swcm_continues_a_forced_prefix() -> None:
    model = tiny_swcm()
    ids, mask = pad_batch(SOURCES, 1)
    prefix = torch.tensor([[0, 17, 23]]).expand(3, -1)
    tokens = model.generate(ids, attention_mask=mask, decoder_input_ids=prefix, **OPTIONS)
    assert torch.equal(tokens[:, :3], prefix)
    for step in range(3, 6):
        logits = model(ids, mask, tokens[:, :step]).logits[:, -1]
        assert torch.equal(logits.argmax(-1), tokens[:, step])


def test_swcm_projects_the_source_once_per_layer() -> None:
    model = tiny_swcm()
    calls = []
    for layer in model.decoder.layers:
        layer.cross_attention.k_proj.register_forward_hook(lambda *_: calls.append(1))
    model.generate(torch.tensor([SOURCES[0]]), min_new_tokens=7, max_new_tokens=7, num_beams=3, do_sample=False)
    assert len(calls) == len(model.decoder.layers)


def fusion_inputs(pad: int) -> tuple[torch.Tensor, ...]:
    return (*pad_batch(SOURCES, pad), *pad_batch(PROMPTS, 0))


@pytest.mark.parametrize(
    ("llm", "search"),
    [
        *((llm, SEARCHES[1]) for llm in LLMS),
        ("llama", SEARCHES[0]),
        ("llama", SEARCHES[2]),
        ("llama3", {"prefix_ids": torch.tensor([7, 9]), **SEARCHES[2]}),
    ],
)
def test_fusion_rows_do_not_depend_on_the_batch(llm: str, search: dict[str, Any]) -> None:
    model = tiny_fusion("mt5", llm)
    together = rows(model.generate(*fusion_inputs(0), **OPTIONS, **search), 0)
    alone = []
    for source, prompt in zip(SOURCES, PROMPTS, strict=True):
        one = model.generate(torch.tensor([source]), prompt_ids=torch.tensor([prompt]), **OPTIONS, **search)
        alone += rows(one, 0)
    assert together == alone


@pytest.mark.parametrize("prefix", [[], [7, 9, 11]])
def test_fusion_greedy_follows_its_own_forward(prefix: list[int]) -> None:
    model = tiny_fusion("xlm-roberta", "qwen3", mapper="mlp")
    inputs = fusion_inputs(1)
    forced = torch.tensor(prefix, dtype=torch.long)
    tokens = model.generate(*inputs, prefix_ids=forced, eos_token_id=-1, max_new_tokens=6, do_sample=False)
    assert tokens.shape == (3, 6)
    labels = torch.cat([forced.expand(3, -1), tokens], dim=1)
    predicted = model(*inputs, labels=labels).logits.argmax(-1)
    assert torch.equal(predicted[:, len(prefix) :], tokens)
    assert torch.equal(model(*inputs).logits[:, 0].argmax(-1), model(*inputs, labels=tokens).logits[:, 0].argmax(-1))


def test_fusion_stops_at_the_configs_end_tokens() -> None:
    model = tiny_fusion()
    free = model.generate(*fusion_inputs(0), eos_token_id=-1, **OPTIONS)
    model.config.eos_token_id = [270, int(free[0, 2])]
    stopped = model.generate(*fusion_inputs(0), **OPTIONS)
    assert stopped[0].tolist()[: stopped[0].tolist().index(int(free[0, 2])) + 1] == free[0, :3].tolist()
    assert set(stopped[0, 3:].tolist()) <= {model.config.pad_token_id}


def test_fusion_penalises_repetition_in_every_row() -> None:
    """transformers 5 skips as many of a row's first tokens as the row has padding."""
    model = tiny_fusion("mt5", "llama3")
    free = model.generate(*fusion_inputs(0), **OPTIONS)
    penalised = model.generate(*fusion_inputs(0), repetition_penalty=50.0, **OPTIONS)
    assert any(len(set(row)) < len(row) for row in free.tolist())
    for row in rows(penalised, 0):
        assert len(set(row)) == len(row)


def test_penalties_see_the_forced_prefix() -> None:
    model = tiny_fusion("mt5", "llama3")
    prefix = model.generate(*fusion_inputs(0), **OPTIONS)[:, :1]
    repeating = model.generate(*fusion_inputs(0), prefix_ids=prefix, **OPTIONS)
    penalised = model.generate(*fusion_inputs(0), prefix_ids=prefix, repetition_penalty=50.0, **OPTIONS)
    assert (repeating == prefix).any()
    assert not (penalised == prefix).any()


def test_fusion_returns_scores_without_the_prefix() -> None:
    model = tiny_fusion()
    options = {
        "num_beams": 2,
        "return_dict_in_generate": True,
        "output_scores": True,
        "prefix_ids": torch.tensor([[5, 6]]),
    }
    result = model.generate(*fusion_inputs(0), **OPTIONS, **options)
    assert result.sequences.shape[1] <= OPTIONS["max_new_tokens"]
    assert result.sequences_scores.shape == (3,)
