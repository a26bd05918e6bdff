"""What every contestant is asked to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lrengine.errors import InvalidRequestError


@dataclass(frozen=True)
class Workload:
    """One request.

    task: "generate" (exactly `new_tokens` tokens: the end token is forbidden) or "encode" (a forward pass of the
        encoder or classifier; `new_tokens` is 0).
    batch: sources of the request. source: tokens of each. prompt: tokens that an LLM reads after each source.
    beams: 1 is greedy.
    text: a JSON file of the model's directory with rows of ids, the sources instead of made-up ones (their lengths then
        are not `source`); empty: made-up ones.
    """

    task: str = "generate"
    batch: int = 1
    source: int = 64
    new_tokens: int = 64
    beams: int = 1
    prompt: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        if self.task not in ("generate", "encode"):
            raise InvalidRequestError(f"task: found {self.task!r}, expected generate or encode")
        # a token's time is that of many tokens less that of one
        least = {"batch": 1, "source": 1, "new_tokens": 2 if self.task == "generate" else 0, "beams": 1, "prompt": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise InvalidRequestError(f"{name}: found {getattr(self, name)}, expected at least {lowest}")

    @property
    def name(self) -> str:
        parts = [self.task, f"batch {self.batch}", "real text" if self.text else f"source {self.source}"]
        if self.task == "generate":
            parts += [f"{self.new_tokens} tokens", "greedy" if self.beams == 1 else f"{self.beams} beams"]
        return ", ".join(parts)

    def message(self) -> dict[str, Any]:
        return asdict(self)


def grid(
    task: str, batches: Iterable[int], sources: Iterable[int], new_tokens: int, beams: Iterable[int], prompt: int = 0
) -> list[Workload]:
    """Each list varied by itself around the first value of the others: curves, not the whole product."""
    batches, sources, beams = list(batches), list(sources), list(beams)
    new_tokens = new_tokens if task == "generate" else 0
    beams = beams if task == "generate" else [1]
    settings = [(batch, sources[0], beams[0]) for batch in batches]
    settings += [(batches[0], source, beams[0]) for source in sources]
    settings += [(batches[0], sources[0], count) for count in beams]
    return [
        Workload(task, batch, source, new_tokens, count, prompt) for batch, source, count in dict.fromkeys(settings)
    ]
