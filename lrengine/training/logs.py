"""The run's history: train_log.jsonl, TensorBoard, and what TrainResult takes from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lrengine.training.checkpoints import CHECKPOINT
from lrengine.training.trainer import LOG_FILE


def cut_log(output_dir: Path, checkpoint: Path | None) -> None:
    """Drop the lines of steps that a resumed run (or a new one) will take again."""
    log = output_dir / LOG_FILE
    if not log.is_file():
        return
    match = CHECKPOINT.fullmatch(checkpoint.name) if checkpoint is not None else None
    last = int(match[1]) if match else 0
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= last:
                kept.append(line)
        except (json.JSONDecodeError, KeyError, TypeError):
            continue  # the last line of a killed run may be half a line
    partial = log.with_suffix(".partial")
    partial.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    partial.replace(log)


def losses(history: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(step, training loss), the mean since the entry before."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry]


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [dict(entry) for entry in history if "eval_loss" in entry]


class TensorBoardLog(TrainerCallback):
    """Scalars of every log entry. transformers' own callback takes its folder in different ways in 4.57 and 5.x."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writer: Any = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory))
        for name, value in (logs or {}).items():
            if isinstance(value, (int, float)):
                group = "eval/" + name.removeprefix("eval_") if name.startswith("eval_") else "train/" + name
                self._writer.add_scalar(group, value, state.global_step)
        self._writer.flush()
