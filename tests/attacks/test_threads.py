"""Threads, forks, and requests that are dropped or fail half way: BAD_INPUTS 12. Whatever happens to one request, the
others get their answers."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine import Engine
from lrengine.errors import InvalidRequestError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import small_tokenizers  # noqa: E402

from tiny import tiny_swcm  # noqa: E402

SOURCES = [[0, 7 + row, 8, 9, 2] for row in range(8)]
TOKENS = 6


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("swcm")
    tiny_swcm(tie_word_embeddings=False).save_pretrained(directory)
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return directory


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(directory, device="cpu", threads=2)


@pytest.fixture(scope="module")
def expected(engine: Engine) -> list[list[int]]:
    return [answer.tokens for answer in engine.generate(SOURCES, max_new_tokens=TOKENS, suppress_tokens=[2])]


def tokens(engine: Engine, row: int) -> list[int]:
    return engine.generate([SOURCES[row]], max_new_tokens=TOKENS, suppress_tokens=[2])[0].tokens


def streamed(engine: Engine, row: int) -> list[int]:
    return [token.token for token in engine.stream([SOURCES[row]], max_new_tokens=TOKENS, suppress_tokens=[2])]


def bad_id(engine: Engine, row: int) -> list[int]:
    with pytest.raises(InvalidRequestError, match="id 9999"):
        engine.generate([[9999]])
    return tokens(engine, row)


def test_eight_threads_on_one_engine(engine: Engine, expected: list[list[int]]) -> None:
    calls: list[Callable[[Engine, int], list[int]]] = [tokens, streamed, bad_id]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(calls[turn % 3], engine, turn % 8) for turn in range(120)]
        for turn, future in enumerate(futures):
            assert future.result(timeout=120) == expected[turn % 8]


def test_load_and_drop_while_others_run(directory: Path, engine: Engine, expected: list[list[int]]) -> None:
    stop = threading.Event()

    def run(row: int) -> bool:
        right = True
        while not stop.is_set():
            right = right and tokens(engine, row) == expected[row]
        return right

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(run, row) for row in range(3)]
        try:
            for row in range(8):
                assert tokens(Engine.load(directory, device="cpu", threads=2), row) == expected[row]
        finally:
            stop.set()
        assert all(future.result(timeout=120) for future in running)


def test_a_stream_keeps_its_engine(directory: Path, expected: list[list[int]]) -> None:
    own = Engine.load(directory, device="cpu", threads=2)
    stream = own.stream([SOURCES[0]], max_new_tokens=TOKENS, suppress_tokens=[2])
    heard = [next(stream).token]
    del own
    gc.collect()
    with ThreadPoolExecutor(1) as pool:  # and may go to another thread
        heard += pool.submit(lambda: [token.token for token in stream]).result(timeout=120)
    assert heard == expected[0]


@pytest.mark.parametrize("after", [0, 1, 3, TOKENS])
def test_streams_end_where_they_are_closed(engine: Engine, expected: list[list[int]], after: int) -> None:
    stream: Any = engine.stream([SOURCES[1]], max_new_tokens=TOKENS, suppress_tokens=[2])
    assert [next(stream).token for _ in range(after)] == expected[1][:after]
    stream.close()
    stream.close()
    assert list(stream) == []
    assert tokens(engine, 1) == expected[1]


def test_sessions_can_be_cancelled_before_they_start_and_twice(engine: Engine, expected: list[list[int]]) -> None:
    empty = [np.zeros(0, np.int32)]
    session = engine._native.start([np.asarray(SOURCES[0], np.int32)], empty, empty, {}, None)
    session.cancel()
    session.cancel()
    session.step()
    assert session.done and session.results()[0][0][0].tolist() == []
    session.cancel()
    assert tokens(engine, 0) == expected[0]


class CallbackError(Exception):
    pass


def test_an_exception_of_a_stop_hook_reaches_the_caller(engine: Engine, expected: list[list[int]]) -> None:
    """What looks for stop strings is called by the engine, between steps, on the caller's thread."""

    def hook(source: int, tokens: Any) -> bool:
        if len(tokens) == 2:
            raise CallbackError(f"row {source}")
        return False

    empty = [np.zeros(0, np.int32)]
    options = {"max_new_tokens": TOKENS, "suppress_tokens": [2]}
    session = engine._native.start([np.asarray(SOURCES[0], np.int32)], empty, empty, options, hook)
    session.step()
    with pytest.raises(CallbackError, match="row 0"):
        for _ in range(TOKENS):
            session.step()
    assert session.done and session.results()[0][0][0].tolist() == expected[0][:1]
    assert tokens(engine, 0) == expected[0]


def test_an_exception_in_a_loop_over_a_stream_ends_it(engine: Engine, expected: list[list[int]]) -> None:
    with pytest.raises(CallbackError):
        for _ in engine.stream([SOURCES[0]], max_new_tokens=TOKENS, suppress_tokens=[2]):
            raise CallbackError
    assert tokens(engine, 0) == expected[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it has threads is the point
def test_a_forked_child_may_use_the_engine(directory: Path, engine: Engine, expected: list[list[int]]) -> None:
    stream = engine.stream([SOURCES[2]], max_new_tokens=TOKENS, suppress_tokens=[2])
    begun = [next(stream).token]
    for _ in range(3):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child that hangs is a failure
            right = False
            try:
                right = tokens(engine, 0) == expected[0]
                right = right and begun + [token.token for token in stream] == expected[2]
                right = right and tokens(Engine.load(directory, device="cpu", threads=2), 1) == expected[1]
            finally:
                os._exit(0 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert begun + [token.token for token in stream] == expected[2]
