"""Which script a text is written in, and which one its language should have: catches swapped columns early."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right

# First and last code point of the blocks that matter here (Unicode 15.1, Blocks.txt); letters elsewhere are "other".
RANGES: list[tuple[int, int, str]] = [
    (0x0041, 0x024F, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x077F, "Arabic"),
    (0x08A0, 0x08FF, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B00, 0x0B7F, "Oriya"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Myanmar"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x137F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1800, 0x18AF, "Mongolian"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x3040, 0x30FF, "Kana"),
    (0x3400, 0x4DBF, "Han"),
    (0x4E00, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFF, "Arabic"),
    (0x20000, 0x323AF, "Han"),
]
STARTS = [first for first, _, _ in RANGES]

# Scripts a language is usually written in (CLDR likelySubtags, plus the second script where one is in common use).
EXPECTED: dict[str, frozenset[str]] = {
    language: frozenset(scripts.split())
    for language, scripts in {
        "am": "Ethiopic", "ar": "Arabic", "bg": "Cyrillic", "bn": "Bengali", "bo": "Tibetan", "de": "Latin",
        "dz": "Tibetan", "el": "Greek", "en": "Latin", "es": "Latin", "fa": "Arabic", "fr": "Latin", "gu": "Gujarati",
        "he": "Hebrew", "hi": "Devanagari", "hy": "Armenian", "id": "Latin", "ja": "Kana Han", "ka": "Georgian",
        "kk": "Cyrillic Arabic", "km": "Khmer", "kn": "Kannada", "ko": "Hangul", "ky": "Cyrillic Arabic", "lo": "Lao",
        "ml": "Malayalam", "mn": "Cyrillic Mongolian", "mr": "Devanagari", "my": "Myanmar", "ne": "Devanagari",
        "or": "Oriya", "pa": "Gurmukhi", "ru": "Cyrillic", "si": "Sinhala", "sw": "Latin", "ta": "Tamil",
        "te": "Telugu", "th": "Thai", "tr": "Latin", "ug": "Arabic", "uk": "Cyrillic", "ur": "Arabic", "vi": "Latin",
        "zh": "Han",
    }.items()
}  # fmt: skip


def script_of(character: str) -> str | None:
    """Script of a letter or combining mark, None for digits, punctuation, white space and symbols."""
    if not (character.isalpha() or (not character.isascii() and not character.isspace() and _is_mark(character))):
        return None
    return block_of(character) or "other"


def block_of(character: str) -> str | None:
    """Script of the block that a character lies in, be it a letter, a digit or a sign; None outside of RANGES."""
    code = ord(character)
    index = bisect_right(STARTS, code) - 1
    return RANGES[index][2] if index >= 0 and code <= RANGES[index][1] else None


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def expected_share(text: str, language: str) -> float | None:
    """Share of the letters of `text` in a script of `language`; None without letters or for an unknown language."""
    wanted = EXPECTED.get(language.replace("_", "-").split("-")[0])
    if wanted is None:
        return None
    scripts = [script for script in map(script_of, text) if script is not None]
    if not scripts:
        return None
    return sum(script in wanted for script in scripts) / len(scripts)
