"""Which example comes when: language sampling p_i = q_i^a / sum_j q_j^a, and the plan of a whole run.

The plan is a pure function of (seed, sizes), made once: entry k says which task and which of its examples is drawn
k-th. So the order does not depend on the number of workers or processes, and a resumed run continues it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW_BATCHES = 32  # batches of one length-sorted window: enough to save most padding, few enough to stay mixed


def task_probabilities(sizes: Sequence[int], alpha: float) -> NDArray[np.float64]:
    """p_i = q_i^alpha / sum_j q_j^alpha with q_i = n_i / sum n (XLM, arXiv 1901.07291; SWCM uses alpha = 0.3)."""
    counts = np.asarray(sizes, dtype=np.float64)
    if counts.size == 0 or (counts <= 0).any():
        raise ValueError("every task needs at least one example")
    powered = (counts / counts.sum()) ** alpha
    return powered / powered.sum()


def mixture(
    sizes: Mapping[str, int], objectives: Mapping[str, str], alpha: float, shares: Mapping[str, float]
) -> dict[str, float]:
    """Probability of each task. Objectives (denoising, translation, ...) take their `shares` (normalised; missing
    ones count 1), and the tasks of one objective share its part by `task_probabilities`."""
    present = list(dict.fromkeys(objectives[task] for task in sizes))
    weights = {objective: float(shares.get(objective, 1.0)) for objective in present}
    total = sum(weights.values())
    probabilities: dict[str, float] = {}
    for objective in present:
        tasks = [task for task in sizes if objectives[task] == objective]
        within = task_probabilities([sizes[task] for task in tasks], alpha)
        for task, probability in zip(tasks, within, strict=True):
            probabilities[task] = weights[objective] / total * float(probability)
    return probabilities


def plan_run(
    sizes: Sequence[int], probabilities: Sequence[float], total: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(task [total], example [total]). The tasks are drawn independently; each task walks through its examples in
    fresh random orders, so that no example comes a second time before all of its task came once."""
    rng = np.random.default_rng(seed)
    tasks = rng.choice(len(sizes), size=total, p=np.asarray(probabilities)).astype(np.int32)
    examples = np.empty(total, dtype=np.int64)
    for task, size in enumerate(sizes):
        places = np.flatnonzero(tasks == task)
        rounds = -(-len(places) // size)
        order = np.concatenate([rng.permutation(size) for _ in range(rounds)]) if rounds else np.empty(0, np.int64)
        examples[places] = order[: len(places)]
    return tasks, examples


def length_grouped_order(lengths: NDArray[np.int64], batch_size: int, seed: int) -> NDArray[np.int64]:
    """An order of [0, total) in which each batch holds examples of similar length: windows of WINDOW_BATCHES batches
    are sorted by length and their batches shuffled. Only the last batch of all may be short."""
    rng = np.random.default_rng([seed, 1])
    order: list[NDArray[np.int64]] = []
    window = WINDOW_BATCHES * batch_size
    for start in range(0, len(lengths), window):
        members = start + np.argsort(lengths[start : start + window], kind="stable")
        batches = [members[first : first + batch_size] for first in range(0, len(members), batch_size)]
        full = [batch for batch in batches if len(batch) == batch_size]
        order += [full[index] for index in rng.permutation(len(full))]
        order += [batch for batch in batches if len(batch) < batch_size]
    return np.concatenate(order) if order else np.empty(0, np.int64)
