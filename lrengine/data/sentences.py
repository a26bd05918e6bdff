"""Sentence boundaries for the scripts this project serves; good enough to permute and to cut documents, no more."""

from __future__ import annotations

import re
from collections.abc import Callable

# Terminators: Latin/Cyrillic . ! ?, Chinese, Arabic (question mark U+061F, full stop U+06D4), danda, Tibetan shad
# (U+0F0D, U+0F0E), Mongolian (U+1803, U+1809), line breaks. A Latin full stop ends a sentence only before white space.
BOUNDARY = re.compile(
    r"(?:[.!?\u061f\u06d4\u0964\u0965\u1803\u1809]+[\"'\u201d\u2019)\u00bb]*(?=\s)"
    r"|[\u3002\uff01\uff1f]+[\u201d\u300d\uff09]*"
    r"|[\u0f0d\u0f0e]+)"
    r"\s*|\n+\s*"
)


def split_sentences(text: str) -> list[str]:
    """Pieces of `text`, each with the white space that follows it, so that joining them gives `text` again."""
    pieces = []
    start = 0
    for match in BOUNDARY.finditer(text):
        if match.end() > start:
            pieces.append(text[start : match.end()])
            start = match.end()
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def chunk_text(text: str, max_tokens: int, count_tokens: Callable[[str], int]) -> list[str]:
    """Cut a document into runs of whole sentences of at most `max_tokens` tokens each. A sentence that is longer
    stays one chunk (the tokenizer truncates it later)."""
    if count_tokens(text) <= max_tokens:
        return [text.strip()] if text.strip() else []
    chunks: list[str] = []
    current, used = "", 0
    for sentence in split_sentences(text):
        tokens = count_tokens(sentence)
        if current and used + tokens > max_tokens:
            chunks.append(current.strip())
            current, used = "", 0
        current += sentence
        used += tokens
    chunks.append(current.strip())
    return [chunk for chunk in chunks if chunk]
