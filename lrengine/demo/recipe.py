"""Sizes and budgets of the demo, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

TRAINING_SECONDS = 228.0  # of four minutes; the rest is what starting and ending five runs costs
SMALL_SHARES = {"encoder": 0.34, "swcm": 0.42, "llm": 0.08, "fusion": 0.10, "classifier": 0.06}
REAL_SHARES = {"swcm": 0.45, "fusion": 0.40, "classifier": 0.15}
QUICK_STEPS = 3


@dataclass(frozen=True)
class Recipe:
    """`encoder`, `llm`: directory or hub name of trained weights, None for the demo's own small ones."""

    encoder: str | None = None
    llm: str | None = None
    seconds: float = TRAINING_SECONDS
    quick: bool = False
    vocabulary: int = 4000
    llm_vocabulary: int = 2000
    encoder_width: int = 128
    encoder_layers: int = 4
    llm_width: int = 128
    llm_layers: int = 3
    seed: int = 17
    test_names: int | None = None  # per language; None: all
    batch: dict[str, int] = field(
        default_factory=lambda: {"encoder": 48, "swcm": 24, "llm": 32, "fusion": 32, "classifier": 64}
    )

    def seconds_of(self, stage: str) -> float:
        """This stage's part of the time; stages that trained weights make needless leave theirs to the others."""
        shares = dict(SMALL_SHARES)
        if self.encoder is not None:
            shares.pop("encoder")
        if self.llm is not None:
            shares.pop("llm")
        if self.encoder is not None and self.llm is not None:
            shares = dict(REAL_SHARES)
        return self.seconds * shares[stage] / sum(shares.values())

    @property
    def threads(self) -> int:
        """As many as this process may use; a quick run is over before a second thread pays."""
        if self.quick:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def steps(self) -> int | None:
        """Most steps of a stage; None: as many as its seconds allow."""
        return QUICK_STEPS if self.quick else None
