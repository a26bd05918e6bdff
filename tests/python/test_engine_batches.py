"""What an input gets does not depend on its batch mates, on threads, or on other requests that run."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine import Engine
from tiny import LLM_VOCABULARY, random_sources, tiny_fusion, tiny_swcm

LENGTHS = [7, 1, 300, 12, 2, 45, 3, 90]
SOURCES = random_sources(LENGTHS)
PROMPTS = random_sources([4, 0, 9, 1, 30, 2, 0, 5], seed=6, vocabulary=LLM_VOCABULARY)
SEVERAL_ENDS = [2, *range(40, 70)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_beams": 4, "num_return_sequences": 3},
    {"num_beams": 2, "repetition_penalty": 1.4, "early_stopping": True},
    {"do_sample": True, "seed": 8, "top_p": 0.9, "num_return_sequences": 3},
    {"do_sample": True, "seed": 8, "num_beams": 3, "top_k": 20},
]


@pytest.fixture(scope="module", params=["swcm", "layer_fusion"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "swcm":
        tiny_swcm(tie_word_embeddings=False, eos_token_id=SEVERAL_ENDS).save_pretrained(directory)
    else:
        tiny_fusion(encoder="mt5", eos_token_id=SEVERAL_ENDS).save_pretrained(directory)
    return Engine.load(directory, threads=2)


def answer(engine: Engine, numbers: list[int], **options: Any) -> list[Any]:
    prompts = [PROMPTS[number] for number in numbers] if engine.model_type == "layer_fusion" else None
    return engine.generate([SOURCES[number] for number in numbers], prompts=prompts, max_new_tokens=9, **options)


@pytest.mark.parametrize("options", OPTIONS)
def test_alone_and_among_seven_others(engine: Engine, options: dict[str, Any]) -> None:
    """Equal dataclasses: tokens, reasons, and scores to the last bit."""
    together = answer(engine, list(range(8)), **options)
    for number in range(8):
        assert answer(engine, [number], **options) == [together[number]]
    backwards = answer(engine, list(range(7, -1, -1)), **options)
    assert backwards == together[::-1]


def test_scores_and_states_alone_and_together(engine: Engine) -> None:
    targets = random_sources([3, 8, 1, 20, 2, 2, 9, 4], seed=5, vocabulary=LLM_VOCABULARY)
    together, states = engine.score(SOURCES, targets), engine.encode(SOURCES, "all")
    for number in range(8):
        assert engine.score([SOURCES[number]], [targets[number]]) == [together[number]]
        np.testing.assert_array_equal(engine.encode([SOURCES[number]], "all")[0], states[number])


def test_threads_do_not_change_a_bit(tmp_path: Path) -> None:
    tiny_swcm().save_pretrained(tmp_path)
    one, three = Engine.load(tmp_path, threads=1), Engine.load(tmp_path, threads=3)
    options = {"num_beams": 3, "max_new_tokens": 9}
    assert one.generate(SOURCES, **options) == three.generate(SOURCES, **options)


def test_many_threads_may_use_one_engine(engine: Engine) -> None:
    expected = [answer(engine, [number]) for number in range(8)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: answer(engine, [number % 8]), range(24)))
    assert found == [expected[number % 8] for number in range(24)]


def test_a_stream_outlives_its_engine_and_ends_when_closed(tmp_path: Path) -> None:
    tiny_swcm(tie_word_embeddings=False).save_pretrained(tmp_path)
    engine = Engine.load(tmp_path, threads=1)
    (whole,) = engine.generate(SOURCES[:1], max_new_tokens=12)
    stream = engine.stream(SOURCES[:1], max_new_tokens=12)
    first = next(stream)
    del engine
    assert [first.token, next(stream).token] == whole.tokens[:2]
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_ctrl_c_ends_a_request_and_leaves_the_engine(engine: Engine) -> None:
    before = answer(engine, [0])
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while True:
            engine.generate(SOURCES, max_new_tokens=300, min_new_tokens=300)
    timer.join()
    assert answer(engine, [0]) == before


def test_other_python_threads_run_while_the_engine_computes(engine: Engine) -> None:
    worker = threading.Thread(target=engine.encode, args=([SOURCES[2]] * 60,))
    worker.start()
    turns = 0
    while worker.is_alive():
        turns += 1
    # With the lock held throughout, this thread would have had a turn before and one after.
    assert turns > 1000
