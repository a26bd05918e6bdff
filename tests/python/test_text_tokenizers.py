"""The C++ tokenizers give the ids and the text that the `tokenizers` package gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from text_tokenizers import FAMILIES, fuzzed, sample_lines
from tokenizers import Tokenizer

from lrengine import _engine

# The two that matter most get all of them; the others differ in single parts.
FUZZED = 100_000
FEWER = 10_000
THOROUGH = {"xlm_roberta", "llama3"}


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    """The package's tokenizer, and the directory of its file, which is named after the family."""
    directory = tmp_path_factory.mktemp("tokenizers") / request.param
    directory.mkdir()
    tokenizer = FAMILIES[request.param]()
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer, directory


@pytest.fixture(scope="module")
def fuzzed_texts() -> list[str]:
    return fuzzed(FUZZED, seed=4)


def check(package: Tokenizer, directory: Path, texts: list[str]) -> None:
    own = _engine.Tokenizer.load(str(directory))
    assert own.size == package.get_vocab_size()
    for special in (True, False):
        expected = [encoding.ids for encoding in package.encode_batch_fast(texts, add_special_tokens=special)]
        assert_equal(texts, own.encode_all(texts, special), expected)
    assert_equal(texts, own.decode_all(expected), package.decode_batch(expected))


def assert_equal(texts: list[str], found: list[Any], expected: list[Any]) -> None:
    wrong = [text for text, left, right in zip(texts, found, expected, strict=True) if left != right]
    assert not wrong, f"{len(wrong)} of {len(texts)}, the shortest: {ascii(min(wrong, key=len))}"


def test_ids_and_text_of_every_line_of_the_sample(both: tuple[Tokenizer, Path]) -> None:
    check(*both, list(sample_lines()))


def test_ids_and_text_of_fuzzed_strings(both: tuple[Tokenizer, Path], fuzzed_texts: list[str]) -> None:
    check(*both, fuzzed_texts if both[1].name in THOROUGH else fuzzed_texts[:FEWER])
