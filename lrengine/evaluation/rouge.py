"""ROUGE-L for any script.

The usual `rouge_score` package keeps only `[a-z0-9]` of a text (its tokenizers.py lower-cases and replaces everything
else by spaces), so it scores every Tibetan, Uyghur or Chinese text as empty. Here a token is what the script's readers
would call one: a character in Chinese, a syllable (between two tsheg) in Tibetan, a word elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Han with its extensions and compatibility forms, and kana: no spaces between words, so each character is a token.
CHARACTER_SCRIPTS = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Tibetan syllables end with a tsheg (U+0F0B, U+0F0C) or a shad (U+0F0D..U+0F12); what is left is letters and marks.
TIBETAN = "\u0f00\u0f20-\u0f33\u0f35\u0f37\u0f39\u0f3e-\u0f84\u0f86-\u0fbc\u0fc6"
# \w leaves out the combining marks (Mn, Mc) that Indic, Tibetan and Arabic words hold, and the joiners U+200C/D inside
# them; U+180B..D, F are Mongolian variation selectors. A word is a letter or digit and all such that follow.
TOKEN = re.compile(rf"[{CHARACTER_SCRIPTS}]|[{TIBETAN}]+|W+")


@dataclass(frozen=True, slots=True)
class RougeL:
    precision: float
    recall: float
    f1: float


def tokenize(text: str) -> list[str]:
    """Tokens of NFKC-normalised, lower-cased text; punctuation and symbols are no tokens."""
    normal = unicodedata.normalize("NFKC", text).lower()
    # One stand-in letter a word character lets a single expression cut every script: marks belong to their word.
    shape = "".join("W" if _other_word_character(character) else character for character in normal)
    return [normal[match.start() : match.end()] for match in TOKEN.finditer(shape)]


def rouge_l(prediction: str, reference: str) -> RougeL:
    """ROUGE-L of one pair (Lin 2004, section 3.1): with l the longest common subsequence in tokens,
    precision = l / |prediction|, recall = l / |reference|, f1 their harmonic mean. All 0 if either has no token."""
    ours, theirs = tokenize(prediction), tokenize(reference)
    if not ours or not theirs:
        return RougeL(0.0, 0.0, 0.0)
    common = longest_common_subsequence(ours, theirs)
    precision, recall = common / len(ours), common / len(theirs)
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return RougeL(precision, recall, f1)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length, in O(|first| |second|) time and O(|second|) memory."""
    lengths = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = lengths[column]
            lengths[column] = diagonal + 1 if token == other else max(above, lengths[column - 1])
            diagonal = above
    return lengths[-1]


def _other_word_character(character: str) -> bool:
    """Part of a word in a script that puts spaces between words."""
    if re.match(f"[{CHARACTER_SCRIPTS}{TIBETAN}]", character):
        return False
    return unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d"
