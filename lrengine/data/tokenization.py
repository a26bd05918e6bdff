"""Tokenizers: load, train, save so that transformers 4.57, 5.x and the engine read the same files; ids with limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lrengine.errors import DataError

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}


def load_tokenizer(path: str) -> Any:
    """The fast tokenizer of a directory or hub name. DataError if there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... for one missing file
        raise DataError(f"{path}: no tokenizer could be loaded: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{path}: only tokenizers with a tokenizer.json can be used; convert this one first")
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, extra_tokens: Iterable[str] = ()) -> Any:
    """A Unigram tokenizer in XLM-R's manner: NFKC, white space as U+2581, `<s>`=0 `<pad>`=1 `</s>`=2 `<unk>`=3,
    `<mask>` last but `extra_tokens`. The result may have fewer than `vocab_size` entries if the texts hold no more.
    Raises DataError if `vocab_size` has no room for the characters of the texts."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    extras = ["<mask>", *extra_tokens]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size - len(extras), special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    texts = list(texts)
    try:
        tokenizer.train_from_iterator(texts, trainer)
    except Exception as error:  # the library raises nothing more special
        characters = len(set().union(*map(set, texts))) if texts else 0
        raise DataError(f"vocab_size {vocab_size}: {error} (the texts have {characters} different ones)") from error
    tokenizer.add_special_tokens(extras)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """tokenizer.json and its config. The class is written under its neutral name: 5.x names it in a way 4.57 does not
    know, and tokenizer.json holds everything anyway."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(directory))
    config_path = directory / "tokenizer_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for stale in ("auto_map", "backend", "is_local", "local_files_only", "tokenizer_file", "name_or_path"):
        config.pop(stale, None)
    config_path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


class TextEncoder:
    """Text to ids, without special tokens or between those that a tokenizer puts around a single text.

    bare_ids, wrapped_ids: text to ids without and with them."""

    def __init__(self, bare_ids: Callable[[str], list[int]], wrapped_ids: Callable[[str], list[int]]) -> None:
        self.bare = bare_ids
        bare, full = bare_ids("a"), wrapped_ids("a")
        starts = [start for start in range(len(full) - len(bare) + 1) if full[start : start + len(bare)] == bare]
        if not starts:
            raise DataError("the tokenizer changes the text's tokens around special tokens: not supported")
        self.before = full[: starts[0]]
        self.after = full[starts[0] + len(bare) :]

    @classmethod
    def of(cls, tokenizer: Any) -> TextEncoder:
        """Of a tokenizer of transformers."""

        def ids(text: str, special: bool) -> list[int]:
            # verbose: the warning about texts longer than the model is ours to give (DataReport)
            return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

        return cls(lambda text: ids(text, False), lambda text: ids(text, True))

    def wrap(self, ids: list[int], max_length: int) -> list[int]:
        """`ids`, cut so that with the special tokens around it there are at most `max_length`."""
        room = max(max_length - len(self.before) - len(self.after), 0)
        return [*self.before, *ids[:room], *self.after]

    def source(self, text: str, max_length: int) -> list[int]:
        return self.wrap(self.bare(text), max_length)

    def target(self, text: str, eos_id: int, max_length: int) -> list[int]:
        """Tokens and the end: what a decoder that was given its start token has to write."""
        return [*self.bare(text)[: max_length - 1], eos_id]
