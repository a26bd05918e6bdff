"""Confidence intervals by resampling: percentile bootstrap (Efron 1979), paired for differences (Koehn 2004).

What is drawn is the `Example.group`: when the same sentence is in eleven languages, its eleven answers are no eleven
independent observations, and an interval that took them for such would be too narrow. Examples without a group are
their own. Every system is scored on the same draws, so the difference of two has an interval of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrengine.data.examples import Example
from lrengine.evaluation.statistics import Rows, Statistic

LEVEL = 0.95
MEAN = "mean"  # of the tasks' scores


@dataclass(frozen=True)
class Interval:
    """`value` is the score of the sample itself, `low` and `high` the ends of the 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Bootstrap:
    """One set of draws over `examples`: weights [resamples + 1, n], the first row all ones (the sample itself)."""

    def __init__(self, examples: Sequence[Example], resamples: int = 1000, seed: int = 0) -> None:
        names = [example.group or f"\0{index}" for index, example in enumerate(examples)]
        _, members = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
        groups = int(members.max()) + 1
        draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1.0 / groups), size=resamples)
        self._weights: NDArray[np.float64] = np.vstack([np.ones(groups), draws])[:, members]
        self._tasks: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            self._tasks.setdefault(example.task, []).append(index)
        self._examples = examples

    def scores(self, predictions: Sequence[str], statistic: Statistic) -> dict[str, Rows]:
        """Task (and MEAN, over the tasks) -> the score of the sample and of each resample, [resamples + 1]."""
        found: dict[str, Rows] = {}
        for task, indices in self._tasks.items():
            references = [str(self._examples[i].target) for i in indices]
            language = self._examples[indices[0]].target_language  # one a task
            rows = statistic.rows([predictions[i] for i in indices], references, language)
            found[task] = statistic.finish(self._weights[:, indices] @ rows)
        if len(found) > 1:
            found[MEAN] = np.mean(list(found.values()), axis=0)
        return found


def interval(scores: Rows) -> Interval:
    """Of one row of Bootstrap.scores, or of the difference of two."""
    tail = 50.0 * (1 - LEVEL)
    low, high = np.percentile(scores[1:], [tail, 100 - tail])
    return Interval(float(scores[0]), float(low), float(high))


def mean_over_seeds(runs: Sequence[Mapping[str, Rows]]) -> dict[str, Rows]:
    """The mean of several runs' scores, resample by resample."""
    return {task: np.mean([run[task] for run in runs], axis=0) for task in runs[0]}
