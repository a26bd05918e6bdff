"""What tests of trimming share: directories of tiny models with tokenizers, and texts of known and unknown pieces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import small_tokenizers
from tokenizers import Tokenizer

import tiny

KEPT_TEXTS = [small_tokenizers.TEXTS[0], small_tokenizers.TEXTS[2], "jumps over қазақ тілі"]
ALPHABET = "".join(small_tokenizers.TEXTS) + "ZÉ漢\U0001f600"  # and characters that no tokenizer here knows


def write_texts(path: Path, texts: list[str] = KEPT_TEXTS) -> str:
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return str(path)


def model_directory(kind: str, directory: Path, encoder: str = "xlm-roberta", byte_level: bool = False) -> Path:
    """A tiny model of `kind`, with tokenizers; "plain" is the encoder alone, "swcm_tied" has no lm_head."""
    makers: dict[str, Callable[[], Any]] = {
        "swcm": lambda: tiny.tiny_swcm(encoder, tie_word_embeddings=False, output_bias=True),
        "swcm_tied": lambda: tiny.tiny_swcm(encoder),
        "layer_fusion": lambda: tiny.tiny_fusion(encoder),
        "layer_fusion_classifier": lambda: tiny.tiny_classifier(encoder),
        "plain": lambda: tiny.tiny_encoder(encoder),
    }
    tiny.save(makers[kind](), directory)
    small_tokenizers.save(small_tokenizers.byte_level() if byte_level else small_tokenizers.unigram(), directory)
    if kind == "layer_fusion":
        small_tokenizers.save(small_tokenizers.byte_level(), directory / "llm")
    return directory


def tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def config(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "config.json").read_text()))


def same_cuts(before: Tokenizer, after: Tokenizer, texts: list[str]) -> int:
    """Asserts that every text whose pieces are all kept is cut the same way; returns how many there were."""
    known = set(after.get_vocab())
    compared = 0
    for text in texts:
        cut = before.encode(text).tokens
        if set(cut) <= known and before.token_to_id("<unk>") not in before.encode(text).ids:
            assert after.encode(text).tokens == cut, text
            compared += 1
    return compared


def fuzzed(count: int, seed: int, alphabet: str = ALPHABET, words: list[str] | None = None) -> list[str]:
    """Texts made of characters of `alphabet` and of whole words and parts of them, at random."""
    generator = random.Random(seed)
    words = words or " ".join(small_tokenizers.TEXTS).split()
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 6)):
            word = generator.choice(words)
            start = generator.randrange(len(word))
            choices = [word, word[start:], word[: start + 1], "".join(generator.choices(alphabet, k=3))]
            parts.append(generator.choice(choices))
        texts.append(generator.choice(["", " "]).join(parts))
    return texts
