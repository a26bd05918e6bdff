"""The one loss of all generative models: cross-entropy over the tokens that count."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lrengine.kernels.linear_cross_entropy import linear_cross_entropy

IGNORED_LABEL = -100


def token_cross_entropy(logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Mean of -log p(label) over labels [B, T] that are not -100, computed in float32 or better; logits [B, T, V].

    `num_items_in_batch`: labels in the whole step, over all accumulated micro-batches; given by Trainer, it replaces
    this batch's own count, so that a step's gradient does not depend on how the step is cut."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL, reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch


def projected_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, num_items_in_batch: Tensor | int | None = None
) -> Tensor:
    """`token_cross_entropy` of the logits hidden W^T + b, without these in memory where the kernel runs; hidden
    [B, T, D], weight [V, D], bias [V]."""
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = linear_cross_entropy(hidden, weight, labels, bias, IGNORED_LABEL, reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch
