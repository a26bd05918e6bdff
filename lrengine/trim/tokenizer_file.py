"""tokenizer.json as a document: which ids must stay, and the same file with fewer (and new) ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.safetensors_io import parse_json
from lrengine.text import clean
from lrengine.trim import bpe, unigram
from lrengine.trim.rows import NewPiece, Rows

KINDS = ("Unigram", "BPE")
BATCH = 1000  # texts that are cut at once
# Vocabularies beside tokenizer.json, which no longer fit once it is rewritten.
STALE_FILES = frozenset({"sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json",
                         "merges.txt"})  # fmt: skip


class TokenizerFile:
    """One tokenizer.json. Raises ModelFileError if it is missing or malformed, UnsupportedModelError for other models
    than Unigram and BPE."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tokenizer.json"
        if not self.path.is_file():
            raise ModelFileError(f"{directory}: has no tokenizer.json, which is what trimming rewrites")
        self.document = parse_json(self.path, self.path.read_bytes())
        self.model: dict[str, Any] = self.document.get("model") or {}
        self.kind = self.model.get("type", "BPE" if "merges" in self.model else None)
        if self.kind not in KINDS:
            raise UnsupportedModelError(
                f"{self.path}: a {self.kind} tokenizer cannot be trimmed, only {' and '.join(KINDS)}"
            )
        if self.kind == "BPE":
            bpe.check(self.model)
        self.tokenizer = tokenizer_of(self.document, self.path)
        self.pieces: list[str | None] = bpe.pieces(self.model) if self.kind == "BPE" else [*unigram.pieces(self.model)]
        self.outside = sorted(
            token["id"] for token in self.document.get("added_tokens", []) if token["id"] >= len(self.pieces)
        )

    @property
    def byte_level(self) -> bool:
        return '"ByteLevel"' in json.dumps([self.document.get(part) for part in ("pre_tokenizer", "normalizer")])

    def count(self, texts: Iterable[str]) -> Counter[int]:
        """How often each id occurs in `texts`, special tokens included."""
        counts: Counter[int] = Counter()
        batch: list[str] = []
        for text in texts:
            batch.append(clean(text))
            if len(batch) == BATCH:
                self._count_batch(batch, counts)
                batch = []
        self._count_batch(batch, counts)
        return counts

    def _count_batch(self, batch: list[str], counts: Counter[int]) -> None:
        for encoding in self.tokenizer.encode_batch(batch):
            counts.update(encoding.ids)

    def closed(self, wanted: Iterable[int]) -> set[int]:
        """`wanted`, all added tokens, and what the model cannot do without (unigram.py, bpe.py)."""
        added = {token["id"] for token in self.document.get("added_tokens", [])}
        inside = {index for index in {*wanted, *added} if index < len(self.pieces) and self.pieces[index] is not None}
        if self.kind == "Unigram":
            inside = unigram.closed(self.model, inside | unigram.required(self.model))
        else:
            inside = bpe.closed(self.model, inside | bpe.required(self.model, self.byte_level))
        return inside | set(self.outside)

    def rows(self, kept: set[int], new: list[NewPiece]) -> Rows:
        """The new ids: kept pieces in their old order, new pieces, then added tokens that the model has not."""
        inside = sorted(index for index in kept if index < len(self.pieces))
        return Rows(inside, new, [index for index in self.outside if index in kept])

    def rewritten(self, rows: Rows) -> dict[str, Any]:
        """The document with the ids of `rows`."""
        if self.kind == "Unigram":
            model = unigram.rewritten(self.model, rows.inside, [(piece.text, piece.score) for piece in rows.new])
        else:
            model = bpe.rewritten(self.model, rows.inside)
        added = [{**token, "id": rows.new_id(token["id"])} for token in self.document.get("added_tokens", [])]
        document = {**self.document, "model": model, "added_tokens": sorted(added, key=lambda token: token["id"])}
        if document.get("padding"):
            document["padding"] = {**document["padding"], "pad_id": rows.new_id(document["padding"]["pad_id"])}
        if document.get("post_processor"):
            document["post_processor"] = _renumbered(document["post_processor"], rows)
        return document


def tokenizer_of(document: Mapping[str, Any], path: Path) -> Tokenizer:
    """ModelFileError if the package refuses it."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
    except Exception as error:  # the package raises plain Exception
        raise ModelFileError(f"{path}: not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def rewrite_companions(folder: Path, rows: Rows) -> None:
    """Ids in tokenizer_config.json and added_tokens.json; removes vocabularies that contradict the new one."""
    for name in STALE_FILES:
        (folder / name).unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    if config.is_file():
        fields = parse_json(config, config.read_bytes())
        known = fields.get("added_tokens_decoder")
        if isinstance(known, dict):
            fields["added_tokens_decoder"] = {str(rows.new_id(int(index))): token for index, token in known.items()}
        write_json(config, fields)
    added = folder / "added_tokens.json"
    if added.is_file():
        write_json(added, {name: rows.new_id(index) for name, index in parse_json(added, added.read_bytes()).items()})


def write_json(path: Path, fields: Mapping[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(fields, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def _renumbered(processor: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """A post-processor with the new ids of the special tokens that it puts around texts."""
    new = dict(processor)
    if processor.get("type") == "Sequence":
        new["processors"] = [_renumbered(part, rows) for part in processor["processors"]]
    if processor.get("type") == "TemplateProcessing":
        new["special_tokens"] = {
            name: {**token, "ids": [rows.new_id(index) for index in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for side in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if isinstance(processor.get(side), list):
            new[side] = [processor[side][0], rows.new_id(processor[side][1])]
    return new
