"""What the engine answers with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """One generated answer.

    text: the new text, without the prefix, the end token and, when a stop string ended it, that string. None for models
        without a tokenizer.
    tokens: the new ids, without the prefix and the end token.
    score: sum of the tokens' log-probabilities under the model itself (penalties, temperature and filters choose
        tokens, they do not change this number); the end token's is part of it.
    finish_reason: "stop" (end token or stop string), "length" or "cancelled".
    """

    text: str | None
    tokens: list[int]
    score: float
    finish_reason: str


@dataclass(frozen=True)
class Token:
    """One streamed token; the texts of a stream add up to what generate() returns. A token that ends in the middle of a
    character, or may begin a stop string, comes once its text is certain."""

    text: str | None
    token: int
    logprob: float


@dataclass(frozen=True)
class Classification:
    """The likeliest label, and every label's probability."""

    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Score:
    """Log-probability of a target, and of each of its tokens given those before."""

    logprob: float
    token_logprobs: list[float]
