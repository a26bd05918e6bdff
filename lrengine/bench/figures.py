"""From the samples of a report to the figures that people read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrengine.bench.report import parts_of
from lrengine.bench.workload import Workload


@dataclass(frozen=True)
class Figures:
    """Of one contestant at one workload; medians unless their names say otherwise.

    request_ms, p50, p95, p99, low, high of a whole request. first_ms: a request of one token (None when encoding).
    token_us, with its low and high: (whole - first) / (tokens - 1). tokens_per_s: over all rows, first token included.
    step_bytes: weight bytes of a step; floor_us: those over the read bandwidth of the same run. joules: of a request.
    """

    name: str
    workload: Workload
    request_ms: float
    percentiles_ms: tuple[float, float, float]
    request_range_ms: tuple[float, float]
    first_ms: float | None
    token_us: float | None
    token_range_us: tuple[float, float] | None
    tokens_per_s: float | None
    step_bytes: int | None
    floor_us: float | None
    peak_mib: float | None
    joules: float | None

    @property
    def floor_ratio(self) -> float | None:
        """Measured over floor: 1 is perfect. Of a request when encoding."""
        if not self.floor_us:
            return None
        return (self.request_ms * 1e3 if self.token_us is None else self.token_us) / self.floor_us

    @property
    def latency_us(self) -> float:
        """What contestants are compared by: of a token, or of a request where none are generated."""
        return self.request_ms * 1e3 if self.token_us is None else self.token_us


def token_seconds(row: dict[str, Any]) -> list[float]:
    """A value a round: of a token, or of a whole request where none are generated."""
    if "first_s" not in row:
        return list(row["request_s"])
    steps = row["workload"]["new_tokens"] - 1
    return [(whole - first) / steps for whole, first in zip(row["request_s"], row["first_s"], strict=True)]


def figures_of(report: dict[str, Any]) -> list[Figures]:
    """Of every row that did not fail, of every part of a suite's file."""
    found = []
    for part in parts_of(report).values():
        bandwidths = part.get("read_bandwidth_bytes_s")
        bandwidth = statistics.median(bandwidths) if bandwidths else None
        found += [_figures(row, bandwidth) for row in part["rows"] if "failed" not in row]
    return found


def _figures(row: dict[str, Any], bandwidth: float | None) -> Figures:
    workload = Workload(**row["workload"])
    generates = workload.task == "generate"
    requests, tokens = [1e3 * s for s in row["request_s"]], [1e6 * s for s in token_seconds(row)]
    produced = workload.batch * workload.new_tokens
    p50, p95, p99 = (float(p) for p in np.percentile(requests, [50, 95, 99]))
    return Figures(
        name=row["name"],
        workload=workload,
        request_ms=statistics.median(requests),
        percentiles_ms=(p50, p95, p99),
        request_range_ms=(min(requests), max(requests)),
        first_ms=1e3 * statistics.median(row["first_s"]) if generates else None,
        token_us=statistics.median(tokens) if generates else None,
        token_range_us=(min(tokens), max(tokens)) if generates else None,
        tokens_per_s=produced / statistics.median(row["request_s"]) if generates else None,
        step_bytes=row.get("step_bytes"),
        floor_us=1e6 * row["step_bytes"] / bandwidth if row.get("step_bytes") and bandwidth else None,
        peak_mib=row.get("peak_mib"),
        joules=statistics.median(row["joules"]) if row.get("joules") else None,
    )


def table(figures: Sequence[Figures]) -> str:
    """A Markdown table a workload, the fastest first."""
    parts = []
    for workload in dict.fromkeys(figure.workload for figure in figures):
        group = sorted((f for f in figures if f.workload == workload), key=lambda f: f.latency_us)
        generates = workload.task == "generate"
        head = ["", *(["us a token", "range", "first token ms"] if generates else [])]
        head += ["request ms", "p95", "p99", *(["tokens/s"] if generates else []), "floor", "peak MiB", "J"]
        lines = [f"### {workload.name}", "", _line(head), _line(["---"] * len(head))]
        lines += [_line(_cells(figure)) for figure in group]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cells(figure: Figures) -> list[str]:
    cells = [figure.name]
    if figure.token_us is not None and figure.token_range_us and figure.first_ms is not None:
        low, high = figure.token_range_us
        cells += [f"{figure.token_us:,.0f}", f"{low:,.0f} to {high:,.0f}", f"{figure.first_ms:.1f}"]
    cells += [f"{figure.request_ms:.1f}", *(f"{p:.1f}" for p in figure.percentiles_ms[1:])]
    if figure.tokens_per_s is not None:
        cells.append(f"{figure.tokens_per_s:.0f}")
    for value, form in ((figure.floor_ratio, "{:.2f}x"), (figure.peak_mib, "{:,.0f}"), (figure.joules, "{:.2f}")):
        cells.append("" if value is None else form.format(value))
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
