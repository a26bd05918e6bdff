"""Text to ids and back: with the engine's own tokenizers, whose ids and text are those of the `tokenizers` package, and
with the package for kinds that they do not read. For 250,000 pieces the package takes a second and 300 MB, they a
quarter of the time and a fifth of the memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeGuard

from lrengine import _engine
from lrengine.errors import InvalidRequestError, ModelFileError, UnsupportedModelError
from lrengine.model_file import read_model_file
from lrengine.safetensors_io import parse_json

REPLACEMENT = "\ufffd"
MOST_BYTES = 256 << 20  # the largest tokenizer.json in use have 35 MB


def clean(text: str) -> str:
    """`text` as it can be encoded: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _check_prefix(path: Path, content: bytes) -> None:
    """ModelFileError for the one mistake that makes the package end the process: a BPE prefix, `##`, that merges do not
    have. (Escaped letters hide the field's name; no tool writes them.)"""
    if not re.search(rb'"continuing_subword_prefix"\s*:\s*"[^"]|\\u00[2-7]', content):
        return
    model = parse_json(path, content).get("model")
    prefix, merges = (model.get(name) for name in ("continuing_subword_prefix", "merges")) if _is_bpe(model) else (0, 0)
    if not isinstance(prefix, str) or not isinstance(merges, list):
        return
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        second = parts[1] if isinstance(parts, list) and len(parts) == 2 else None
        if not isinstance(second, str) or second.startswith(prefix) and prefix.isascii():
            continue
        expected = f"expected merges with its continuing_subword_prefix, {prefix[:20]!r}"
        raise ModelFileError(f"{path}: model.merges: found {second[:20]!r}, {expected}")


def _is_bpe(model: object) -> TypeGuard[dict[str, object]]:
    # Files of before 0.10 name no type.
    return isinstance(model, dict) and model.get("type") in (None, "BPE")


class _Reader(Protocol):
    """What a TextCodec asks of a tokenizer."""

    def encode(self, text: str, special_tokens: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def piece(self, id: int) -> str: ...
    def id(self, piece: str) -> int: ...


class _Package:
    """The `tokenizers` package's reading of a file."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._path = path
        content = read_model_file(path, MOST_BYTES)
        _check_prefix(path, content)
        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the package raises plain Exception
            expected = "expected a tokenizer.json of the tokenizers package"
            raise ModelFileError(f"{path}: found no tokenizer: {error}; {expected}") from error
        # What a training run left in the file must not cut or pad requests.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str, special_tokens: bool) -> list[int]:
        ids: list[int] = self._used(self._tokenizer.encode, text, add_special_tokens=special_tokens).ids
        if ids and max(ids) >= 2**31:
            raise ModelFileError(f"{self._path}: found a token of id {max(ids)}, expected ids below 2^31")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._used(self._tokenizer.decode, list(ids), skip_special_tokens=True))

    def piece(self, id: int) -> str:
        return self._tokenizer.id_to_token(id) or ""

    def id(self, piece: str) -> int:
        found = self._tokenizer.token_to_id(piece)
        return -1 if found is None else int(found)

    def _used(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """`call`. ModelFileError where the package panics, over a template that names tokens which there are not."""
        try:
            return call(*arguments, **options)
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ != "PanicException":
                raise
            expected = "expected a tokenizer that can be used"
            raise ModelFileError(f"{self._path}: found one that fails: {error}; {expected}") from error


def _read(path: Path, own: bool) -> _Reader:
    if own:
        try:
            found = _engine.Tokenizer.load(os.fsencode(path.parent))
        except InvalidRequestError as error:  # no request was there yet
            raise ModelFileError(f"{path}: found rules that cannot be used: {error}; expected some that can") from error
        except (ModelFileError, UnsupportedModelError):  # the package may know it, and has the last word on broken ones
            found = None
        if found is not None:
            return found
    return _Package(path)


class TextCodec:
    """One tokenizer of a model directory."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    @classmethod
    def load(cls, directory: Path, own: bool = True) -> TextCodec | None:
        """The tokenizer.json of `directory`, None if there is none. ModelFileError if it cannot be read. own=False: by
        the `tokenizers` package in any case."""
        path = directory / "tokenizer.json"
        return cls(_read(path, own)) if os.path.lexists(path) else None

    def source(self, text: str) -> list[int]:
        """Ids between the special tokens that the tokenizer puts around a text."""
        return self._reader.encode(clean(text), True)

    def bare(self, text: str) -> list[int]:
        """Ids without special tokens."""
        return self._reader.encode(clean(text), False)

    def lone_byte(self) -> int | None:
        """A token of a byte that cannot end a run of them which is UTF-8; None: bytes have no tokens of their own."""
        found = (self._reader.id(f"<0x{byte:02X}>") for byte in range(0x80, 0x100))
        return next((token for token in found if token >= 0), None)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The tokenizer's own name of every id."""
        return [self._reader.piece(token) for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        return self._reader.decode(ids)


def _is_fusion(directory: Path) -> bool:
    """Whether config.json says so. What is wrong with it, opening the engine will say."""
    try:
        config = parse_json(directory / "config.json", read_model_file(directory / "config.json"))
    except (ModelFileError, OSError):
        return False
    return config.get("model_type") == "layer_fusion"


class TextsBeingRead:
    """The tokenizers of a model directory, read on another thread while the block opens the weights. The block's own
    error goes first; `beside=False` reads when asked."""

    def __init__(self, directory: Path, beside: bool) -> None:
        self._directory = directory
        self._pool: ThreadPoolExecutor | None = None
        self._read: dict[str, Future[TextCodec | None]] = {}
        parts = ("", "llm") if _is_fusion(directory) else ("",)
        self._parts = [part for part in parts if os.path.lexists(directory / part / "tokenizer.json")]
        self._beside = beside and bool(self._parts)

    def __enter__(self) -> TextsBeingRead:
        if self._beside:
            self._pool = ThreadPoolExecutor(1, "lrengine-tokenizers")
            with suppress(RuntimeError):  # no thread to be had: codec() reads
                for part in self._parts:
                    self._read[part] = self._pool.submit(TextCodec.load, self._directory / part)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def codec(self, part: str = "") -> TextCodec | None:
        """That of the directory or of its folder `part`, None if there is none; within the block. ModelFileError if it
        cannot be read."""
        return self._read[part].result() if part in self._read else TextCodec.load(self._directory / part)


class TargetText:
    """The text that generated tokens add to a prefix."""

    def __init__(self, codec: TextCodec, prefix: Sequence[int], stop: Sequence[str]) -> None:
        self._codec = codec
        self._prefix = list(prefix)
        self._head = codec.decode(self._prefix) if self._prefix else ""
        self._stop = stop
        self._lone_byte = codec.lone_byte()

    def whole(self, tokens: Sequence[int]) -> str:
        """Everything that `tokens` add. They are decoded behind the prefix: many tokenizers drop a leading space."""
        text = self._codec.decode([*self._prefix, *tokens])
        return text[len(self._head) :] if text.startswith(self._head) else self._codec.decode(tokens)

    def stopped(self, tokens: Sequence[int]) -> bool:
        """Whether a stop string is in the text."""
        text = self.whole(tokens)
        return any(stop in text for stop in self._stop)

    def cut(self, tokens: Sequence[int]) -> str:
        """The text before the first stop string."""
        text = self.whole(tokens)
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else text

    def certain(self, tokens: Sequence[int]) -> bool:
        """Whether later tokens cannot change this text: no half character, no beginning of a stop string, no run of
        bytes at its end. (Byte fallback makes U+FFFD of all of a run that is not UTF-8: of characters too that were
        whole before a last byte came.)"""
        text = self.whole(tokens)
        if text.endswith(REPLACEMENT):
            return False
        if self._lone_byte is not None and not self.whole([*tokens, self._lone_byte]).startswith(text):
            return False
        # No longer than the text: a stop string may be of megabytes.
        return not any(
            text.endswith(stop[:length]) for stop in self._stop for length in range(1, min(len(stop), len(text) + 1))
        )
