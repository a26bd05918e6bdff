"""Which pieces a language may need, by script alone."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import decoders

from lrengine.data.scripts import EXPECTED, script_of
from lrengine.data.template import nearest
from lrengine.errors import DataError

_BYTE_LEVEL = decoders.ByteLevel()


def pieces_of_languages(pieces: Sequence[str | None], languages: Sequence[str], byte_level: bool) -> set[int]:
    """Ids of the pieces without a letter of another script than those of `languages`: digits, signs and symbols are in.
    DataError for a language of unknown script."""
    wanted: set[str] = set()
    for language in languages:
        if language not in EXPECTED:
            raise DataError(f"--languages: the script of '{language}' is not known{nearest(language, EXPECTED)}")
        wanted |= EXPECTED[language]
    return {index for index, piece in enumerate(pieces) if piece is not None and _fits(piece, wanted, byte_level)}


def _fits(piece: str, wanted: set[str], byte_level: bool) -> bool:
    text = _BYTE_LEVEL.decode([piece]) if byte_level else piece
    return all(script in wanted for script in map(script_of, text) if script is not None)
