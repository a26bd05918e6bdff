"""Requests that break engines. Each gets a typed error that names the argument, what was found and
what was expected, or a proper answer; and the engine answers the next request as before."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine import Engine
from lrengine.errors import DeviceError, InvalidRequestError, LrengineError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import small_tokenizers  # noqa: E402

from tiny import tiny_classifier, tiny_fusion, tiny_swcm  # noqa: E402

GOOD = [[0, 7, 8, 9, 2]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("swcm")
    tiny_swcm(tie_word_embeddings=False).save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return Engine.load(directory, threads=1)


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:
    """The engine; afterwards it must answer as it did before."""
    before = shared.generate(GOOD, max_new_tokens=4)
    yield shared
    assert shared.generate(GOOD, max_new_tokens=4) == before


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("fusion")
    tiny_fusion(encoder="xlm-roberta").save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    small_tokenizers.save(small_tokenizers.byte_level(), directory / "llm")
    return Engine.load(directory, threads=1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("classifier")
    tiny_classifier().save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return Engine.load(directory, threads=1)


# 8. ids


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([5, -1], "id -1, expected 0 to 330"),
        ([5, 331], "id 331, expected 0 to 330"),
        ([2**31], r"inputs\[0\]: found list \[2147483648\], expected ids"),
        ([2**80], r"inputs\[0\]: found list"),
        ([5.0], r"inputs\[0\]: found list \[5.0\], expected a list of token ids \(integers\)"),
        ([math.nan], r"inputs\[0\]"),
        ([True], r"inputs\[0\]"),
        (["a"], r"inputs\[0\]"),
        ([None], r"inputs\[0\]"),
        ([[5]], r"inputs\[0\]"),
        ([5, [6]], r"inputs\[0\]"),
        (np.zeros((2, 2), int), r"inputs\[0\]"),
    ],
)
def test_ids_that_are_none(engine: Engine, row: Any, message: str) -> None:
    for call in (engine.generate, engine.encode, lambda inputs: engine.score(inputs, [[5]])):
        with pytest.raises(InvalidRequestError, match=message):
            call([row])
    with pytest.raises(InvalidRequestError):
        engine.score(GOOD, [row])


@pytest.mark.parametrize("inputs", [None, 7, b"text", {"a": 1}, [7, 8], [b"text"], [None], object()])
def test_inputs_that_are_neither_text_nor_ids(engine: Engine, inputs: Any) -> None:
    with pytest.raises(InvalidRequestError, match="inputs.*: found .*expected"):
        engine.generate(inputs)


def test_an_empty_batch_has_no_answers(engine: Engine, classifier: Engine) -> None:
    assert engine.generate([]) == []
    assert engine.generate([], num_beams=2, num_return_sequences=2) == []
    assert engine.score([], []) == [] and engine.encode([]) == []
    assert classifier.classify([]) == [] and engine.classify([], ["a", "b"]) == []


def test_an_empty_row_gets_an_answer(engine: Engine, fusion: Engine, classifier: Engine) -> None:
    for generating in (engine, fusion):
        for options in ({}, {"num_beams": 3}):
            empty, full = generating.generate([[], [7, 8]], max_new_tokens=4, **options)
            assert len(empty.tokens) > 0 and math.isfinite(empty.score)
            assert generating.generate([[7, 8]], max_new_tokens=4, **options) == [full]
    assert engine.encode([[]])[0].shape == (0, 72)
    assert sum(classifier.classify([[]])[0].scores.values()) == pytest.approx(1.0)
    assert engine.score([[]], [[]])[0].token_logprobs == []
    (answer,) = engine.generate("", max_new_tokens=2)
    assert answer.text is not None


def test_unknown_text_gets_an_answer(engine: Engine) -> None:
    unknown = "\U00012000\U00012001 \U00012002"
    (answer,) = engine.generate(unknown, max_new_tokens=3)
    assert len(answer.tokens) == 3


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "\ud800", "x\udfffy", "\ud83d\ude00", "\u202e\ufeff", "a" * 200])
def test_odd_text_gets_an_answer(engine: Engine, text: str) -> None:
    (answer,) = engine.generate(text, max_new_tokens=2, prefix=text[:3], stop=text + "!")
    assert answer.finish_reason in ("stop", "length")
    assert math.isfinite(engine.score("fox", text)[0].logprob)


def test_a_stop_string_of_megabytes_costs_no_time(engine: Engine) -> None:
    """It was compared in all of its beginnings, each a copy, at every token: minutes."""
    started = time.monotonic()
    assert len(list(engine.stream(GOOD, stop=["a" * 10**6, "e" * 10**6], max_new_tokens=8))) == 8
    assert time.monotonic() - started < 20


def test_one_long_row_among_short_ones(engine: Engine) -> None:
    rows = [[7], [8] * 300, [9]]
    assert engine.generate(rows, max_new_tokens=3)[0] == engine.generate(rows[:1], max_new_tokens=3)[0]


def test_rows_longer_than_the_models_positions(engine: Engine, fusion: Engine, classifier: Engine) -> None:
    for one in (engine, fusion, classifier):
        with pytest.raises(InvalidRequestError, match="has 331 tokens, the encoder takes at most 330"):
            one.encode([[7], [7] * 331])
    with pytest.raises(InvalidRequestError, match="source 1"):
        engine.generate([[7], [7] * 5000])
    with pytest.raises(InvalidRequestError, match="positions"):
        fusion.generate([[7]], prompts=[[7] * 700])
    with pytest.raises(InvalidRequestError, match="positions"):
        engine.score(GOOD, [[7] * 400])


def test_a_row_that_fills_the_positions_ends_there(engine: Engine) -> None:
    (answer,) = engine.generate(GOOD, prefix=[7] * 320, max_new_tokens=10**9, suppress_tokens=[2])
    assert answer.finish_reason == "length" and 0 < len(answer.tokens) <= 10


# 9. options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams: found 0, expected at least 1"),
        ({"num_beams": -2}, "num_beams: found -2"),
        ({"num_beams": 332}, "num_beams: found 332, expected at most the vocabulary's size, 331"),
        ({"num_beams": 2**70}, "num_beams: found"),
        ({"num_beams": 2.0}, "num_beams: found 2.0, expected an integer"),
        ({"num_beams": True}, "num_beams: found True, expected an integer"),
        ({"num_beams": None}, "num_beams: found None"),
        ({"num_beams": "2"}, "num_beams: found '2'"),
        ({"top_k": -1}, "top_k: found -1"),
        ({"top_p": 0.0}, "top_p: found 0, expected a number over 0 and at most 1"),
        ({"top_p": 1.01}, "top_p: found 1.01"),
        ({"top_p": -0.5}, "top_p"),
        ({"top_p": math.nan}, "top_p: found nan"),
        ({"top_p": "0.5"}, "top_p: found '0.5', expected a number"),
        ({"temperature": 0.0}, "temperature: found 0, expected a finite number over 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature: found nan"),
        ({"temperature": math.inf}, "temperature: found inf"),
        ({"temperature": 10**400}, "temperature: found"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, "repetition_penalty"),
        ({"length_penalty": math.nan}, "length_penalty: found nan"),
        ({"length_penalty": math.inf}, "length_penalty"),
        ({"max_new_tokens": 0}, "max_new_tokens: found 0"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens: found 9, expected at most max_new_tokens"),
        ({"num_return_sequences": 2}, "num_return_sequences: found 2, expected at most num_beams, which is 1"),
        ({"num_return_sequences": 4, "num_beams": 3}, "num_return_sequences: found 4"),
        ({"num_return_sequences": 0}, "num_return_sequences: found 0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size"),
        ({"early_stopping": "always"}, "early_stopping: found 'always', expected True, False or \"never\""),
        ({"early_stopping": 1}, "early_stopping: found 1"),
        ({"do_sample": 1}, "do_sample: found 1, expected True or False"),
        ({"seed": -1}, "seed: found -1"),
        ({"seed": 2**64}, "seed: found"),
        ({"seed": 1.5}, "seed: found 1.5"),
        ({"suppress_tokens": [331]}, "suppress_tokens: found 331"),
        ({"suppress_tokens": [-1]}, "suppress_tokens: found -1"),
        ({"suppress_tokens": [1.5]}, "suppress_tokens: found 1.5"),
        ({"suppress_tokens": "ab"}, "suppress_tokens: found 'ab'"),
        ({"suppress_tokens": 5}, "suppress_tokens: found 5"),
        ({"suppress_tokens": list(range(331))}, "suppress_tokens: found the whole vocabulary"),
        ({"stop": ""}, "stop: found str '', expected"),
        ({"stop": ["x", ""]}, "stop: found"),
        ({"stop": 5}, "stop: found int 5"),
        ({"prefix": [7] * 400}, "positions"),
        ({"prefix": [331]}, "id 331"),
        ({"prefix": [1.5]}, "prefix"),
        ({"prefix": ["a", "b"]}, "prefix: found 2, expected one for each of 1 inputs"),
        ({"prompts": "x"}, "prompts: swcm models take none"),
    ],
)
def test_options_that_make_no_sense(engine: Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        engine.generate(GOOD, **options)
    # The same checks when sampling, and before a stream is iterated.
    with pytest.raises(InvalidRequestError):
        engine.generate(GOOD, **{"do_sample": True, "num_return_sequences": 1, **options, "num_beams": 0})
    with pytest.raises(InvalidRequestError):
        engine.stream(GOOD, **options)


def test_filters_wider_than_the_vocabulary_keep_it_all(engine: Engine) -> None:
    wide = engine.generate(GOOD, do_sample=True, seed=1, top_k=10**6, max_new_tokens=5)
    assert wide == engine.generate(GOOD, do_sample=True, seed=1, max_new_tokens=5)


def test_options_that_do_not_exist(engine: Engine) -> None:
    with pytest.raises(TypeError, match="beams"):
        engine.generate(GOOD, beams=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'beams'"):
        engine.stream(GOOD, beams=2)


def test_streams_are_one_row(engine: Engine) -> None:
    for options in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(InvalidRequestError, match="a stream is one row"):
            engine.stream(GOOD, **options)
    for inputs in ([], GOOD * 2):
        with pytest.raises(InvalidRequestError, match="expected one"):
            engine.stream(inputs)


def test_labels(engine: Engine, classifier: Engine) -> None:
    for one in (engine, classifier):
        for labels in ([], ["red", "red"], "red", [1], [["red"]]):
            with pytest.raises(InvalidRequestError, match="labels: found"):
                one.classify(GOOD, labels)  # type: ignore[arg-type]
    assert engine.classify(GOOD, ["fox"])[0].scores == {"fox": 1.0}
    assert classifier.classify(GOOD, ["red"])[0].scores == {"red": 1.0}
    with pytest.raises(InvalidRequestError, match="labels: found none"):
        engine.classify(GOOD)
    with pytest.raises(InvalidRequestError, match="labels: found 'pink', expected some of red, green, blue"):
        classifier.classify(GOOD, ["pink"])


def test_a_refused_input_or_label_has_its_own_number(engine: Engine) -> None:
    """Not that of the pair of both, which is what is scored."""
    with pytest.raises(InvalidRequestError, match="source 1: token 0 has id 331"):
        engine.classify([[7], [331]], ["fox", "dog"])
    with pytest.raises(InvalidRequestError, match="source 2 has 331 tokens"):
        engine.classify([[7], [7], [7] * 331], ["fox", "dog"])
    with pytest.raises(InvalidRequestError, match=r"labels\[1\]: source 0 needs .* positions"):
        engine.classify([[7], [7]], ["fox", "dog " * 400])


def test_targets_and_prompts_of_another_number(engine: Engine, fusion: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="targets: found 2, expected one for each of 1 inputs"):
        engine.score(GOOD, [[7], [8]])
    with pytest.raises(InvalidRequestError, match="prompts: found 2, expected one for each of 1 inputs"):
        fusion.generate(GOOD, prompts=["a", "b"])


def test_calls_that_the_model_cannot_answer(engine: Engine, classifier: Engine) -> None:
    for call in (classifier.generate, classifier.stream, lambda inputs: classifier.score(inputs, [[5]])):
        with pytest.raises(InvalidRequestError, match="classify and encode; they do not generate"):
            call(GOOD)
    with pytest.raises(InvalidRequestError):
        engine.encode(GOOD, "weights")
    for output in ("middle", "", None, 3):
        with pytest.raises(InvalidRequestError, match="output: found"):
            engine.encode(GOOD, output)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device": "cuda"}, DeviceError),
        ({"device": "cuda:1"}, DeviceError),
        ({"device": "tpu"}, InvalidRequestError),
        ({"device": ""}, InvalidRequestError),
        ({"dtype": "float7"}, InvalidRequestError),
        ({"dtype": "int64"}, LrengineError),
        ({"threads": 0}, InvalidRequestError),
        ({"threads": -1}, InvalidRequestError),
        ({"threads": 10**9}, InvalidRequestError),
        ({"threads": "2"}, InvalidRequestError),
    ],
)
def test_ways_to_load_that_do_not_exist(tmp_path: Path, options: dict[str, Any], error: type[LrengineError]) -> None:
    tiny_swcm().save_pretrained(tmp_path)
    with pytest.raises(error):
        Engine.load(tmp_path, **options)


class Unreadable:
    """An argument whose every method raises."""

    def __len__(self) -> int:
        raise RuntimeError("mine")

    __iter__ = __repr__ = __len__  # type: ignore[assignment]


ODD: list[Any] = ["\ud800", np.array([5, 6]), np.array(5), np.array([], object), b"x", {}, lambda: 0, 10**400, [[]] * 2]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_arguments_of_odd_types(engine: Engine, value: Any) -> None:
    """Whatever is handed over where a number or a name belongs: the same error, and never one from within."""
    for option in ("max_new_tokens", "top_k", "seed", "num_beams", "early_stopping", "temperature", "do_sample"):
        if isinstance(value, np.ndarray) and value.ndim == 0 and option not in ("early_stopping", "do_sample"):
            continue  # a number
        with pytest.raises(InvalidRequestError, match=f"{option}: found .*expected"):
            engine.generate(GOOD, **{"num_beams": 1, option: value})
    with pytest.raises(InvalidRequestError, match="output: found .*expected"):
        engine.encode(GOOD, value)


def test_an_arguments_own_exception_reaches_the_caller(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        engine.generate(GOOD, max_new_tokens=Unreadable())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="mine"):
        engine.generate(Unreadable())  # type: ignore[arg-type]


def test_an_array_of_no_dimension_is_no_list(engine: Engine) -> None:
    for call in (engine.generate, engine.encode, lambda inputs: engine.classify(inputs, ["a", "b"])):
        with pytest.raises(InvalidRequestError, match="inputs: found .*expected"):
            call(np.array(5))
    with pytest.raises(InvalidRequestError, match="text: found .*expected text"):
        engine.pieces(["a"])  # type: ignore[arg-type]


def test_a_long_value_is_shown_in_part(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match=r"max_new_tokens: found .{150,250}\.\.\., expected an integer"):
        engine.generate(GOOD, max_new_tokens=list(range(10**5)))  # type: ignore[arg-type]
