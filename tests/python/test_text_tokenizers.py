"""The C++ tokenizers give the ids and the text that the `tokenizers` package gives."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from text_tokenizers import FAMILIES, fuzzed, sample_lines, strings_in
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lrengine import _engine
from lrengine.errors import UnsupportedModelError
from lrengine.text import TargetText, TextCodec

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


def test_bytes_that_are_not_utf8_are_replaced_as_python_does(tmp_path: Path) -> None:
    package = FAMILIES["gpt2"]()
    package.save(str(tmp_path / "tokenizer.json"))
    own = _engine.Tokenizer.load(str(tmp_path))
    assert own is not None
    random_ = random.Random(3)
    lead = [b"\xf0\x9f\x98\x80", "é中".encode(), b"\xed\xa0\x80", b"\xf4\x90", b"\xc0\x80", b"a", b"\xe1\x80"]
    texts = [random_.choice(lead)[: random_.randrange(5)] + random_.randbytes(_ % 6) for _ in range(20_000)]
    expected = [package.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids for text in texts]
    assert own.encode_all(texts, False) == expected


@pytest.mark.parametrize("family", ["xlm_roberta", "llama3", "llama2"])
def test_target_text_is_the_same_in_both_languages(family: str, tmp_path: Path) -> None:
    package = FAMILIES[family]()
    package.save(str(tmp_path / "tokenizer.json"))
    codec = TextCodec.load(tmp_path, own=False)
    own = _engine.Tokenizer.load(str(tmp_path))
    assert codec is not None and own is not None
    random_ = random.Random(5)
    lines = sample_lines()
    for _ in range(3000):
        ids = codec.source(random_.choice(lines))[: random_.randrange(1, 20)]
        if random_.random() < 0.3:
            ids = [random_.randrange(own.size) for _ in range(random_.randrange(8))]
        split = random_.randrange(len(ids) + 1)
        text = codec.decode(ids)
        place = random_.randrange(len(text) + 1)
        stop = [text[place : place + 3], random_.choice(["e", " the", "\ufffd", "中", "\u0430 "]), text[-1:] + "x"]
        stop = [entry for entry in stop if entry or random_.random() < 0.1]
        left = TargetText(codec, ids[:split], stop)
        right = _engine.TargetText(own, ids[:split], stop)
        for end in range(split, len(ids) + 1):
            tokens = ids[split:end]
            assert right.whole(tokens) == left.whole(tokens)
            assert right.stopped(tokens) == left.stopped(tokens)
            assert right.cut(tokens) == left.cut(tokens)
            assert right.certain(tokens) == left.certain(tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_an_engine_are_read_by_the_cpp_tokenizers(family: str, tmp_path: Path) -> None:
    FAMILIES[family]().save(str(tmp_path / "tokenizer.json"))
    own, package = TextCodec.load(tmp_path), TextCodec.load(tmp_path, own=False)
    assert own is not None and package is not None
    assert isinstance(own._reader, _engine.Tokenizer) and not isinstance(package._reader, _engine.Tokenizer)
    assert own.lone_byte() == package.lone_byte()
    for line in [*sample_lines()[:40], "\ud800 a\x00b \U0001f600"]:
        ids = package.source(line)
        assert own.source(line) == ids and own.bare(line) == package.bare(line)
        assert own.decode(ids) == package.decode(ids)
        assert own.pieces(ids) == package.pieces(ids)
    beyond = [own._reader.size, 2**31 - 1]
    assert own.pieces(beyond) == package.pieces(beyond) == ["", ""]
    assert own.decode(beyond) == package.decode(beyond) == ""


def test_bytes_among_the_added_tokens_are_found(tmp_path: Path) -> None:
    package = Tokenizer(models.Unigram([("<unk>", -1.0), ("a", -2.0)], 0, False))
    package.decoder = decoders.ByteFallback()
    package.add_tokens(["<0xC3>", "<0xA9>"])
    package.save(str(tmp_path / "tokenizer.json"))
    for own in (True, False):
        codec = TextCodec.load(tmp_path, own=own)
        assert codec is not None and codec.lone_byte() == 3  # <0xA9> comes before <0xC3>
        assert not TargetText(codec, [], []).certain([2, 3])


def test_a_kind_that_the_cpp_tokenizers_do_not_read_goes_to_the_package(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "fox": 1, "quick": 2}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UnsupportedModelError, match="WordLevel"):
        _engine.Tokenizer.load(str(tmp_path))
    codec = TextCodec.load(tmp_path)
    assert codec is not None and codec.source("quick fox x") == [2, 1, 0] and codec.decode([1, 2]) == "fox quick"


REAL = ("multilingual-e5-small", "smollm2-135m-instruct")


@pytest.mark.real
@pytest.mark.skipif("LRENGINE_REAL" not in os.environ, reason="LRENGINE_REAL names no directory with real weights")
@pytest.mark.parametrize("name", REAL)
def test_real_tokenizers_on_the_sample_the_declaration_and_fuzzed_strings(name: str) -> None:
    directory = Path(os.environ["LRENGINE_REAL"]) / name
    package = Tokenizer.from_file(str(directory / "tokenizer.json"))
    package.no_truncation()
    package.no_padding()
    declaration = Path(os.environ["LRENGINE_REAL"]) / "text" / "udhr.jsonl"
    lines = [json.loads(line) for line in declaration.open(encoding="utf-8")] if declaration.exists() else []
    check(package, directory, [*sample_lines(), *strings_in(lines), *fuzzed(FUZZED, seed=9)])
