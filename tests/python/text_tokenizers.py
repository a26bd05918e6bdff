"""Tokenizers of every family that csrc/text reads, trained small on the bundled sample, and texts for them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
CHARSMAP = Path(sentencepiece.__file__).parent / "package_data" / "nmt_nfkc.bin"

# Pre-tokenizer patterns as the models' tokenizer.json have them.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# --- texts -----------------------------------------------------------------------------------------------------------


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


@cache
def sample_lines() -> tuple[str, ...]:
    """Every text of the bundled sample: 14 languages."""
    lines = [json.loads(line) for path in sorted(SAMPLE.rglob("*.jsonl")) for line in path.open(encoding="utf-8")]
    return tuple(dict.fromkeys(strings_in(lines)))


# First and last code point of what fuzzed strings are made of.
_RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x41, 0x5A), (0x30, 0x39), (0x00, 0x1F), (0x7F, 0xA0), (0xA0, 0x24F),
    (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF),
    (0xB80, 0xBFF), (0xD80, 0xDFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1100, 0x11FF), (0x1800, 0x18AF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F), (0x20D0, 0x20FF), (0x2100, 0x214F), (0x2460, 0x24FF), (0x3040, 0x30FF), (0x3300, 0x33FF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE010), (0xFB00, 0xFB4F), (0xFE00, 0xFE2F), (0xFE70, 0xFEFF),
    (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0xE0100, 0xE01EF),
    (0x10FFF0, 0x10FFFF),
]  # fmt: skip
_PIECES = [
    " ", "  ", "\n", "\r\n", "\t", "\0", "\u3000", "\u200b", "\u200d", "\ufeff", "\u0301", "\u0323", "\u094d", "\ufe0f",
    "<s>", "</s>", "<mask>", "<unk>", "<|end|>", "<b>", "WORD", "word", "wor", "\u2581", "'s", "'LL", "'\u017f",
    "don't",
    "\u0130", "\u01c5", "ﬁ", "Ａ\u0301", "é", "e\u0301", "👩\u200d👩\u200d👧", "🇲🇳", "1234567", "٣٤", "½", 
    "<0x0A>", "...", "\xad",
]  # fmt: skip


def fuzzed(count: int, seed: int) -> list[str]:
    """Strings of mixed scripts, marks, emoji, controls, NUL, runs of white space, added tokens, long words."""
    random_ = random.Random(seed)
    sample = sample_lines()
    return [_fuzzed(random_, sample) for _ in range(count)]


def _fuzzed(random_: random.Random, sample: tuple[str, ...]) -> str:
    parts = []
    for _ in range(random_.choice([1, 1, 2, 3, 5, 8])):
        kind = random_.random()
        first, last = random_.choice(_RANGES)
        length = random_.choice([1, 2, 3, 5, 8])
        if kind < 0.35:
            parts.append("".join(chr(random_.randint(first, last)) for _ in range(length)))
        elif kind < 0.55:
            parts.append(random_.choice(_PIECES) * random_.choice([1, 1, 1, 2, 5]))
        elif kind < 0.75:
            text = random_.choice(sample)
            start = random_.randrange(len(text) + 1)
            parts.append(text[start : start + random_.randrange(30)])
        elif kind < 0.85:  # marks after letters
            parts.append(
                "".join(chr(random_.randint(*random_.choice(_RANGES))) + random_.choice(_PIECES) for _ in range(length))
            )
        elif kind < 0.9:
            parts.append(chr(random_.randint(0, 0xD7FF)))
        elif kind < 0.95:
            parts.append(chr(random_.randint(0xE000, 0x10FFFF)))
        elif kind < 0.96:
            parts.append(chr(random_.randint(first, last)) * random_.randrange(400))
        else:  # bytes that are not UTF-8, as they come out of cleaning
            parts.append(random_.randbytes(length).decode("utf-8", "replace"))
    return "".join(parts)


# --- tokenizers ------------------------------------------------------------------------------------------------------


def _added(tokenizer: Tokenizer) -> None:
    """Tokens of every kind: special, stripping, single words, matched before and after normalization."""
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<|end|>", rstrip=True)])
    tokenizer.add_tokens([AddedToken("WORD", single_word=True), AddedToken("<b>", normalized=False)])
    tokenizer.add_tokens(
        [AddedToken("ﬁ", normalized=True, lstrip=True, rstrip=True), AddedToken("don't", normalized=True)]
    )


@cache
def _trained_unigram() -> str:
    specials = ["<s>", "<pad>", "</s>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=specials, unk_token="<unk>", show_progress=False, n_sub_iterations=1
    )
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(CHARSMAP.read_bytes())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(sample_lines()[::20], trainer)
    return str(tokenizer.to_str())


def _unigram(pre_tokenizer: Any, decoder: Any, normalizer: Any, byte_fallback: bool = False) -> Tokenizer:
    description = json.loads(_trained_unigram())
    description["model"]["byte_fallback"] = byte_fallback
    description["added_tokens"] = description["added_tokens"][:4]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizer, pre_tokenizer, decoder
    _added(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def xlm_roberta() -> Tokenizer:
    normalizer = normalizers.Sequence(
        [normalizers.Precompiled(CHARSMAP.read_bytes()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return _unigram(pre_tokenizers.Metaspace(), decoders.Metaspace(), normalizer)


def xlm_roberta_old() -> Tokenizer:
    """As transformers wrote it before 2024: two pre-tokenizers and add_prefix_space."""
    pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer = _unigram(pre_tokenizer, decoders.Metaspace(), normalizers.Precompiled(CHARSMAP.read_bytes()))
    description = json.loads(tokenizer.to_str())
    for metaspace in (description["pre_tokenizer"]["pretokenizers"][1], description["decoder"]):
        for name in ("prepend_scheme", "split"):
            del metaspace[name]
        metaspace.update({"str_rep": "\u2581", "add_prefix_space": True})
    return Tokenizer.from_str(json.dumps(description))


def mt5() -> Tokenizer:
    """Byte fallback, and one mark before the text only."""
    metaspace = {"replacement": "\u2581", "prepend_scheme": "first"}
    normalizer = normalizers.Sequence([normalizers.Strip(True, True), normalizers.Precompiled(CHARSMAP.read_bytes())])
    decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(**metaspace)])
    return _unigram(pre_tokenizers.Metaspace(**metaspace), decoder, normalizer, byte_fallback=True)


def nfkc_unigram() -> Tokenizer:
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    return _unigram(pre_tokenizer, decoders.Metaspace(prepend_scheme="never"), normalizer)


def _byte_level(pre_tokenizer: Any, normalizer: Any = None, post_processor: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_lines()[::3], trainer)
    _added(tokenizer)
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def gpt2() -> Tokenizer:
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), post_processor=processors.ByteLevel())


def roberta() -> Tokenizer:
    post = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))  # sep, cls
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), post_processor=post)


def llama3() -> Tokenizer:
    template = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    post = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    description = json.loads(_byte_level(_split(LLAMA3), post_processor=post).to_str())
    description["model"]["ignore_merges"] = True
    description["model"]["merges"] = [" ".join(merge) for merge in description["model"]["merges"]]
    return Tokenizer.from_str(json.dumps(description))


def qwen2() -> Tokenizer:
    return _byte_level(_split(QWEN2), normalizer=normalizers.NFC())


def o200k() -> Tokenizer:
    return _byte_level(_split(O200K))


def smollm() -> Tokenizer:
    return _byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    )


def llama2() -> Tokenizer:
    """SentencePiece's BPE with byte fallback: no pre-tokenizer, the whole text is one word."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # for training alone: it would learn whole lines
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(sample_lines()[::3], trainer)
    description = json.loads(tokenizer.to_str())
    description["pre_tokenizer"] = None
    description["added_tokens"] = description["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(description))
    _added(tokenizer)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    build.__name__: build
    for build in (
        xlm_roberta, xlm_roberta_old, mt5, nfkc_unigram, gpt2, roberta, llama3, qwen2, o200k, smollm, llama2,
    )
}  # fmt: skip
