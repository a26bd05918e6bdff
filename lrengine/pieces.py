"""A long native call in pieces: Python hears Ctrl-C between native calls, and inside of one between layers alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from lrengine.errors import InvalidRequestError, UnsupportedModelError

Answer = TypeVar("Answer")

PIECE_SECONDS = 0.2
FIRST_TOKENS = 256  # under half a second for a base-sized model on two cores; what follows is measured


def in_pieces(call: Callable[[slice], list[Answer]], tokens: Sequence[int]) -> list[Answer]:
    """`call` over all rows, in order, in pieces of about PIECE_SECONDS (of one row at least). tokens: of each row.

    Rows are independent, so the cuts change no answer. Raises what `call` raises."""
    answers: list[Answer] = []
    budget, start = FIRST_TOKENS, 0
    while True:
        end = _end_of_piece(tokens, start, budget)
        began = time.monotonic()
        try:
            answers += call(slice(start, end))
        except (InvalidRequestError, UnsupportedModelError):
            if start > 0:
                # A refusal names a row by its number in the call. Rows are checked before anything is computed, so the
                # whole request is refused at once, with the number that the caller knows.
                call(slice(None))
            raise
        if end >= len(tokens):
            return answers
        seconds = max(time.monotonic() - began, 1e-6)
        budget = max(1, min(4 * budget, int(sum(tokens[start:end]) * PIECE_SECONDS / seconds)))
        start = end


def _end_of_piece(tokens: Sequence[int], start: int, budget: int) -> int:
    """Where a piece of at most `budget` tokens ends that begins at row `start` and has a row if there is one."""
    end, total = start, 0
    while end < len(tokens) and (end == start or total + tokens[end] <= budget):
        total += tokens[end]
        end += 1
    return end
