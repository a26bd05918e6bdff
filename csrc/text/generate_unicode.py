"""Writes unicode_data.cpp and normalization_data.cpp: python csrc/text/generate_unicode.py

The contract of csrc/text is the ids that the `tokenizers` package gives, and its parts stand on several versions of
Unicode at once: its regular expressions (Oniguruma), its words and its lower case (Rust) and its normal forms (a crate
of 2019). So every property is asked of that package where it can be asked, character by character. What it cannot be
asked (the structure of decompositions, grapheme breaks) comes from `unicodedata` and `regex`, less what the package
does not know yet. The files say which versions these were; tests/python/test_text_unicode.py compares the result with
the package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import regex
import sentencepiece
from tokenizers import Regex, normalizers, pre_tokenizers

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
EVERY = "".join(map(chr, CODES))
CATEGORIES = (
    "Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs".split()  # noqa: SIM905
)
BREAKS = ["Other", "CR", "LF", "Control", "Extend", "ZWJ", "RI", "Prepend", "SpacingMark", "L", "V", "T"]
PICTOGRAPH, CONSONANT, LINKER = 12, 13, 14
COMPOSES = 1 << 31
HEADER = """// Written by generate_unicode.py: do not edit.
// tokenizers {tokenizers}, regex {regex}, unicodedata {unicodedata}.
// clang-format off
#include "text/unicode_data.h"

namespace lrengine::text::data {{

"""


def matched(pattern: str) -> set[int]:
    """The code points that the package's regular expressions match."""
    splitter = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed")
    kept = {code for piece, _ in splitter.pre_tokenize_str(EVERY) for code in map(ord, piece)}
    return set(CODES) - kept


def categories() -> list[int]:
    table = [0] * 0x110000
    for number, name in enumerate(CATEGORIES):
        for code in matched(rf"\p{{{name}}}") if name not in ("Cn", "Cs") else ():
            table[code] = number
    for code in range(0xD800, 0xE000):
        table[code] = CATEGORIES.index("Cs")
    splitter = pre_tokenizers.Whitespace()  # \w+|[^\w\s]+: a word character goes on with the word before it
    for code in CODES:
        if len(splitter.pre_tokenize_str("a" + chr(code) + "a")) == 1:
            table[code] |= 1 << 5
    for code in matched(r"\w"):
        table[code] |= 1 << 6
    return table


def breaks() -> list[int]:
    table = [0] * 0x110000
    for number, name in enumerate(BREAKS[1:], 1):
        fill(table, rf"\p{{GCB={name}}}", number)
    fill(table, r"\p{Extended_Pictographic}", PICTOGRAPH)
    fill(table, r"\p{InCB=Consonant}", CONSONANT)
    fill(table, r"\p{InCB=Linker}", LINKER)
    # Marks that are newer than the package: they do not belong to the letter before them, which it would replace.
    path = Path(sentencepiece.__file__).parent / "package_data" / "nmt_nfkc_cf.bin"
    replaced: Callable[[str], str] = normalizers.Precompiled(path.read_bytes()).normalize_str
    joining = {BREAKS.index(name) for name in ("Extend", "ZWJ", "SpacingMark")} | {LINKER}
    for code in CODES:
        if table[code] in joining and replaced("A" + chr(code)) != "a":
            table[code] = 0
    return table


def fill(table: list[int], pattern: str, number: int) -> None:
    for found in regex.finditer(pattern, EVERY):
        table[ord(found.group())] = number


def runs(table: list[int], shift: int) -> list[int]:
    """Start << shift | value wherever the value changes."""
    return [code << shift | value for code, value in enumerate(table) if code == 0 or value != table[code - 1]]


def known_decompositions(form: str) -> dict[int, str]:
    """Characters that the package's NFD or NFKD changes (Hangul syllables are computed)."""
    changes = {"NFD": normalizers.NFD(), "NFKD": normalizers.NFKD()}[form].normalize_str
    found = {code: changes(chr(code)) for code in CODES if not 0xAC00 <= code < 0xD7A4}
    return {code: text for code, text in found.items() if text != chr(code)}


def canonical() -> list[int]:
    """Code, first, second (0 for none) of one step; the highest bit of the code where the two compose again."""
    table = []
    for code in known_decompositions("NFD"):
        parts = [int(part, 16) for part in unicodedata.decomposition(chr(code)).split()]
        composes = len(parts) == 2 and unicodedata.normalize("NFC", chr(code)) == chr(code)
        table += [code | (COMPOSES if composes else 0), parts[0], parts[1] if len(parts) == 2 else 0]
    return table


def compatibility() -> list[int]:
    """Code << 8 | length, then that many characters: the whole NFKD where NFD does not say it."""
    table = []
    full = known_decompositions("NFD")
    for code, text in known_decompositions("NFKD").items():
        if full.get(code) != text:
            table += [code << 8 | len(text), *map(ord, text)]
    return table


def combining_classes() -> list[int]:
    """Classes that the package's NFD orders by: a mark that it does not know stays where it is, as class 0."""
    ordered = normalizers.NFD().normalize_str
    table = [0] * 0x110000
    for code in CODES:
        mark, own = chr(code), unicodedata.combining(chr(code))
        if own == 0 or unicodedata.normalize("NFD", mark) != mark:
            table[code] = own
            continue
        lower, higher = ("\u0334", "\u0345") if own != 1 else ("", "\u0345")
        probes = ["a" + mark + lower, "a" + higher + mark]  # classes 1 and 240
        if all(ordered(probe) == unicodedata.normalize("NFD", probe) for probe in probes):
            table[code] = own
    return table


def lower_case() -> list[int]:
    """First, last, step, difference (modulo 2^32) of runs of characters that move alike; U+0130 becomes two."""
    change: Callable[[str], str] = normalizers.Lowercase().normalize_str
    moves = {code: ord(low) - code for code in CODES if len(low := change(chr(code))) == 1 and low != chr(code)}
    table: list[int] = []
    for code, move in moves.items():
        if table and table[-1] == move % 2**32:
            first, last, step = table[-4:-1]
            if (first == last and code - last <= 2) or code - last == step:
                table[-4:] = [first, code, code - last, move % 2**32]
                continue
        table += [code, code, 1, move % 2**32]
    return table


def array(name: str, values: Iterable[int]) -> str:
    lines, line = [], ""
    for value in values:
        word = f"{value:#x}," if value > 9 else f"{value},"
        if len(line) + len(word) > 120:
            lines.append(line)
            line = ""
        line += word
    body = "\n".join([*lines, line])
    values = f"const std::uint32_t {name}_values[] = {{\n{body}\n}};\n"
    return values + f"const std::span<const std::uint32_t> {name} = {name}_values;\n\n"


def write(name: str, arrays: dict[str, list[int]]) -> None:
    header = HEADER.format(
        tokenizers=version("tokenizers"), regex=version("regex"), unicodedata=unicodedata.unidata_version
    )
    body = "".join(array(key, values) for key, values in arrays.items())
    (Path(__file__).parent / name).write_text(header + body + "}  // namespace lrengine::text::data\n")


def main() -> None:
    write("unicode_data.cpp", {"categories": runs(categories(), 7), "breaks": runs(breaks(), 4)})
    write(
        "normalization_data.cpp",
        {
            "canonical": canonical(),
            "compatibility": compatibility(),
            "combining_classes": runs(combining_classes(), 8),
            "lower_case": lower_case(),
        },
    )


if __name__ == "__main__":
    main()
