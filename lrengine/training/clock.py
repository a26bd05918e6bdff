"""How far a run is: in steps, and in seconds where there is a budget. The learning rate and the stop depend on it.

With several processes the first one's clock counts for all: with clocks of their own they would disagree on the
learning rate and on the last step.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

Schedule = Literal["cosine", "linear", "constant"]


class RunClock(TrainerCallback):
    """`seconds` and `progress` (0 to 1) of the whole run, earlier sessions of a resumed run included."""

    def __init__(self, max_steps: int, max_seconds: float | None) -> None:
        self.max_steps = max_steps
        self.max_seconds = max_seconds
        self.seconds = 0.0
        self.steps = 0
        self.out_of_time = False
        self._before = 0.0
        self._started = time.monotonic()

    @property
    def progress(self) -> float:
        return self.progress_at(self.steps)

    def progress_at(self, step: int) -> float:
        timed = self.seconds / self.max_seconds if self.max_seconds is not None else 0.0
        return min(max(step / self.max_steps, timed), 1.0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._before = next((log["elapsed_s"] for log in reversed(state.log_history) if "elapsed_s" in log), 0.0)
        self._started = time.monotonic()
        self.steps = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.steps = state.global_step
        self.seconds = _first_process(self._before + time.monotonic() - self._started, args.device)
        if self.max_seconds is not None and self.seconds >= self.max_seconds:
            self.out_of_time = True
            control.should_training_stop = True


def learning_rate_factor(progress: float, schedule: Schedule, warmup: float) -> float:
    """Factor of the learning rate at `progress` (0 to 1): linear from 0 during the first `warmup` of the run, then
    constant, or falling to 0 linearly or as half a cosine."""
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 1.0
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0 - rest if schedule == "linear" else 1.0


def _first_process(value: float, device: torch.device) -> float:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
    torch.distributed.broadcast(shared, src=0)
    return float(shared)
