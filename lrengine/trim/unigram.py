"""Unigram vocabularies: which pieces must stay, and why a subset of the rest changes nothing.

A Unigram tokenizer chooses, among all ways to cut a word into pieces, the one with the largest sum of scores. A place
where no piece of one character starts has an edge <unk> of that character, with the score `min(scores) - 10`.

Claim. Let S be kept pieces with <unk> and one piece of the smallest score among them. If every piece that the full
vocabulary V uses for a word is in S, then S cuts the word the same way.

Proof. <unk>'s score is the same in both, as the smallest score is. Every edge of S is an edge of V, but for an <unk>
where V has a piece of one character that S has not; that <unk> scores at least 10 less than the piece. So the best sum
at any position under S is at most that under V, and on V's path it is equal, as the path is there. Ties: the search
goes through start positions in order and replaces its choice only for a larger sum. A cut that reaches the best sum
under S reaches it under V (the new <unk> edges lie strictly below), so V's choice, the first of those, is the first
under S as well. Adding rounded numbers keeps their order, so the argument holds in floating point too.
"""

from __future__ import annotations

from typing import Any


def pieces(model: dict[str, Any]) -> list[str]:
    """Id -> piece of a Unigram section of tokenizer.json."""
    return [piece for piece, _ in model["vocab"]]


def required(model: dict[str, Any]) -> set[int]:
    """<unk>, a piece of the smallest score, and the bytes that unknown characters fall back to."""
    vocabulary = model["vocab"]
    needed = {min(range(len(vocabulary)), key=lambda index: vocabulary[index][1])}
    if model.get("unk_id") is not None:
        needed.add(model["unk_id"])
    if model.get("byte_fallback"):
        needed |= {index for index, (piece, _) in enumerate(vocabulary) if is_byte(piece)}
    return needed


def is_byte(piece: str) -> bool:
    """Whether a piece is a fallback byte, as in <0x0A>."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def closed(model: dict[str, Any], wanted: set[int]) -> set[int]:
    """`wanted` and every character in it that is a piece, so that new words of known letters have no <unk>."""
    vocabulary = model["vocab"]
    characters = set().union(*(vocabulary[index][0] for index in wanted)) if wanted else set()
    return wanted | {index for index, (piece, _) in enumerate(vocabulary) if len(piece) == 1 and piece in characters}


def rewritten(model: dict[str, Any], kept: list[int], added: list[tuple[str, float]]) -> dict[str, Any]:
    """The section with the `kept` ids in this order, then the `added` pieces with their scores."""
    vocabulary = model["vocab"]
    unk_id = model.get("unk_id")
    return {
        **model,
        "unk_id": None if unk_id is None else kept.index(unk_id),
        "vocab": [vocabulary[index] for index in kept] + [[piece, score] for piece, score in added],
    }
