"""Ctrl-C during a long list, and that the pieces which make it possible change no answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine import Engine, pieces
from lrengine.errors import InvalidRequestError
from tiny import random_sources, tiny_classifier, tiny_fusion, tiny_swcm

MANY = random_sources([300]) * 5_000  # ten seconds of work
PATIENCE = 2.0  # seconds; a piece is made to take a fifth of one


@pytest.fixture(scope="module")
def swcm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return opened(tiny_swcm(), tmp_path_factory.mktemp("swcm"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return opened(tiny_classifier(), tmp_path_factory.mktemp("classifier"))


def opened(model: Any, directory: Path) -> Engine:
    model.save_pretrained(directory)
    return Engine.load(directory, threads=1)


def assert_ctrl_c_ends(call: Callable[[], object]) -> None:
    """A signal half a second after the start of `call` ends it soon."""
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, interrupt)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        call()
    ended = time.monotonic()
    timer.join()
    assert ended - sent[0] < PATIENCE


def test_ctrl_c_ends_classify_and_encode(classifier: Engine) -> None:
    before = classifier.classify(MANY[:1])
    assert_ctrl_c_ends(lambda: classifier.classify(MANY))
    assert_ctrl_c_ends(lambda: classifier.encode(MANY, "weights"))
    assert classifier.classify(MANY[:1]) == before


def test_ctrl_c_ends_score(swcm: Engine) -> None:
    before = swcm.score(MANY[:1], [[7, 8]])
    assert_ctrl_c_ends(lambda: swcm.score(MANY, [[7, 8]] * len(MANY)))
    assert swcm.score(MANY[:1], [[7, 8]]) == before


def test_ctrl_c_ends_the_reading_of_sources(swcm: Engine) -> None:
    """Within the first step, not after it: no row has a token then."""
    ids = [np.asarray(row, np.int32) for row in MANY]
    empty = [np.zeros(0, np.int32)] * len(ids)
    session = swcm._native.start(ids, empty, empty, {"max_new_tokens": 1}, None)
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        session.step()
    timer.join()
    assert session.done
    assert all(len(tokens) == 0 for ((tokens, _, _),) in session.results())


@pytest.fixture(params=[1, 50, 10**9], ids=["a row a piece", "a few rows", "all at once"])
def piece_tokens(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(pieces, "FIRST_TOKENS", request.param)
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0 if request.param == 1 else 1e9)
    yield request.param


LENGTHS = [7, 1, 300, 12, 0, 45, 3, 90, 2, 2, 2]


def test_pieces_change_no_bit(piece_tokens: int, swcm: Engine, classifier: Engine, tmp_path: Path) -> None:
    sources = random_sources(LENGTHS)
    targets = random_sources([3, 0, 1, 20, 2, 2, 9, 4, 1, 1, 5], seed=5, vocabulary=277)
    prompts = random_sources([4, 0, 9, 1, 30, 2, 0, 5, 1, 1, 1], seed=6, vocabulary=277)
    fusion = opened(tiny_fusion(encoder="mt5"), tmp_path)
    alone = [swcm.score([source], [target])[0] for source, target in zip(sources, targets, strict=True)]
    assert swcm.score(sources, targets) == alone
    rows = zip(sources, targets, prompts, strict=True)
    alone = [fusion.score([source], [target], prompts=[prompt])[0] for source, target, prompt in rows]
    assert fusion.score(sources, targets, prompts=prompts) == alone
    assert classifier.classify(sources) == [classifier.classify([source])[0] for source in sources]
    for found, source in zip(classifier.encode(sources, "all"), sources, strict=True):
        np.testing.assert_array_equal(found, classifier.encode([source], "all")[0])


def test_a_refused_row_has_its_number_in_the_whole_request(piece_tokens: int, swcm: Engine, classifier: Engine) -> None:
    sources = random_sources(LENGTHS)
    bad = [*sources[:9], [5, 331], *sources[9:]]
    for call in (classifier.classify, classifier.encode, lambda rows: swcm.score(rows, [[7]] * len(rows))):
        with pytest.raises(InvalidRequestError, match="source 9: token 1 has id 331"):
            call(bad)
    with pytest.raises(InvalidRequestError, match="target 6: token 0 has id 400"):
        swcm.score(sources, [*[[7]] * 6, [400], *[[7]] * 4])


def test_a_bad_source_is_refused_before_any_piece_is_computed(
    swcm: Engine, classifier: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pieces(*arguments: Any) -> Any:
        raise AssertionError("rows were computed")

    monkeypatch.setattr("lrengine.engine.in_pieces", no_pieces)
    for bad in ([5, 331], [-1], [5] * 400):
        rows = [*MANY[:100], bad]
        for call in (classifier.classify, classifier.encode, lambda rows: swcm.score(rows, [[7]] * len(rows))):
            with pytest.raises(InvalidRequestError, match="source 100"):
                call(rows)


def test_no_rows_are_still_a_request(classifier: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="they do not generate"):
        classifier.score([], [])


def test_pieces_grow_to_what_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short calls would leave processors idle, and long ones Ctrl-C unheard."""
    now = 0.0

    def work(piece: slice) -> list[int]:
        nonlocal now
        rows = list(range(3000))[piece]
        now += len(rows) * 10 * 1e-4  # 10,000 tokens a second
        sizes.append(len(rows))
        return rows

    sizes: list[int] = []
    monkeypatch.setattr(pieces.time, "monotonic", lambda: now)
    assert pieces.in_pieces(work, [10] * 3000) == list(range(3000))
    assert sizes[0] == pieces.FIRST_TOKENS // 10
    wanted = pieces.PIECE_SECONDS * 10_000 / 10
    assert all(0.9 * wanted <= size <= wanted for size in sizes[3:-1]), sizes
