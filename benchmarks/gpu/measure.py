"""Timing on a GPU, for the kernel benchmarks: median and spread, with a cold L2, beside what the card can do.

A call is timed as it is (`eager`: with what it takes PyTorch to launch it) and as a captured graph (`graph`: the GPU's
work alone). `--smoke` runs everything once on tiny sizes without a GPU, in Triton's interpreter: it proves that the
script works, and its file says "smoke": true and holds no times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

if "--smoke" in sys.argv:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton

import torch  # noqa: E402

WARM_UPS, REPEATS, SECONDS_A_CASE = 3, 30, 0.25
_FLUSHED_BYTES = 256 << 20  # more than any L2 cache


class Card:
    """The GPU, its measured limits, and the time that is left for this benchmark."""

    def __init__(self, seconds: float, smoke: bool) -> None:
        self.smoke, self.seconds, self.started = smoke, seconds, time.monotonic()
        self.device = "cpu" if smoke else "cuda"
        if smoke:
            return
        self.flush = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device="cuda")
        self.copy_bytes_per_s = self._copy_rate()
        self.operations_per_s = self._product_rate()

    def used(self) -> float:
        """Part of the time that is gone."""
        return (time.monotonic() - self.started) / self.seconds

    def time(self, call: Callable[[], Any], graph: bool = True) -> dict[str, Any]:
        """{"eager": .., "graph": ..}, each with median_us, p10_us, p90_us; {} in a smoke run."""
        if self.smoke:
            call()
            return {}
        for _ in range(WARM_UPS):
            call()
        times: dict[str, Any] = {"eager": self._spread(call)}
        if graph:
            try:
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured):
                    call()
                times["graph"] = self._spread(captured.replay)
            except RuntimeError as error:  # what cannot be captured is still timed as it is
                torch.cuda.synchronize()
                times["graph_error"] = str(error).partition("\n")[0]
        return times

    def floor_us(self, size: float, operations: float = 0.0) -> float | None:
        """What `size` bytes and `operations` take at the measured rates, whichever is longer; None in a smoke run."""
        if self.smoke:
            return None
        return 1e6 * max(size / self.copy_bytes_per_s, operations / self.operations_per_s)

    def describe(self) -> dict[str, Any]:
        import triton

        about: dict[str, Any] = {
            "date": str(date.today()),
            "smoke": self.smoke,
            "commit": _line("git", "rev-parse", "HEAD"),
        }
        about |= {"torch": torch.__version__, "triton": triton.__version__}
        if not self.smoke:
            about["gpu"] = torch.cuda.get_device_name()
            about["driver"] = _line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
            about["copy_bytes_per_s"] = self.copy_bytes_per_s
            about["bfloat16_operations_per_s"] = self.operations_per_s
        return about

    def _spread(self, call: Callable[[], Any]) -> dict[str, float]:
        found: list[float] = []
        begun = time.monotonic()
        while len(found) < REPEATS and (len(found) < 5 or time.monotonic() - begun < SECONDS_A_CASE):
            self.flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            found.append(1e3 * start.elapsed_time(end))
        tenths = statistics.quantiles(found, n=10)
        return {"median_us": statistics.median(found), "p10_us": tenths[0], "p90_us": tenths[-1]}

    def _copy_rate(self) -> float:
        source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        times = self.time(lambda: target.copy_(source), graph=False)["eager"]
        return 2 * source.numel() / (times["median_us"] * 1e-6)

    def _product_rate(self) -> float:
        size = 8192
        a, b = (torch.randn(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        times = self.time(lambda: a @ b, graph=False)["eager"]
        return 2 * size**3 / (times["median_us"] * 1e-6)


def options(seconds: float, description: str | None) -> argparse.ArgumentParser:
    """The options that every kernel benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--seconds", type=float, default=seconds, help="no case starts later (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, no GPU, no times")
    return parser


def finish(card: Card, benchmark: str, cases: list[dict[str, Any]], skipped: list[str], file: Path | None) -> None:
    """Print one line a case, and write the file."""
    for case in cases:
        name = " ".join(str(value) for value in case.values() if isinstance(value, str | int))
        best = case["times"].get("graph") or case["times"].get("eager")
        if best is None:
            print(f"{name}: ran (smoke)")
        else:
            case["ratio_to_floor"] = best["median_us"] / case["floor_us"]
            print(
                f"{name}: {best['median_us']:.1f} us, floor {case['floor_us']:.1f} us, {case['ratio_to_floor']:.2f} x"
            )
    for name in skipped:
        print(f"not run, out of time: {name}")
    if file is not None:
        result = {"benchmark": benchmark, **card.describe(), "cases": cases, "skipped": skipped}
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    wide = expected.float()
    return ((found.float() - wide).abs().max() / wide.abs().max().clamp_min(1e-30)).item()


def _line(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip().partition("\n")[0] or "unknown"
