"""Tokenizers trained in a moment, with ids that fit the tiny models.

Training orders ties at random: each is trained once a process, and every call gives a copy."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "the quick brown fox jumps over the lazy dog and runs away",
    "qazaq tili turki tilderinin biri, қазақ тілі түркі тілдерінің бірі",
    "ئۇيغۇر تىلى تۈركىي تىللارنىڭ بىرى",
    "བོད་སྐད་ནི་བོད་ཀྱི་སྐད་ཡིག་ཡིན།",
    "今天天气很好，我们去公园散步。",
]


def unigram() -> Tokenizer:
    """In XLM-R's manner: <s> 0, <pad> 1, </s> 2, <unk> 3, white space as U+2581; at most 331 entries."""
    return Tokenizer.from_str(_unigram())


def byte_level() -> Tokenizer:
    """In an LLM's manner: <pad> 0, <s> 1, </s> 2, every byte a token (a character may take several); 277 entries."""
    return Tokenizer.from_str(_byte_level())


def save(tokenizer: Tokenizer, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))


@cache
def _unigram() -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=331, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return str(tokenizer.to_str())


@cache
def _byte_level() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=277,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return str(tokenizer.to_str())
