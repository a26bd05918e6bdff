"""The planned run as a map-style data set, and the collator that pads a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lrengine.data.examples import Example
from lrengine.data.features import Features, MakeFeatures
from lrengine.data.sampling import length_grouped_order, plan_run
from lrengine.models.losses import IGNORED_LABEL


def approximate_length(example: Example) -> int:
    """UTF-8 bytes: nearer to the number of tokens than characters are, across scripts."""
    texts = (example.source, example.prompt, example.target or example.source)
    return sum(len(text.encode()) for text in texts)


class PlannedDataset(Dataset[Features]):
    """Entry k is the k-th example of the whole run, in the order in which a sequential sampler reads them.

    examples: of all tasks; probabilities: task -> share of the draws; total: entries (steps x global batch)."""

    def __init__(
        self,
        examples: Sequence[Example],
        probabilities: dict[str, float],
        total: int,
        make: MakeFeatures,
        seed: int,
        batch_size: int | None,
    ) -> None:
        by_task: dict[str, list[int]] = {task: [] for task in probabilities}
        for index, example in enumerate(examples):
            by_task[example.task].append(index)
        tasks, draws = plan_run(
            [len(by_task[task]) for task in probabilities], list(probabilities.values()), total, seed
        )
        members = [np.asarray(by_task[task], dtype=np.int64) for task in probabilities]
        plan = np.empty(total, dtype=np.int64)
        for task, indices in enumerate(members):
            plan[tasks == task] = indices[draws[tasks == task]]
        if batch_size is not None:  # group batches by length
            lengths = np.asarray([approximate_length(example) for example in examples], dtype=np.int64)
            plan = plan[length_grouped_order(lengths[plan], batch_size, seed)]
        self.plan: NDArray[np.int64] = plan
        self.examples = examples
        self.make = make
        self.seed = seed

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Features:
        return self.make(self.examples[self.plan[index]], np.random.default_rng([self.seed, 2, index]))


class FixedDataset(Dataset[Features]):
    """Each example once, in order, with noise that is the same every time: for dev and test."""

    def __init__(self, examples: Sequence[Example], make: MakeFeatures, seed: int) -> None:
        self.examples = sorted(examples, key=approximate_length)
        self.make = make
        self.seed = seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Features:
        return self.make(self.examples[index], np.random.default_rng([self.seed, 3, index]))


class Collator:
    """Right-pads a list of features: input_ids and attention_mask [B, S], labels [B, T] (-100 padding) or [B], and for
    a fusion model prompt_ids and prompt_attention_mask [B, P] (P may be 0)."""

    def __init__(self, pad_id: int, prompt_pad_id: int = 0) -> None:
        self.pad_id = pad_id
        self.prompt_pad_id = prompt_pad_id

    def __call__(self, batch: list[Features]) -> dict[str, Tensor]:
        sources = [features["input_ids"] for features in batch]
        tensors = {"input_ids": _pad(sources, self.pad_id), "attention_mask": _mask(sources)}
        labels: list[Any] = [features["labels"] for features in batch]
        tensors["labels"] = torch.tensor(labels) if isinstance(labels[0], int) else _pad(labels, IGNORED_LABEL)
        if "prompt_ids" in batch[0]:
            prompts = [features["prompt_ids"] for features in batch]
            tensors["prompt_ids"] = _pad(prompts, self.prompt_pad_id)
            tensors["prompt_attention_mask"] = _mask(prompts)
        return tensors


def _pad(rows: list[list[int]], value: int) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.long)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return padded


def _mask(rows: list[list[int]]) -> Tensor:
    lengths = torch.tensor([len(ids) for ids in rows])
    return (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
