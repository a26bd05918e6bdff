"""What moved between two reports, beyond noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrengine.bench.report import parts_of
from lrengine.bench.workload import Workload

RESAMPLES = 2000


@dataclass(frozen=True)
class Change:
    """ratio: median time of a request in the second report over that in the first; interval: its 95% bootstrap
    interval. It knows the noise within the runs, not that between them: both must come from the same machine,
    equally busy."""

    name: str
    workload: Workload
    ratio: float
    interval: tuple[float, float]

    @property
    def moved(self) -> bool:
        low, high = self.interval
        return low > 1 or high < 1

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "no change beyond noise" if not self.moved else "slower" if self.ratio > 1 else "faster"
        return f"{self.name}, {self.workload.name}: {self.ratio:.3f}x ({low:.3f} to {high:.3f}), {verdict}"


def compare(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    """For every (contestant, workload) that both reports have samples of."""
    random = np.random.default_rng(0)
    before, after = _by_key(first), _by_key(second)
    return [_change(key[0], before[key], after[key], random) for key in before if key in after]


def _by_key(report: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (row["name"], part, json.dumps(row["workload"], sort_keys=True)): row
        for part, found in parts_of(report).items()
        for row in found["rows"]
        if "failed" not in row
    }


def _change(name: str, before: dict[str, Any], after: dict[str, Any], random: np.random.Generator) -> Change:
    a, b = np.array(before["request_s"]), np.array(after["request_s"])
    ratios = _resampled_medians(b, random) / _resampled_medians(a, random)
    low, high = np.percentile(ratios, [2.5, 97.5])
    workload = Workload(**before["workload"])
    return Change(name, workload, float(np.median(b) / np.median(a)), (float(low), float(high)))


def _resampled_medians(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.asarray(np.median(random.choice(values, (RESAMPLES, len(values))), axis=1))
