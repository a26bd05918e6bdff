"""Two ways to run a model directory on texts: the engine, and PyTorch. Both give the same kind of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrengine.data.tokenization import TextEncoder
from lrengine.errors import ModelFileError
from lrengine.evaluation.model_config import read_config, source_positions


@dataclass(frozen=True)
class DecodingOptions:
    max_new_tokens: int = 128
    num_beams: int = 1
    batch_size: int = 16
    threads: int | None = None
    device: str = "auto"


class Predictor(Protocol):
    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        """The generated text of each source (with its prompt, for a fusion model)."""
        ...

    def classify(self, sources: Sequence[str]) -> list[str]:
        """The label of each source; classifier models only."""
        ...


class EnginePredictor:
    """The C++ engine."""

    def __init__(self, directory: Path, options: DecodingOptions) -> None:
        from lrengine.engine import Engine
        from lrengine.text import TextCodec

        self.engine = Engine.load(str(directory), device=options.device, threads=options.threads)
        codec = TextCodec.load(directory)
        if codec is None:
            raise ModelFileError(f"{directory}: has no tokenizer.json")
        # ids, not texts: the engine refuses a source that is longer than the encoder takes, and training cuts it
        self.text = TextEncoder(codec.bare, codec.source)
        self.max_source = source_positions(read_config(directory)["encoder"])
        self.options = options

    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        def answers(chosen: slice) -> list[str]:
            found = self.engine.generate(
                self._ids(sources[chosen]),
                prompts=None if prompts is None else list(prompts[chosen]),
                max_new_tokens=self.options.max_new_tokens,
                num_beams=self.options.num_beams,
            )
            return [str(answer.text) for answer in found]  # a directory without a tokenizer was refused

        return in_batches(answers, len(sources), self.options.batch_size)

    def classify(self, sources: Sequence[str]) -> list[str]:
        def labels(chosen: slice) -> list[str]:
            return [answer.label for answer in self.engine.classify(self._ids(sources[chosen]))]

        return in_batches(labels, len(sources), self.options.batch_size)

    def _ids(self, sources: Sequence[str]) -> list[list[int]]:
        return [self.text.source(source, self.max_source) for source in sources]


class TorchPredictor:
    """The PyTorch model and transformers' generate: slower, and the reference."""

    def __init__(self, directory: Path, options: DecodingOptions) -> None:
        from lrengine.evaluation.torch_model import TorchModel

        self.model = TorchModel(directory, options.device)
        self.options = options

    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        def answers(chosen: slice) -> list[str]:
            written = self.model.generate(
                sources[chosen],
                None if prompts is None else prompts[chosen],
                max_new_tokens=self.options.max_new_tokens,
                num_beams=self.options.num_beams,
            )
            return [self.model.text(tokens) for tokens in written]

        return in_batches(answers, len(sources), self.options.batch_size)

    def classify(self, sources: Sequence[str]) -> list[str]:
        names = self.model.labels

        def labels(chosen: slice) -> list[str]:
            return [names[number] for number in self.model.probabilities(sources[chosen]).argmax(dim=-1).tolist()]

        return in_batches(labels, len(sources), self.options.batch_size)


def in_batches(answer: Callable[[slice], list[str]], count: int, size: int) -> list[str]:
    """`answer` over `count` rows, `size` at a time."""
    return [text for start in range(0, count, size) for text in answer(slice(start, start + size))]
