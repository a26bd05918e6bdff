"""A resumed run must be the same run: what decides the data order, the model or the optimizer may not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lrengine.errors import DataError
from lrengine.training.config import TrainConfig

# May differ between the sessions of one run: where it logs, how it saves, how long it may take, where it runs.
FREE = {
    "output_dir", "log_every", "eval_every", "save_every", "keep_checkpoints", "resume", "workers", "device",
    "tensorboard", "progress", "max_seconds", "gradient_checkpointing",
}  # fmt: skip
FINGERPRINT_FILE = "train_config.yaml"


def check_same_run(output_dir: Path, config: TrainConfig, checkpoint: Path | None, processes: int) -> None:
    """DataError naming the first differing key, if `checkpoint` is of a run in `output_dir` with another config, or of
    another number of processes (which decides the global batch)."""
    if checkpoint is None:
        return
    states = len(list(checkpoint.glob("rng_state*.pth")))  # one a process
    if states != processes:
        raise DataError(f"{checkpoint}: was made by {states} processes, this run has {processes}; use as many")
    saved_path = output_dir / FINGERPRINT_FILE
    if checkpoint.parent.resolve() != output_dir.resolve() or not saved_path.is_file():
        return
    before, now = _flat(yaml.safe_load(saved_path.read_text(encoding="utf-8"))), _flat(config.as_dict())
    for key in sorted(before.keys() | now.keys()):
        if (
            key.removeprefix("run.") in FREE
            or key == "data.dev"
            or key.startswith(("data.dev[", "evaluation"))
            or key.endswith("].licence")
        ):
            continue
        if before.get(key) != now.get(key):
            raise DataError(
                f"{output_dir}: {checkpoint.name} was made with {key} = {before.get(key)!r}, the config now says "
                f"{now.get(key)!r}; a resumed run must be the same run. Use another output_dir, or change it back"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [(f"{prefix}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: leaf for name, item in pairs for key, leaf in _flat(item, name).items()}
