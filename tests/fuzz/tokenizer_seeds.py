"""Writes the first inputs of tokenizer_fuzz: `python tests/fuzz/tokenizer_seeds.py tests/fuzz/corpus/tokenizer`."""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

PIECES = ["<s>", "</s>", "<unk>", "▁", "a", "b", "the", "▁the", "▁fox", "s", "今天", "<0x41>"]


def unigram() -> Tokenizer:
    scores = [(piece, -float(number)) for number, piece in enumerate(PIECES)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([AddedToken("fox", single_word=True, lstrip=True, normalized=False)])
    return tokenizer


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())[:70]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    vocabulary = {piece: number for number, piece in enumerate([*letters, "Ġ", "th", "the", "Ġthe", "<s>"])}
    vocabulary.update({letter: len(vocabulary) + i for i, letter in enumerate("the") if letter not in vocabulary})
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, tokenizer in {"unigram": unigram(), "byte_level": byte_level()}.items():
        (folder / name).write_text(tokenizer.to_str(), encoding="utf-8")


if __name__ == "__main__":
    main()
