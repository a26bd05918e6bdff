"""The Unicode tables of csrc/text say what the `tokenizers` package says, character by character and in sequences."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from text_tokenizers import CHARSMAP
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lrengine import _engine
from lrengine.errors import InvalidRequestError, UnsupportedModelError

# Every assigned character and some of the planes without any.
CODES = [*range(0xD800), *range(0xE000, 0x34000), *range(0x34000, 0xE0000, 0x333), *range(0xE0000, 0xE0200), 0x10FFFF]
CHARACTERS = [chr(code) for code in CODES]


def bytes_alone() -> Tokenizer:
    """A piece for each byte: what it decodes is the text that its model was given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: id for id, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def normalized(directory: Path, normalizer: Any, texts: list[str]) -> list[str]:
    tokenizer = bytes_alone()
    tokenizer.normalizer = normalizer
    tokenizer.save(str(directory / "tokenizer.json"))
    own = _engine.Tokenizer.load(str(directory))
    assert own is not None
    return own.decode_all(own.encode_all(texts, False))


def differences(directory: Path, normalizer: Any, texts: list[str]) -> list[str]:
    found = normalized(directory, normalizer, texts)
    return [ascii(text) for text, own in zip(texts, found, strict=True) if own != normalizer.normalize_str(text)]


def sequences(seed: int, count: int, pool: list[str]) -> list[str]:
    random_ = random.Random(seed)
    return ["".join(random_.choices(pool, k=random_.randrange(2, 6))) for _ in range(count)]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"])
def test_every_character_has_the_same_form(form: str, tmp_path: Path) -> None:
    assert differences(tmp_path, getattr(normalizers, form)(), CHARACTERS) == []


@pytest.mark.parametrize("form", ["NFC", "NFKD"])
def test_sequences_compose_and_order_alike(form: str, tmp_path: Path) -> None:
    decomposed = [normalizers.NFD().normalize_str(text) for text in CHARACTERS[:0x30000]]
    parts = {part for text, whole in zip(CHARACTERS, decomposed, strict=False) if whole != text for part in whole}
    blocks = ((0x300, 0x36F), (0x591, 0x5C7), (0x1DC0, 0x1DFF))
    marks = [chr(code) for first, last in blocks for code in range(first, last)]
    assert differences(tmp_path, getattr(normalizers, form)(), sequences(1, 100_000, sorted(parts) + marks)) == []


def test_clusters_of_the_charsmap_end_alike(tmp_path: Path) -> None:
    # Letters that the map changes, beside characters of every kind that cluster rules know.
    pool = ["a", "Ａ", "ﬁ", "é", "e", "½", "™", "©", "\u0958", "\u0915", "ｶ", "한", "\u1100", "\u1161", "\u11a8"]
    pool += ["\u0301", "\u0308", "\u093c", "\u094d", "\u0300", "\u20dd", "\ufe0f", "\u200d", "\u200c", "\u0903"]
    pool += [
        "\u0600",
        "\u06dd",
        "\r",
        "\n",
        "\0",
        "\x01",
        "\xad",
        "\u200b",
        "👩",
        "🏽",
        "🇲",
        "🇳",
        "\u0e33",
        "\u0eb3",
        " ",
    ]
    pool += ["\uff9e"]
    charsmap = normalizers.Precompiled(CHARSMAP.read_bytes())
    assert differences(tmp_path, charsmap, sequences(2, 100_000, pool)) == []
    assert differences(tmp_path, charsmap, CHARACTERS) == []
    # A mark behind a letter shows where the letter's cluster ends, for every character there is: this map changes A.
    folding = normalizers.Precompiled((CHARSMAP.parent / "nmt_nfkc_cf.bin").read_bytes())
    assert differences(tmp_path, folding, ["A" + text for text in CHARACTERS]) == []
    assert differences(tmp_path, charsmap, [text + "e\u0301" for text in CHARACTERS]) == []


PATTERNS = [r"\p{L}", r"\p{N}", r"\s", r"\w", r"\d", r"[^\s\p{L}\p{N}]", r"\p{Lu}", r"(?i:[skz])"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_the_same_characters(pattern: str, tmp_path: Path) -> None:
    tokenizer = bytes_alone()
    # What matches is removed; what is left shows.
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, tokenizer.pre_tokenizer])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    own = _engine.Tokenizer.load(str(tmp_path))
    assert own is not None
    left = [text for text, ids in zip(CHARACTERS, own.encode_all(CHARACTERS, False), strict=True) if ids]
    kept = "".join(text for text, _ in split.pre_tokenize_str("".join(CHARACTERS)))
    assert set(left) ^ set(kept) == set()


ATOMS = [
    "a",
    "b",
    "A",
    " ",
    "é",
    "中",
    "1",
    r"\n",
    r"\s",
    r"\S",
    r"\p{L}",
    r"\P{L}",
    r"\p{N}",
    r"\p{Lu}",
    r"\d",
    r"\w",
    r"\W",
]
ATOMS += [".", "[a-c]", "[^a-c]", r"[\s\p{L}]", r"[^\s\p{L}\p{N}]", r"[^\S\n]", r"[ab\-1]", "'", r"\.", r"[^\r\n\P{L}]"]
ATOMS += [r"[\x{4e00}-\x{9fff}]", "(?i:a)", "(?i:[sk])", "(?i:'s|'ll)"]
COUNTS = ["", "", "", "?", "*", "+", "{1,2}", "{2}", "{2,}", "{,2}", "++", "?+", "*+"]


def random_pattern(random_: random.Random, depth: int) -> str:
    def item() -> str:
        kind = random_.random() if depth else 1.0
        if kind < 0.05:
            return random_.choice(["(?!", "(?="]) + random_pattern(random_, depth - 1) + ")"
        inner = f"(?:{random_pattern(random_, depth - 1)})" if kind < 0.25 else random_.choice(ATOMS)
        return inner + random_.choice(COUNTS)

    parts = ["".join(item() for _ in range(random_.randint(1, 3))) for _ in range(random_.choice([1, 1, 1, 2, 3]))]
    return "|".join(parts)


def test_random_patterns_match_alike(tmp_path: Path) -> None:
    random_ = random.Random(6)
    letters = "aabbccA  é中1\n\r'sSlL.x²\u0301\u3000kK\u212a\u017f-"
    texts = ["".join(random_.choices(letters, k=random_.randint(1, 25))) for _ in range(30)]
    description = json.loads(bytes_alone().to_str())
    byte_level = description["pre_tokenizer"]
    compared = 0
    for _ in range(1000):
        pattern = random_pattern(random_, 2)
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": False}
        description["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
        (tmp_path / "tokenizer.json").write_text(json.dumps(description))
        try:
            own = _engine.Tokenizer.load(str(tmp_path))
        except UnsupportedModelError:
            continue
        assert own is not None
        package = pre_tokenizers.Split(Regex(pattern), "removed")
        compared += 1
        for text in texts:
            expected = "".join(piece for piece, _ in package.pre_tokenize_str(text))
            try:
                assert own.decode(own.encode(text, False)) == expected, (pattern, text)
            except InvalidRequestError as error:  # a pattern that takes a number of steps without bound
                assert "steps" in str(error)
    assert compared > 300


def test_single_words_see_the_same_letters(tmp_path: Path) -> None:
    tokenizer = bytes_alone()
    tokenizer.add_tokens(["x"])
    description = json.loads(tokenizer.to_str())
    description["added_tokens"][0].update({"single_word": True, "lstrip": True})
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    own = _engine.Tokenizer.load(str(tmp_path))
    assert own is not None
    texts = [text + "x" for text in CHARACTERS]
    expected = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    found = own.encode_all(texts, True)
    assert [ascii(text) for text, a, b in zip(texts, found, expected, strict=True) if a != b] == []
