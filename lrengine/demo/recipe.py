"""Sizes and budgets of the demo, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

TRAINING_SECONDS = 195.0  # of four minutes; the rest goes to starting, reading, saving and the dev split
ENCODER_PART = 0.30  # of the time, with the LLM's training beside it; then the translator has the rest of the time,
LLM_PART = 0.20  # with fusion model and classifier beside it, which need less than that
FUSION_PART = 0.28
CLASSIFIER_PART = 0.08
QUICK_STEPS = 3


@dataclass(frozen=True)
class Measured:
    """How much is measured: test names a language and test pairs a direction (None: all), timed calls, compared outputs
    of a model."""

    names: int | None = None
    pairs: int | None = None
    calls: int = 60
    compared: int = 30


@dataclass(frozen=True)
class Recipe:
    """`encoder`, `llm`: directory or hub name of trained weights, None for the demo's own small ones."""

    encoder: str | None = None
    llm: str | None = None
    seconds: float = TRAINING_SECONDS
    quick: bool = False
    vocabulary: int = 6000
    llm_vocabulary: int = 2000
    encoder_width: int = 128
    encoder_layers: int = 3
    llm_width: int = 128
    llm_layers: int = 3
    seed: int = 17
    batch: dict[str, int] = field(
        default_factory=lambda: {"encoder": 48, "swcm": 24, "llm": 32, "fusion": 32, "classifier": 64}
    )

    def seconds_of(self, stage: str) -> float:
        """A stage's training time. Nothing to make first: all of the time is for the three models."""
        made_here = self.encoder is None or self.llm is None
        rest = 1.0 - ENCODER_PART if made_here else 1.0
        parts = {
            "encoder": ENCODER_PART,
            "llm": LLM_PART,
            "swcm": rest,
            "fusion": FUSION_PART if self.llm is None else rest - CLASSIFIER_PART,
            "classifier": CLASSIFIER_PART,
        }
        return self.seconds * parts[stage]

    def batch_size(self, stage: str) -> int:
        """Of a given encoder or LLM, with its vocabulary of 50,000 to 250,000, a step of a full batch takes tens of
        seconds of two cores: smaller batches leave steps enough to learn from."""
        given = {"swcm": self.encoder, "fusion": self.encoder or self.llm}.get(stage)
        return min(self.batch[stage], 6) if given is not None else self.batch[stage]

    @property
    def measured(self) -> Measured:
        if self.quick:
            return Measured(names=4, pairs=4, calls=3, compared=3)
        large = self.encoder is not None or self.llm is not None
        return Measured(names=40, pairs=30, calls=12, compared=10) if large else Measured()

    @property
    def threads(self) -> int:
        """As many as this process may use; a quick run is over before a second thread pays."""
        if self.quick:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def threads_of_a_stage(self) -> int:
        """Two stages train at a time."""
        return max(1, self.threads // 2)

    @property
    def steps(self) -> int | None:
        """Most steps of a stage; None: as many as its seconds allow."""
        return QUICK_STEPS if self.quick else None
