"""transformers' Trainer on a RunClock: the learning rate follows the clock's progress, so that a run with a time budget
also ends at the schedule's end."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from lrengine.training.clock import RunClock, Schedule, learning_rate_factor


class ClockTrainer(Trainer):
    """`warmup`: part of the run. Every log entry says in `elapsed_s` how old the run is."""

    def __init__(self, *, clock: RunClock, schedule: Schedule, warmup: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clock = clock
        self._schedule: Schedule = schedule
        self._warmup = warmup
        self.add_callback(clock)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        if self.lr_scheduler is None:
            chosen = optimizer if optimizer is not None else self.optimizer
            assert chosen is not None
            self.lr_scheduler = LambdaLR(
                chosen,
                lambda step: learning_rate_factor(self.clock.progress_at(step), self._schedule, self._warmup),
            )
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs["elapsed_s"] = round(self.clock.seconds, 3)
        super().log(logs, start_time)
