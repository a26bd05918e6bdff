"""What a search asks of a request's decoder (csrc/bindings/outside_model.h), and teacher forcing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrengine.errors import InvalidRequestError
from lrengine.export.decoders import Decoder, Floats
from lrengine.request import Ids


class SearchState:
    """tokens: fed before the first choice, a row a source."""

    def __init__(self, decoder: Decoder, tokens: Sequence[Ids], max_new_tokens: int) -> None:
        self._decoder, self._tokens = decoder, tokens
        self.prefill_lengths = [decoder.first_length(b) + len(row) for b, row in enumerate(tokens)]
        longest, limit = max(self.prefill_lengths), decoder.manifest.max_target
        check_lengths(decoder, self.prefill_lengths)
        if limit:
            max_new_tokens = min(max_new_tokens, limit - min(self.prefill_lengths) + 1)
        self.capacity = longest + max_new_tokens
        decoder.reserve(longest, max_new_tokens - 1, self.capacity)  # the last token is never fed

    def prefill(self) -> Floats:
        return self._decoder.feed(self._tokens, [range(length - 1, length) for length in self.prefill_lengths])

    def step(self, tokens: Ids, slots: Ids, sources: Ids, lengths: Ids, history: Ids | None) -> Floats:
        return self._decoder.step(tokens, slots, sources, lengths, history)


def check_lengths(decoder: Decoder, lengths: Sequence[int]) -> None:
    limit = decoder.manifest.max_target
    for index, length in enumerate(lengths):
        if length == 0:
            raise InvalidRequestError(f"source {index}: nothing to predict the first token from")
        if limit and length > limit:
            raise InvalidRequestError(
                f"source {index} needs {length} positions (source, prompt, forced and new tokens), "
                f"the model has {limit}"
            )


def score(decoder: Decoder, tokens: Sequence[Ids], targets: Sequence[Ids]) -> list[NDArray[np.float32]]:
    """Log-probability of every target token behind `tokens`; no target is empty."""
    fed = [np.concatenate([row, target[:-1]]) for row, target in zip(tokens, targets, strict=True)]
    ends = [decoder.first_length(b) + len(row) for b, row in enumerate(fed)]
    check_lengths(decoder, ends)
    decoder.reserve(max(ends), 0, max(ends))
    logits = decoder.feed(fed, [range(end - len(target), end) for end, target in zip(ends, targets, strict=True)])
    chosen = log_probabilities(logits, np.concatenate(targets))
    return np.split(chosen, np.cumsum([len(target) for target in targets])[:-1])


def log_probabilities(logits: Floats, ids: Ids) -> NDArray[np.float32]:
    """log p(ids[i]) under logits[i]."""
    largest = logits.max(-1, keepdims=True)
    sums = np.log(np.exp(logits - largest).sum(-1, dtype=np.float64)) + largest[:, 0]
    return (logits[np.arange(len(ids)), ids] - sums).astype(np.float32)
