"""Which rows the new vocabulary has, and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrengine.errors import ModelFileError


@dataclass(frozen=True)
class NewPiece:
    """A piece that the tokenizer did not have. Its embedding starts as the mean of those of `replaces`, the old ids
    that stood in its place."""

    text: str
    score: float
    replaces: tuple[int, ...]


class Rows:
    """New ids in order: `inside` (old ids of kept pieces, ascending), `new`, `outside` (old ids of added tokens that
    are no pieces of the tokenizer's model; they come last, as the tokenizers package numbers them)."""

    def __init__(self, inside: Sequence[int], new: Sequence[NewPiece], outside: Sequence[int]) -> None:
        self.inside, self.new, self.outside = list(inside), list(new), list(outside)
        self._new_ids = {old: number for number, old in enumerate(self.inside)}
        first = len(self.inside) + len(self.new)
        self._new_ids.update({old: first + number for number, old in enumerate(self.outside)})

    def __len__(self) -> int:
        return len(self.inside) + len(self.new) + len(self.outside)

    def __contains__(self, old: object) -> bool:
        return old in self._new_ids

    def new_id(self, old: int) -> int:
        """ModelFileError for an id that is not kept: a special id that no token has."""
        if old not in self._new_ids:
            raise ModelFileError(f"id {old} is named by the model's files, but is no token of its tokenizer")
        return self._new_ids[old]
