"""The types of a request's options, for type checkers; their meaning and defaults stand at Engine.generate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from lrengine.request import Inputs


class StreamOptions(TypedDict, total=False):
    """What Engine.stream takes by name beside prompts, prefix and stop."""

    max_new_tokens: int
    min_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    suppress_tokens: Sequence[int] | None


class GenerateOptions(StreamOptions, total=False):
    """All that Engine.generate takes by name, but num_return_sequences, which decides the type of the answer."""

    prompts: Inputs | None
    num_beams: int
    length_penalty: float
    early_stopping: bool | str
    prefix: Inputs | Sequence[int] | None
    stop: str | Sequence[str] | None
