"""Training of the three model types: `train(TrainConfig) -> TrainResult`, on transformers' Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrengine.training.config import (
    DataSection,
    LanguageTags,
    ModelSection,
    ObjectiveSection,
    OptimizerSection,
    RunSection,
    ScheduledSampling,
    TokenizerTraining,
    TrainConfig,
)

if TYPE_CHECKING:
    from lrengine.training.run import TrainResult, train

__all__ = [
    "DataSection",
    "LanguageTags",
    "ModelSection",
    "ObjectiveSection",
    "OptimizerSection",
    "RunSection",
    "ScheduledSampling",
    "TokenizerTraining",
    "TrainConfig",
    "TrainResult",
    "train",
]


def __getattr__(name: str) -> Any:
    """`train` and `TrainResult` need torch and transformers; configs do not, so that they can be checked anywhere."""
    if name in ("train", "TrainResult"):
        from lrengine.training import run

        return getattr(run, name)
    raise AttributeError(name)
