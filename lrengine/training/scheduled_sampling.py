"""Scheduled sampling (arXiv 1506.03099) in the parallel form for Transformers (arXiv 1906.07651).

A Transformer decoder sees all gold tokens at once, so the model's own outputs are made in a first pass without
gradients: it predicts every token from the gold ones before it. In the second pass, which is trained, each gold input
token is replaced by that prediction with probability p, independently. p grows with the schedule.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lrengine.models.losses import IGNORED_LABEL
from lrengine.training.config import ScheduledSampling


def own_prediction_probability(config: ScheduledSampling, progress: float, step: int) -> float:
    """p at `progress` (0 to 1) of the run, `step` optimizer steps done.

    linear: max * clamp((progress - start) / (end - start), 0, 1).
    inverse_sigmoid: max * (1 - k / (k + exp(step / k))): the paper's teacher-forcing rate is k / (k + exp(i / k))."""
    if config.schedule == "linear":
        if progress < config.start:
            return 0.0
        width = config.end - config.start
        return config.max_probability * min((progress - config.start) / width if width else 1.0, 1.0)
    if config.schedule == "inverse_sigmoid":
        exponent = min(step / config.k, 700.0)  # exp() overflows above 709
        return config.max_probability * (1.0 - config.k / (config.k + math.exp(exponent)))
    return 0.0


def mix_predictions(gold: Tensor, predictions: Tensor, labels: Tensor, probability: float) -> Tensor:
    """Decoder inputs [B, T]: `gold`, where position t + 1 holds `predictions` [B, T] at t with `probability`. The
    start token and padding stay. Draws from torch's global generator (which a checkpoint restores)."""
    chosen = torch.rand(gold.shape, device=gold.device) < probability
    chosen[:, 0] = False
    # input t + 1 is the token that label t stands for; there is none behind the end
    chosen[:, 1:] &= labels[:, :-1] != IGNORED_LABEL
    own = predictions.roll(1, dims=1)
    return torch.where(chosen, own, gold)


@torch.no_grad()
def sampled_decoder_inputs(model: nn.Module, inputs: dict[str, Any], probability: float) -> Tensor:
    """Run the first pass of `model` (SWCM, not wrapped) and mix its arg-max predictions into the gold inputs."""
    labels = inputs["labels"]
    gold = model.prepare_decoder_input_ids_from_labels(labels)  # type: ignore[operator]
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        decoder_input_ids=gold,
        use_cache=False,
    ).logits
    return mix_predictions(gold, logits.argmax(dim=-1), labels, probability)
