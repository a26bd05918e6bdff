"""Text in, text out: tokenizers, prefixes, stop strings, prompts and streams."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import small_tokenizers
from tokenizers import Tokenizer, decoders, models

from lrengine import Engine, _engine
from lrengine.errors import InvalidRequestError, ModelFileError
from lrengine.text import TargetText, TextCodec, clean
from tiny import tiny_fusion, tiny_swcm

TEMPLATE = "Q: {prompt} A:"


@pytest.fixture(scope="module")
def swcm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("swcm")
    tiny_swcm(tie_word_embeddings=False).save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return Engine.load(directory, threads=1)


@pytest.fixture(scope="module")
def fusion_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fusion")
    tiny_fusion(encoder="xlm-roberta", prompt_template=TEMPLATE).save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    small_tokenizers.save(small_tokenizers.byte_level(), directory / "llm")
    return directory


@pytest.fixture(scope="module")
def fusion(fusion_directory: Path) -> Engine:
    return Engine.load(fusion_directory, threads=1)


def test_text_is_its_ids_with_special_tokens(swcm: Engine) -> None:
    codec = small_tokenizers.unigram()
    for text in small_tokenizers.TEXTS:
        ids = codec.encode(text).ids
        assert ids[0] == 0 and ids[-1] == 2
        (from_text,) = swcm.generate(text, max_new_tokens=9)
        (from_ids,) = swcm.generate([ids], max_new_tokens=9)
        assert from_text == from_ids
        assert from_text.text == codec.decode(from_text.tokens)


def test_a_stream_is_what_generate_returns(swcm: Engine, fusion: Engine) -> None:
    for engine in (swcm, fusion):
        for text in small_tokenizers.TEXTS:
            for options in ({}, {"do_sample": True, "seed": 3}, {"prefix": "the quick"}, {"no_repeat_ngram_size": 1}):
                (whole,) = engine.generate(text, max_new_tokens=30, **options)
                tokens = list(engine.stream(text, max_new_tokens=30, **options))
                assert [token.token for token in tokens] == whole.tokens
                assert "".join(token.text or "" for token in tokens) == whole.text
                # The end token's log-probability is part of the score but no token of the stream.
                if whole.finish_reason == "length":
                    assert sum(token.logprob for token in tokens) == pytest.approx(whole.score, rel=1e-5)


def test_a_stream_never_gives_half_a_character(fusion: Engine) -> None:
    for seed in range(5):
        texts = [token.text or "" for token in fusion.stream("fox", max_new_tokens=40, do_sample=True, seed=seed)]
        assert all(not text.endswith("\ufffd") for text in texts[:-1])


def test_what_is_told_of_byte_tokens_adds_up_to_the_text(tmp_path: Path) -> None:
    """A byte that follows whole characters and is none of the next turns all of their run into U+FFFD."""
    pieces = ["<unk>", "</s>", "<0xE4>", "<0xBB>", "<0x8A>", "<0x0A>", "\u2581a", "b", "<0xC3>"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], 0, True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["</s>"])
    small_tokenizers.save(tokenizer, tmp_path)
    codec = TextCodec.load(tmp_path)
    assert codec is not None
    target = TargetText(codec, [6], [])
    assert target.cut([2, 3, 4]) == "\u4eca" and target.cut([2, 3, 4, 2]) == "\ufffd" * 4
    for row in itertools.product(range(1, 8), repeat=4):
        told = ""
        for length in range(1, 5):
            text = target.cut(row[:length])
            if length == 4 or (text.startswith(told) and target.certain(row[:length])):
                told += text[len(told) :]
        assert told == target.cut(row), row


def test_a_stop_string_ends_a_row_and_is_cut_off(swcm: Engine) -> None:
    (free,) = swcm.generate("the lazy dog", max_new_tokens=20, no_repeat_ngram_size=1)
    assert free.text is not None and len(free.text) > 8
    stop = free.text[5:8]
    (cut,) = swcm.generate("the lazy dog", max_new_tokens=20, no_repeat_ngram_size=1, stop=["absent", stop])
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.tokens) < len(free.tokens)
    streamed = swcm.stream("the lazy dog", max_new_tokens=20, no_repeat_ngram_size=1, stop=stop)
    assert "".join(token.text or "" for token in streamed) == cut.text
    (beam,) = swcm.generate("the lazy dog", max_new_tokens=20, num_beams=3, no_repeat_ngram_size=1, stop=stop)
    assert beam.text is not None and stop not in beam.text


def test_a_text_prefix_is_continued_and_not_returned(swcm: Engine) -> None:
    codec = small_tokenizers.unigram()
    ids = codec.encode("the quick", add_special_tokens=False).ids
    for prefix in ("the quick", ["the quick"], ids, [ids]):
        (answer,) = swcm.generate("fox", prefix=prefix, max_new_tokens=9)
        assert answer.text is not None
        assert "the quick" + answer.text == codec.decode(ids + answer.tokens)


def test_prompts_go_through_the_template(fusion: Engine) -> None:
    llm = small_tokenizers.byte_level()
    ids = llm.encode("Q: fox? A:").ids
    (from_text,) = fusion.generate("dog", prompts="fox?", max_new_tokens=9)
    (from_ids,) = fusion.generate("dog", prompts=[ids], max_new_tokens=9)
    (without,) = fusion.generate("dog", max_new_tokens=9)
    (empty,) = fusion.generate("dog", prompts="", max_new_tokens=9)
    assert from_text == from_ids
    assert without == empty != from_text
    several = fusion.generate(["dog", "fox"], prompts=["fox?", "dog?"], max_new_tokens=9)
    assert several[0] == from_text


def test_targets_are_scored_with_their_end(swcm: Engine) -> None:
    ids = small_tokenizers.unigram().encode("the fox", add_special_tokens=False).ids
    (text,) = swcm.score("dog", "the fox")
    (closed,) = swcm.score("dog", [[*ids, 2]])
    (open_ended,) = swcm.score("dog", [ids])
    assert text == closed
    assert open_ended.token_logprobs == pytest.approx(closed.token_logprobs[:-1], abs=1e-5)
    assert text.logprob == pytest.approx(sum(text.token_logprobs), abs=1e-5)


def test_labels_of_a_generating_model_share_their_likelihood(fusion: Engine) -> None:
    labels = ["fox", "dog", "the lazy dog"]
    (answer,) = fusion.classify("the quick", labels, prompts="which?")
    sums = [score.logprob for score in fusion.score(["the quick"] * 3, labels, prompts="which?")]
    assert answer.label == labels[sums.index(max(sums))]
    assert sum(answer.scores.values()) == pytest.approx(1.0)
    assert answer.scores["fox"] / answer.scores["dog"] == pytest.approx(2.718281828 ** (sums[0] - sums[1]), rel=1e-3)


def test_a_directory_without_tokenizers_takes_ids(tmp_path: Path) -> None:
    tiny_swcm().save_pretrained(tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    (answer,) = engine.generate([[0, 7, 2]], max_new_tokens=3)
    assert answer.text is None and len(answer.tokens) == 3
    assert [token.text for token in engine.stream([[0, 7, 2]], max_new_tokens=3)] == [None] * 3
    with pytest.raises(InvalidRequestError, match=r"no tokenizer\.json; expected token ids"):
        engine.generate("text")
    with pytest.raises(InvalidRequestError, match="stop: the model directory has no tokenizer"):
        engine.generate([[7]], stop="x")


def test_truncation_and_padding_left_in_a_tokenizer_file_are_ignored(fusion_directory: Path, tmp_path: Path) -> None:
    tiny_swcm().save_pretrained(tmp_path)
    tokenizer = small_tokenizers.unigram()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    small_tokenizers.save(tokenizer, tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    assert engine.encode("the quick brown fox")[0].shape == (
        len(small_tokenizers.unigram().encode("the quick brown fox").ids),
        72,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_a_broken_tokenizer_file_is_named_after_broken_weights(tmp_path: Path, threads: int) -> None:
    """With more than one thread tokenizers are read beside the weights."""
    tiny_swcm().save_pretrained(tmp_path)
    broken = json.dumps({"version": "1.0", "model": 3})
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "tokenizer.json").write_text(broken)
    Engine.load(tmp_path, threads=threads)  # no LLM, so nobody asks for its tokenizer
    (tmp_path / "tokenizer.json").write_text(broken)
    with pytest.raises(ModelFileError, match=r"tokenizer\.json: found no tokenizer"):
        Engine.load(tmp_path, threads=threads)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        Engine.load(tmp_path, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_tokenizers_are_read_beside_the_weights(
    fusion_directory: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """With two threads a tokenizer is waited for while the weights are opened, and the other way round."""
    opened = threading.Event()
    seen = []
    load_weights, load_texts = _engine.load, TextCodec.load

    def weights(*arguments: Any) -> Any:
        native = load_weights(*arguments)
        opened.set()
        return native

    def texts(directory: Path) -> Any:
        seen.append((directory.name, threading.current_thread() is threading.main_thread()))
        assert opened.wait(30)
        return load_texts(directory)

    monkeypatch.setattr(_engine, "load", weights)
    monkeypatch.setattr(TextCodec, "load", texts)
    Engine.load(fusion_directory, threads=threads)
    assert seen == [(fusion_directory.name, threads == 1), ("llm", threads == 1)]


def test_tokenizers_are_read_even_if_no_thread_can_be_had(
    fusion_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("lrengine.text.ThreadPoolExecutor.submit", refuse)
    (answer,) = Engine.load(fusion_directory, threads=2).generate("fox", max_new_tokens=3)
    assert answer.text is not None


def test_surrogates_are_made_encodable() -> None:
    assert clean("a\ud800b") == "a\ufffdb"
    assert clean("\ud83d\ude00") == "\U0001f600"
    assert clean("a\x00b") == "a\x00b"


@pytest.mark.parametrize("template", ["", "no place", 7, ["{prompt}"], False, {"{prompt}": 1}])
def test_a_prompt_template_without_a_place_for_the_prompt(
    fusion_directory: Path, tmp_path: Path, template: object
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(fusion_directory, directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**config, "prompt_template": template}), encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"config\.json: prompt_template"):
        Engine.load(directory)
    (directory / "config.json").write_text(json.dumps({**config, "prompt_template": None}), encoding="utf-8")
    assert len(Engine.load(directory).generate("the fox", prompts="dog", max_new_tokens=2)) == 1
