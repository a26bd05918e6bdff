"""A training run of a module that makes its own loss, by transformers' Trainer, within a budget of seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from lrengine.training.clock import RunClock
from lrengine.training.clock_trainer import ClockTrainer


@dataclass(frozen=True)
class Budget:
    """A stage ends after `seconds`, or after `steps` if that comes first."""

    seconds: float
    steps: int | None = None

    @property
    def most_steps(self) -> int:
        return self.steps or 1_000_000


@dataclass(frozen=True)
class Pretrained:
    steps: int
    seconds: float
    loss: list[tuple[int, float]]


class BatchSource(Dataset):  # type: ignore[type-arg]
    """Batch number i, made from i alone: `make(generator)` gets a generator seeded with it."""

    def __init__(self, make: Callable[[random.Random], dict[str, Tensor]], length: int) -> None:
        self.make = make
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.make(random.Random(index))


def near_lengths(lengths: Sequence[int], size: int, generator: random.Random) -> list[int]:
    """Indices of `size` items of similar length: `lengths` is sorted, the batch comes from a random window of it."""
    window = min(4 * size, len(lengths))
    start = generator.randrange(len(lengths) - window + 1)
    return generator.sample(range(start, start + window), min(size, window))


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


class LossTicker(TrainerCallback):
    """Tells `tick` how far a run of a ClockTrainer is."""

    def __init__(self, tick: Callable[[str], None]) -> None:
        self.tick = tick

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.tick(f"step {state.global_step}, loss {logs['loss']:.2f}, {logs['elapsed_s']:.0f} s")


def pretrain(
    model: nn.Module,
    make: Callable[[random.Random], dict[str, Tensor]],
    budget: Budget,
    learning_rate: float,
    scratch: Path,
    tick: Callable[[str], None],
) -> Pretrained:
    """Train `model` in place on the batches of `make` with AdamW until the budget ends."""
    clock = RunClock(budget.most_steps, budget.seconds)
    arguments = TrainingArguments(
        output_dir=str(scratch), per_device_train_batch_size=1, max_steps=budget.most_steps,
        learning_rate=learning_rate, weight_decay=0.01, adam_beta2=0.98, max_grad_norm=1.0,
        logging_steps=5, save_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False,
        use_cpu=True, optim="adamw_torch_fused", log_level="error",
    )  # fmt: skip
    trainer = ClockTrainer(
        clock=clock,
        schedule="linear",
        warmup=0.05,
        model=model,
        args=arguments,
        train_dataset=BatchSource(make, budget.most_steps),
        data_collator=lambda items: items[0],
        callbacks=[LossTicker(tick)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dictionary; the demo has lines of its own
    trainer.train()
    loss = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    return Pretrained(trainer.state.global_step, clock.seconds, loss)
