"""The Trainer of `lrengine train`: checkpoints that are whole, the planned data order, a token-weighted loss for every
model type, scheduled sampling, a log file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torch.utils.data import Sampler, SequentialSampler

from lrengine.models.losses import IGNORED_LABEL
from lrengine.training.checkpoints import STAGING, STATE_FILE, keep_newest, publish
from lrengine.training.clock_trainer import ClockTrainer
from lrengine.training.config import ScheduledSampling
from lrengine.training.scheduled_sampling import own_prediction_probability, sampled_decoder_inputs

LOG_FILE = "train_log.jsonl"


@dataclass(frozen=True)
class LossOptions:
    label_smoothing: float = 0.0
    scheduled_sampling: ScheduledSampling | None = None


class PlannedTrainer(ClockTrainer):
    """`write_model(directory)` saves everything a model directory holds; `keep` checkpoints stay."""

    def __init__(
        self,
        *,
        loss_options: LossOptions,
        write_model: Callable[[Path], None],
        keep: int,
        mixer_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mixer_learning_rate = mixer_learning_rate
        self.loss_options = loss_options
        self.write_model = write_model
        self.keep = keep
        self._staging = False
        self.model_accepts_loss_kwargs = True  # compute_loss below divides by the step's tokens itself

    def create_optimizer(self, *arguments: Any) -> Any:
        """The Trainer's, the mixer's parameters in groups of their own where they have their own rate."""
        optimizer = super().create_optimizer(*arguments)
        if self.mixer_learning_rate is not None:
            assert isinstance(self.model, nn.Module)
            mixer = {id(value) for name, value in self.model.named_parameters() if name.startswith("mixer.")}
            for group in list(optimizer.param_groups):
                own = [value for value in group["params"] if id(value) in mixer]
                if own:
                    group["params"] = [value for value in group["params"] if id(value) not in mixer]
                    optimizer.add_param_group({**group, "params": own, "lr": self.mixer_learning_rate})
        return optimizer

    # Data: the plan is the order.

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Tensor]], device: torch.device) -> Tensor | None:
        """Labels in the whole step, over accumulated batches and processes: the loss's denominator."""
        if not batch_samples:
            return None
        count = sum((batch["labels"] != IGNORED_LABEL).sum() for batch in batch_samples)
        assert isinstance(count, Tensor)
        return self.accelerator.gather(count.to(device)).sum()

    # Loss.

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean over the labels of the whole step while training, of this batch in evaluation."""
        inputs = dict(inputs)
        if model.training:
            self._feed_own_predictions(model, inputs)
            # logits [B, T, V] take the most memory of a step; the loss can do without them
            inputs["with_logits"] = bool(self.loss_options.label_smoothing)
        outputs = model(**inputs)
        loss = outputs.loss
        if model.training and self.loss_options.label_smoothing:
            loss = smoothed_loss(outputs.logits, inputs["labels"], loss, self.loss_options.label_smoothing)
        if model.training and num_items_in_batch is not None:
            count = (inputs["labels"] != IGNORED_LABEL).sum()
            # gradients are averaged over the processes, but each holds only its part of the step's sum
            loss = loss * (count * self.accelerator.num_processes / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _feed_own_predictions(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        config = self.loss_options.scheduled_sampling
        if config is None:
            return
        probability = own_prediction_probability(config, self.clock.progress, self.state.global_step)
        if probability > 0.0:
            bare = self.accelerator.unwrap_model(model)
            inputs["decoder_input_ids"] = sampled_decoder_inputs(bare, inputs, probability)

    # Files.

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also one line of train_log.jsonl, which is written at once: a killed run leaves its curve."""
        if self.loss_options.scheduled_sampling is not None and "loss" in logs:
            config = self.loss_options.scheduled_sampling
            logs["own_predictions"] = own_prediction_probability(config, self.clock.progress, self.state.global_step)
        super().log(logs, start_time)
        if self.is_world_process_zero():
            with (Path(str(self.args.output_dir)) / LOG_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self.state.log_history[-1]) + "\n")

    def _get_output_dir(self, trial: Any) -> str:
        directory = Path(str(self.args.output_dir))
        return str(directory / STAGING if self._staging else directory)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """All of it into the staging folder first; see checkpoints.py."""
        output_dir = Path(str(self.args.output_dir))
        name = f"checkpoint-{self.state.global_step}"
        self.state.best_model_checkpoint = None  # a path into an older staging folder; recomputed below
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = False
        self.accelerator.wait_for_everyone()  # every process writes its random state into the folder
        best = output_dir / f"checkpoint-{self.state.best_global_step}" if self.state.best_global_step else None
        self.state.best_model_checkpoint = str(best) if best is not None else None
        if self.args.should_save:
            staged = output_dir / STAGING / name
            self.state.save_to_json(str(staged / STATE_FILE))
            publish(staged, output_dir / name)
            shutil.rmtree(output_dir / STAGING, ignore_errors=True)
            keep_newest(output_dir, self.keep, best)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:  # transformers 5 calls this in every process
            return
        directory = Path(output_dir if output_dir is not None else str(self.args.output_dir))
        directory.mkdir(parents=True, exist_ok=True)
        self.write_model(directory)


def smoothed_loss(logits: Tensor, labels: Tensor, loss: Tensor, smoothing: float) -> Tensor:
    """(1 - e) * loss + e * mean over labels of the mean over the vocabulary of -log p. logits [B, T, V] aligned with
    labels [B, T]."""
    kept = labels != IGNORED_LABEL
    uniform = -log_softmax(logits[kept].float(), dim=-1).mean(dim=-1).mean()
    return (1.0 - smoothing) * loss + smoothing * uniform
