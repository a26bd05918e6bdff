"""The engine gives the tokens that transformers' generate gives, for every option, model family and part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engine_pairs import Pair, check_every_option

from tiny import BERT_ENCODERS, ENCODERS, LLM_VOCABULARY, LLMS, random_sources, tiny_fusion, tiny_swcm

# transformers says that penalties do not see embedded inputs; here they see what a prefix and the model have written.
pytestmark = pytest.mark.filterwarnings("ignore:Passing `")

LENGTHS = [1, 9, 300]
# Several end tokens: random models meet one often enough for beams to end at many lengths.
SEVERAL_ENDS = [2, *range(40, 70)]


def swcm_pair(directory: Path, lengths: list[int] = LENGTHS, **options: Any) -> Pair:
    return Pair(tiny_swcm(**options), directory, random_sources(lengths))


def fusion_pair(directory: Path, lengths: list[int] = LENGTHS, **options: Any) -> Pair:
    prompts = random_sources([3, 0, 5][: len(lengths)], seed=4, vocabulary=LLM_VOCABULARY)
    return Pair(tiny_fusion(**options), directory, random_sources(lengths), prompts)


@pytest.mark.parametrize("norm_style", ["post", "published"])
@pytest.mark.parametrize("sharing", ["init", "tied", "none"])
@pytest.mark.parametrize("tied_output", [False, True])
def test_swcm_of_every_form(tmp_path: Path, norm_style: str, sharing: str, tied_output: bool) -> None:
    pair = swcm_pair(
        tmp_path,
        norm_style=norm_style,
        sharing=sharing,
        tie_word_embeddings=tied_output,
        output_bias=sharing != "init",
        normal_after_last=sharing == "none",
        normal_layer_interval={"init": 2, "tied": 0, "none": 3}[sharing],
    )
    pair.check()
    pair.check(num_beams=2, repetition_penalty=1.5)
    pair.check(num_beams=4, no_repeat_ngram_size=1, num_return_sequences=4)


@pytest.mark.parametrize("eos", [2, SEVERAL_ENDS])
def test_swcm_with_every_option(tmp_path: Path, eos: Any) -> None:
    pair = swcm_pair(tmp_path, [1, 9], tie_word_embeddings=False, output_bias=True, eos_token_id=eos)
    check_every_option(pair)


@pytest.mark.parametrize("num_beams", [1, 2, 3, 4, 5])
def test_swcm_with_one_to_five_beams(tmp_path: Path, num_beams: int) -> None:
    pair = swcm_pair(tmp_path, tie_word_embeddings=False, eos_token_id=SEVERAL_ENDS)
    pair.check(num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=14)
    pair.check(num_beams=num_beams, early_stopping=True, no_repeat_ngram_size=2, max_new_tokens=14)


@pytest.mark.parametrize("encoder", BERT_ENCODERS)
def test_swcm_from_every_encoder(tmp_path: Path, encoder: str) -> None:
    pair = swcm_pair(tmp_path, encoder=encoder, tie_word_embeddings=False)
    pair.check()
    pair.check(num_beams=3, repetition_penalty=1.2)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_fusion_of_every_encoder(tmp_path: Path, encoder: str) -> None:
    pair = fusion_pair(tmp_path, encoder=encoder)
    pair.check()
    pair.check(num_beams=3, repetition_penalty=1.2)


@pytest.mark.parametrize("llm", LLMS)
def test_fusion_of_every_llm(tmp_path: Path, llm: str) -> None:
    pair = fusion_pair(tmp_path, encoder="xlm-roberta", llm=llm)
    pair.check(max_new_tokens=14)
    pair.check(num_beams=3, no_repeat_ngram_size=2, num_return_sequences=2)


@pytest.mark.parametrize(
    ("mixer", "mapper"),
    [
        ("last", {"type": "mlp", "hidden_dim": 50, "activation": "relu"}),
        ("global", {"type": "mlp", "hidden_dim": 50, "activation": "gelu"}),
        ({"type": "transformer", "add_global": True}, "linear"),
    ],
)
def test_fusion_of_every_mixer_and_mapper(tmp_path: Path, mixer: Any, mapper: Any) -> None:
    pair = fusion_pair(tmp_path, encoder="mt5", mixer=mixer, mapper=mapper)
    pair.check()
    pair.check(num_beams=2, repetition_penalty=1.2)


@pytest.mark.parametrize("eos", [2, SEVERAL_ENDS])
def test_fusion_with_every_option(tmp_path: Path, eos: Any) -> None:
    check_every_option(fusion_pair(tmp_path, [1, 9], encoder="xlm-roberta", eos_token_id=eos))


@pytest.mark.parametrize("num_beams", [2, 3, 4, 5])
def test_fusion_with_two_to_five_beams(tmp_path: Path, num_beams: int) -> None:
    pair = fusion_pair(tmp_path, encoder="bert", llm="qwen3", eos_token_id=SEVERAL_ENDS)
    pair.check(num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=14)


def test_prefixes_are_continued(tmp_path: Path) -> None:
    import torch

    pair = swcm_pair(tmp_path, [9], tie_word_embeddings=False)
    prefix = [30, 31, 32]
    for options in ({}, {"num_beams": 3}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2, "num_beams": 2}):
        (found,) = pair.engine.generate(pair.sources, prefix=prefix, max_new_tokens=8, **options)
        expected = pair.model.generate(
            torch.tensor(pair.sources), decoder_input_ids=torch.tensor([[0, *prefix]]), max_new_tokens=8, **options
        )[0, 4:].tolist()
        assert found.tokens == (expected[: expected.index(2)] if 2 in expected else expected), options


@pytest.mark.parametrize("llm", ["llama3", "qwen3"])
def test_a_prefix_of_fusion_is_more_of_the_prompt(tmp_path: Path, llm: str) -> None:
    """To an LLM a prefix is what follows the prompt; transformers' generate gets it as part of `prompt_ids`. (Options
    that look back, such as penalties, see a prefix and not a prompt, so they are not compared here.)"""
    pair = fusion_pair(tmp_path, [1, 9, 40], encoder="xlm-roberta", llm=llm, eos_token_id=SEVERAL_ENDS)
    assert pair.prompts is not None
    prompts, prefixes = pair.prompts, [[90, 91, 92, 93], [120], []]  # one after an empty prompt, one empty itself
    for options in ({}, {"min_new_tokens": 5}, {"num_beams": 3, "num_return_sequences": 2}, {"num_beams": 5}):
        given = {"max_new_tokens": 8, **options}
        pair.prompts = prompts
        found = pair.engine_answers(prefix=prefixes, **given)
        pair.prompts = [prompt + prefix for prompt, prefix in zip(prompts, prefixes, strict=True)]
        expected = pair.torch_answers(**given)
        for theirs, ours in zip(expected, found, strict=True):
            assert [tokens for tokens, _, _ in theirs] == [answer.tokens for answer in ours], options
            assert [ended for _, ended, _ in theirs] == [answer.finish_reason == "stop" for answer in ours], options
