"""Copies a tokenizer from one directory to another, as `tokenizer.json` and its companions."""

from __future__ import annotations

import shutil
from pathlib import Path

from lrengine.errors import ModelFileError

_FAST = "tokenizer.json"
# Vocabularies that transformers can build a tokenizer.json from.
_SLOW = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json")
_COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def has_tokenizer(directory: Path | None) -> bool:
    return directory is not None and any((directory / name).is_file() for name in (_FAST, *_SLOW))


def copy_tokenizer(source: Path, destination: Path) -> None:
    """`source`: a directory, or a GGUF file. Raises ModelFileError when it holds no tokenizer, or an unreadable one."""
    destination.mkdir(exist_ok=True)
    if (source / _FAST).is_file():
        for name in (_FAST, *_SLOW, *_COMPANIONS):
            if (source / name).is_file():
                shutil.copyfile(source / name, destination / name)
        return
    if source.is_dir() and not has_tokenizer(source):
        raise ModelFileError(f"{source}: found no tokenizer, expected {_FAST} or one of {', '.join(_SLOW)}")
    from transformers import AutoTokenizer

    try:
        if source.is_dir():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        else:
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
        tokenizer.save_pretrained(destination)
    except Exception as error:  # every tokenizer class fails in its own way
        raise ModelFileError(f"{source}: the tokenizer cannot be read: {error}") from error
    if not (destination / _FAST).is_file():
        raise ModelFileError(f"{source}: transformers makes no {_FAST} of this tokenizer")
