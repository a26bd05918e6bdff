"""What a type checker knows about the engine's answers: read by mypy in `make lint`, never run.

An unused `type: ignore` is an error here, so each of them says that the line is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import assert_type

    from lrengine import Classification, Engine, Generation, Score, Token


def generate(engine: Engine, count: int) -> None:
    assert_type(engine.generate("text"), list[Generation])
    assert_type(engine.generate(["a", "b"], num_beams=4, stop=["."]), list[Generation])
    assert_type(engine.generate([[5, 6]], num_return_sequences=1, seed=None), list[Generation])
    assert_type(engine.generate("text", num_beams=4, num_return_sequences=4), list[list[Generation]])
    assert_type(
        engine.generate("text", num_return_sequences=count, do_sample=True), list[Generation] | list[list[Generation]]
    )
    print(engine.generate("text", max_new_tokens=8)[0].text)

    engine.generate("text", num_beems=4)  # type: ignore[call-overload]
    engine.generate("text", num_beams="4")  # type: ignore[call-overload]
    engine.generate(5)  # type: ignore[call-overload]


def stream(engine: Engine) -> None:
    assert_type(engine.stream("text", temperature=0.7, prefix=[5], suppress_tokens=[3]), Iterator[Token])
    engine.stream("text", num_beams=2)  # type: ignore[call-arg]
    engine.stream("text", top_k=0.5)  # type: ignore[arg-type]


def other_calls(engine: Engine) -> None:
    assert_type(engine.classify(["a"]), list[Classification])
    assert_type(engine.score(["a"], ["b"]), list[Score])
    engine.score(["a"])  # type: ignore[call-arg]
