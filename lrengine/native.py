"""What lrengine.Engine's methods are written on: the compiled engine, or an ONNX export in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrengine import _engine
from lrengine.request import Ids

Floats = NDArray[np.float32]


class NativeModel(Protocol):
    """Rows of ids in, numbers out. Every method checks ids and lengths of all rows before it computes anything, and
    raises InvalidRequestError; a length of 0 means no limit."""

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def model_type(self) -> str: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def kernel_launches(self) -> int: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def end_tokens(self) -> list[int]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def max_source_length(self) -> int: ...

    def start(
        self,
        sources: Sequence[Ids],
        prompts: Sequence[Ids],
        prefixes: Sequence[Ids],
        options: dict[str, Any],
        stop: Callable[[int, Ids], bool] | None,
    ) -> _engine.Session: ...
    def score(self, sources: Sequence[Ids], prompts: Sequence[Ids], targets: Sequence[Ids]) -> list[Floats]: ...
    def check_labels(self, sources: Sequence[Ids], prompts: Sequence[Ids], labels: Sequence[Ids]) -> None:
        """Refuses what score() of every source with every label would, by the number of the source and the label."""

    def classify(self, sources: Sequence[Ids]) -> list[Floats]: ...
    def encode(self, sources: Sequence[Ids], output: str) -> list[Floats]: ...
