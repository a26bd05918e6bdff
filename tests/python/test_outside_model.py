"""The engine's searches over logits that Python computes (csrc/bindings/outside_model.h)."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from lrengine import _engine
from lrengine.errors import InvalidRequestError, LrengineError
from lrengine.request import Ids

VOCABULARY, END = 13, 2
SOURCES = [np.asarray(row, np.int32) for row in ([3], [4, 5], [6, 7, 8])]
START = [np.zeros(1, np.int32)] * len(SOURCES)
NOTHING = [np.zeros(0, np.int32)] * len(SOURCES)


def logits_after(source: int, history: list[int]) -> np.ndarray:
    """Any function of the source and all tokens, so that a wrong row or a wrong history gives other tokens."""
    seed = [source, *history]
    return np.random.default_rng(seed).normal(size=VOCABULARY).astype(np.float32) * 2


class Toy:
    """Remembers what every slot was fed, as a cache does."""

    def __init__(self, rows_per_source: int, max_new_tokens: int) -> None:
        self.capacity = 1 + max_new_tokens
        self.prefill_lengths = [1] * len(SOURCES)
        self.cache = np.full((len(SOURCES) * rows_per_source, self.capacity), -1)
        self.rows_per_source = rows_per_source

    def prefill(self) -> np.ndarray:
        self.cache[:: self.rows_per_source, 0] = 0
        return np.stack([logits_after(source, [0]) for source in range(len(SOURCES))])

    def step(self, tokens: Ids, slots: Ids, sources: Ids, lengths: Ids, history: Ids | None) -> np.ndarray:
        self.cache[slots, lengths] = tokens
        rows = []
        for row, (slot, source, length) in enumerate(zip(slots, sources, lengths, strict=True)):
            of = [slot] * (length + 1) if history is None else history[row, : length + 1]
            rows.append(logits_after(source, [int(self.cache[s, t]) for t, s in enumerate(of)]))
        return np.stack(rows)


def start(begin: Any, stop: Any = None, **options: Any) -> _engine.Session:
    return _engine.start_outside(begin, VOCABULARY, 0, [END], SOURCES, NOTHING, START, options, stop)


def finish(session: _engine.Session) -> list[list[tuple[list[int], str]]]:
    while not session.done:
        session.step()
    return [[(tokens.tolist(), reason) for tokens, _, reason in row] for row in session.results()]


def test_greedy_takes_the_likeliest_token_of_every_row() -> None:
    for source, [(tokens, reason)] in enumerate(finish(start(Toy, max_new_tokens=9))):
        expected: list[int] = []
        while len(expected) < 9 and (token := int(logits_after(source, [0, *expected]).argmax())) != END:
            expected.append(token)
        assert tokens == expected
        assert reason == ("length" if len(expected) == 9 else "stop")


def test_beams_read_their_own_histories() -> None:
    """A beam's score is the sum of what the model gives to its own tokens."""
    session = start(Toy, max_new_tokens=7, num_beams=4, num_return_sequences=4, length_penalty=0.0)
    finish(session)
    for source, row in enumerate(session.results()):
        for tokens, log_probs, reason in row:
            fed, expected = [0], []
            for token in [*tokens.tolist(), *([END] if reason == "stop" else [])]:
                logits = logits_after(source, fed).astype(np.float64)
                expected.append(logits[token] - np.log(np.exp(logits).sum()))
                fed.append(token)
            np.testing.assert_allclose(log_probs, expected, atol=1e-5)


def test_options_are_checked_before_the_model_is_asked() -> None:
    with pytest.raises(InvalidRequestError, match="num_beams"):
        start(lambda *_: pytest.fail("the model was asked"), num_beams=VOCABULARY + 1)


@pytest.mark.parametrize("where", ["prefill", "step"])
def test_what_the_model_raises_ends_the_request_and_reaches_the_caller(where: str) -> None:
    class Broken(Toy):
        pass

    setattr(Broken, where, lambda *_: (_ for _ in ()).throw(KeyError("the model's own")))
    session = start(Broken, max_new_tokens=5, min_new_tokens=5)
    with pytest.raises(KeyError, match="the model's own"):
        finish(session)
    assert session.done
    assert session.results()[0][0][2] == "cancelled"


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((len(SOURCES), VOCABULARY), np.float64),
        np.zeros((len(SOURCES), VOCABULARY + 1), np.float32),
        np.zeros((1, VOCABULARY), np.float32),
        np.zeros(VOCABULARY, np.float32),
        np.zeros((VOCABULARY, len(SOURCES)), np.float32).T,
        None,
    ],
)
def test_logits_of_another_form_are_refused(wrong: Any) -> None:
    class Wrong(Toy):
        def prefill(self) -> Any:
            return wrong

    with pytest.raises(LrengineError, match="logits"):
        start(Wrong).step()


def test_nothing_keeps_the_model_after_the_session() -> None:
    states: list[weakref.ref[Toy]] = []

    def begin(*arguments: int) -> Toy:
        state = Toy(*arguments)
        states.append(weakref.ref(state))
        return state

    session = start(begin, max_new_tokens=3)
    session.step()
    assert states[0]() is not None
    del session
    gc.collect()
    assert states[0]() is None
