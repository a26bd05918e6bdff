"""Text to ids and back, with the `tokenizers` package alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from lrengine.errors import ModelFileError

REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """`text` as it can be encoded: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class TextCodec:
    """One tokenizer of a model directory."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # What a training run left in the file must not cut or pad requests.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, directory: Path) -> TextCodec | None:
        """The tokenizer.json of `directory`, None if there is none. ModelFileError if it cannot be read."""
        path = directory / "tokenizer.json"
        if not path.exists():
            return None
        try:
            return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # the package raises plain Exception
            raise ModelFileError(f"{path}: not a tokenizer: {error}") from error

    def source(self, text: str) -> list[int]:
        """Ids between the special tokens that the tokenizer puts around a text."""
        return self._tokenizer.encode(clean(text)).ids

    def bare(self, text: str) -> list[int]:
        """Ids without special tokens."""
        return self._tokenizer.encode(clean(text), add_special_tokens=False).ids

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The tokenizer's own name of every id."""
        return [self._tokenizer.id_to_token(token) or "" for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


class TargetText:
    """The text that generated tokens add to a prefix."""

    def __init__(self, codec: TextCodec, prefix: Sequence[int], stop: Sequence[str]) -> None:
        self._codec = codec
        self._prefix = list(prefix)
        self._head = codec.decode(self._prefix) if self._prefix else ""
        self._stop = stop

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
        """Whether later tokens cannot change this text: no half character, no beginning of a stop string at its end."""
        text = self.whole(tokens)
        if text.endswith(REPLACEMENT):
            return False
        return not any(text.endswith(stop[:length]) for stop in self._stop for length in range(1, len(stop)))
