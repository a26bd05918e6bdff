"""`train(config)`: from a config to a finished model directory."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from lrengine.data.dataset import Collator, FixedDataset, PlannedDataset
from lrengine.data.report import DataReport
from lrengine.training.attention import attention_kernels
from lrengine.training.checkpoints import STAGING, checkpoint_to_resume, clear_leftovers, publish_files
from lrengine.training.clock import RunClock
from lrengine.training.config import TrainConfig
from lrengine.training.fingerprint import check_same_run
from lrengine.training.logs import TensorBoardLog, cut_log, evaluations, losses
from lrengine.training.model_card import write_model_card
from lrengine.training.model_directory import Parts
from lrengine.training.processes import Processes
from lrengine.training.setup import Setup, prepare
from lrengine.training.trainer import LossOptions, PlannedTrainer


@dataclass
class TrainResult:
    """`train_loss` and `eval_history` are in the order of the steps; `train_log.jsonl` holds the same and more."""

    output_dir: Path
    steps: int
    seconds: float
    stopped_by: str  # "steps" or "seconds"
    train_loss: list[tuple[int, float]]
    eval_history: list[dict[str, float]]
    final_metrics: dict[str, float]
    data_report: DataReport
    resumed_from: str | None = None
    log_history: list[dict[str, Any]] = field(default_factory=list)


def train(config: TrainConfig, parts: Parts | None = None, callbacks: Sequence[TrainerCallback] = ()) -> TrainResult:
    """Train as `config` says; `config.run.output_dir` becomes a model directory with `train_log.jsonl`,
    `data_report.json`, `train_config.yaml` and the model card, `README.md`, beside the model.

    parts: a model and its tokenizers that are already in memory, instead of what config.model names; the model is
    trained in place. callbacks: more of transformers' TrainerCallbacks. Raises DataError for everything that the config
    or the files can be wrong about, before training starts."""
    config = config.resolved()
    run = config.run
    output_dir = Path(run.output_dir)
    processes = Processes(run.device)
    with processes.first_one_first():
        output_dir.mkdir(parents=True, exist_ok=True)
        checkpoint = checkpoint_to_resume(output_dir, run.resume)
        if processes.is_first:
            clear_leftovers(output_dir)
            check_same_run(output_dir, config, checkpoint, processes.count)
            cut_log(output_dir, checkpoint)
    if not run.progress:
        transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(run.seed)
    with processes.first_one_first():  # so that a tokenizer is trained by one process only
        setup = prepare(config, parts, checkpoint, processes)
    clock = RunClock(setup.steps, run.max_seconds)
    trainer = _trainer(config, setup, clock, callbacks)
    if processes.is_first:
        if run.progress:
            print(setup.report, flush=True)
        setup.report.save(output_dir / "data_report.json")
        (output_dir / "train_config.yaml").write_text(
            yaml.safe_dump(config.as_dict(), allow_unicode=True, sort_keys=False)
        )
    started = time.monotonic()
    with attention_kernels(run.bf16, trainer.args.device.type == "cpu"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    final = _final_metrics(trainer) if setup.dev_examples else {}
    curve = losses(trainer.state.log_history)
    seconds = time.monotonic() - started
    if processes.is_first:
        _write_final(output_dir, setup.parts)
        steps, loss = trainer.state.global_step, curve[-1][1] if curve else None
        outcome = {"steps": steps, "seconds": seconds, "train_loss": loss, "metrics": final}
        write_model_card(output_dir, config, setup.parts.model, setup.report, outcome)
    trainer.accelerator.wait_for_everyone()
    return TrainResult(
        output_dir=output_dir,
        steps=trainer.state.global_step,
        seconds=seconds,
        stopped_by="seconds" if clock.out_of_time else "steps",
        train_loss=curve,
        eval_history=evaluations(trainer.state.log_history),
        final_metrics=final,
        data_report=setup.report,
        resumed_from=str(checkpoint) if checkpoint is not None else None,
        log_history=list(trainer.state.log_history),
    )


def _trainer(
    config: TrainConfig, setup: Setup, clock: RunClock, callbacks: Sequence[TrainerCallback]
) -> PlannedTrainer:
    run, data = config.run, config.data
    sampling = config.objective.scheduled_sampling
    train_set = PlannedDataset(
        setup.examples,
        setup.report.sampling,
        setup.steps * setup.global_batch,
        setup.make_features,
        run.seed,
        run.batch_size if data.group_by_length else None,
    )
    more: list[TrainerCallback] = [TensorBoardLog(Path(run.output_dir) / "tensorboard")] if run.tensorboard else []
    trainer = PlannedTrainer(
        model=setup.parts.model,
        args=_arguments(config, setup),
        train_dataset=train_set,
        eval_dataset=FixedDataset(setup.dev_examples, setup.make_features, run.seed) if setup.dev_examples else None,
        data_collator=Collator(setup.pad_id, setup.prompt_pad_id),
        compute_metrics=setup.compute_metrics,
        callbacks=[*more, *callbacks],
        clock=clock,
        schedule=config.optimizer.schedule,
        warmup=config.optimizer.warmup,
        loss_options=LossOptions(config.objective.label_smoothing, sampling if sampling.schedule != "none" else None),
        write_model=setup.parts.save,
        keep=run.keep_checkpoints,
        mixer_learning_rate=config.optimizer.mixer_learning_rate,
    )
    if not run.progress:
        trainer.remove_callback(PrinterCallback)  # it would print every log entry in the bar's place
    return trainer


def _arguments(config: TrainConfig, setup: Setup) -> TrainingArguments:
    run, optimizer = config.run, config.optimizer
    assert optimizer.learning_rate is not None and optimizer.beta1 is not None and optimizer.weight_decay is not None
    return TrainingArguments(
        output_dir=run.output_dir,
        max_steps=setup.steps,
        per_device_train_batch_size=run.batch_size,
        per_device_eval_batch_size=run.batch_size,
        gradient_accumulation_steps=run.gradient_accumulation,
        learning_rate=optimizer.learning_rate,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.clip,
        bf16=run.bf16,
        **_checkpointing(run.gradient_checkpointing),
        logging_strategy="steps",
        logging_steps=run.log_every,
        logging_first_step=True,
        eval_strategy="steps" if run.eval_every and setup.dev_examples else "no",
        eval_steps=run.eval_every,
        save_strategy="steps" if run.save_every else "no",
        save_steps=run.save_every or 500,
        load_best_model_at_end=run.keep_best,
        metric_for_best_model="eval_loss" if run.keep_best else None,
        greater_is_better=False if run.keep_best else None,
        prediction_loss_only=setup.compute_metrics is None,
        seed=run.seed,
        dataloader_num_workers=run.workers,
        dataloader_pin_memory=run.device == "auto",
        use_cpu=run.device == "cpu" or not _has_accelerator(),  # unless it is told so, transformers 5 refuses bf16
        disable_tqdm=not run.progress,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
    )


def _has_accelerator() -> bool:
    return torch.accelerator.is_available() if hasattr(torch, "accelerator") else torch.cuda.is_available()


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """The arguments for gradient checkpointing; transformers 5 has renamed them."""
    if not wanted:
        return {}
    known = {item.name for item in dataclasses.fields(TrainingArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}}


def _final_metrics(trainer: PlannedTrainer) -> dict[str, float]:
    """Dev metrics of the finished model; those of the last step, if the model is still that one."""
    last = evaluations(trainer.state.log_history)[-1:]
    if last and last[0]["step"] == trainer.state.global_step and not trainer.args.load_best_model_at_end:
        return last[0]
    return dict(trainer.evaluate())


def _write_final(output_dir: Path, parts: Parts) -> None:
    """The model into output_dir itself: staged first, so that a failed save leaves what was there."""
    staged = output_dir / STAGING / "final"
    shutil.rmtree(staged, ignore_errors=True)
    parts.save(staged)
    publish_files(staged, output_dir)
    shutil.rmtree(output_dir / STAGING, ignore_errors=True)
