"""BPE vocabularies: which pieces and merges must stay, and why a subset of the rest changes nothing.

BPE cuts a word into characters (or bytes) and joins again and again the leftmost pair whose merge has the lowest rank.

Claim. Let M' be some of the merges M, in M's order, with all that M applies to a word. M' cuts the word the same way.
Proof. At every step M's choice, the first applicable merge, is in M' and applicable; no merge of M' comes before it, as
it would in M. When M has none left, M' has none.

Which merges does M apply? Those inside a final piece's span are the ones that M applies to the piece alone: until the
piece is whole no merge crosses its ends, and the first applicable merge of the word that lies in the span is the first
of the span. So the kept pieces are closed under "what joining this piece's characters goes through" (`closed`), and
every merge whose two sides and result are kept stays (`rewritten`). With `ignore_merges` a word that is a piece is not
cut at all; if it is kept, that is so for the trimmed vocabulary too, and if V lacks it, so does every subset.
"""

from __future__ import annotations

from typing import Any

from lrengine.errors import UnsupportedModelError
from lrengine.trim.unigram import is_byte

Pair = tuple[str, str]


def check(model: dict[str, Any]) -> None:
    """Raises UnsupportedModelError for affixes: the text of a merge's result is then not that of its sides."""
    for field in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(field):
            raise UnsupportedModelError(f"a BPE tokenizer with {field} {model[field]!r} cannot be trimmed")


def pieces(model: dict[str, Any]) -> list[str | None]:
    """Id -> piece of a BPE section of tokenizer.json; None where an id has no piece."""
    vocabulary: dict[str, int] = model["vocab"]
    names: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for piece, index in vocabulary.items():
        names[index] = piece
    return names


def merges(model: dict[str, Any]) -> list[Pair]:
    """In rank order; old files write a pair as one string with a space."""
    pairs = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        pairs.append((left, right))
    return pairs


def required(model: dict[str, Any], byte_level: bool) -> set[int]:
    """<unk>, fallback bytes, and with a byte-level pre-tokenizer the 256 symbols that stand for bytes."""
    vocabulary: dict[str, int] = model["vocab"]
    needed = {index for piece, index in vocabulary.items() if model.get("byte_fallback") and is_byte(piece)}
    if byte_level:
        needed |= {index for piece, index in vocabulary.items() if len(piece) == 1}
    if model.get("unk_token") in vocabulary:
        needed.add(vocabulary[model["unk_token"]])
    return needed


def closed(model: dict[str, Any], wanted: set[int]) -> set[int]:
    """`wanted` and every piece that merging leads through on the way to one of them."""
    vocabulary: dict[str, int] = model["vocab"]
    names = pieces(model)
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges(model))))}
    kept = set(wanted)
    for index in wanted:
        kept |= {vocabulary[part] for part in _path(names[index] or "", ranks) if part in vocabulary}
    return kept


def rewritten(model: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """The section with the `kept` ids in this order and every merge among them."""
    names = pieces(model)
    vocabulary = {names[old]: new for new, old in enumerate(kept)}
    left_over = [
        [left, right]
        for left, right in merges(model)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    return {**model, "vocab": vocabulary, "merges": left_over}


def _path(piece: str, ranks: dict[Pair, int]) -> set[str]:
    """Everything that stands in the word at some moment while BPE joins `piece`."""
    symbols = list(piece)
    seen = set(symbols)
    while len(symbols) > 1:
        rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(zip(symbols, symbols[1:])))  # noqa: B905
        if rank == len(ranks):
            break
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        seen.add(symbols[at])
    return seen
