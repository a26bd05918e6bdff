"""What the figures of a run depend on besides the code."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ISA = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")


def describe() -> dict[str, Any]:
    facts: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction_sets": [flag for flag in ISA if flag in (_cpuinfo("flags") or _cpuinfo("Features") or "").split()],
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        facts["governor"] = governor.read_text(encoding="ascii").strip()
    if gpu := _output(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]):
        facts["gpu"] = gpu
    if commit := _output(["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]):
        facts["commit"] = commit
    return facts


class ReadBandwidth:
    """What a memory-bound step could reach at best: bytes a second of reading memory with `threads` threads."""

    def __init__(self, threads: int, megabytes: int = 512) -> None:
        self._parts = np.array_split(np.ones(megabytes << 18, np.float32), threads)
        self._bytes = megabytes << 20
        self._pool = ThreadPoolExecutor(threads)
        self.samples: list[float] = []

    def sample(self) -> None:
        """The best of three; once a round, so that it sees the machine as the contestants do."""
        times = []
        for _ in range(3):
            started = time.perf_counter()
            list(self._pool.map(np.max, self._parts))
            times.append(time.perf_counter() - started)
        self.samples.append(self._bytes / min(times))

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class EnergyMeter:
    """Joules of the processor packages, where the system lets them be read."""

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._counters: list[tuple[Path, int]] = []
        for zone in sorted(root.glob("intel-rapl:[0-9]")):  # AMD's counters have the same name
            try:
                self._counters.append((zone / "energy_uj", int((zone / "max_energy_range_uj").read_text("ascii"))))
                (zone / "energy_uj").read_text("ascii")
            except (OSError, ValueError):
                self._counters = []
                return

    @property
    def available(self) -> bool:
        return bool(self._counters)

    def read(self) -> list[int]:
        return [int(counter.read_text("ascii")) for counter, _ in self._counters]

    def joules(self, before: list[int], after: list[int]) -> float:
        """Between two readings less than one wrap of the counters apart."""
        wraps = [limit for _, limit in self._counters]
        return sum((b - a) % (wrap + 1) for a, b, wrap in zip(before, after, wraps, strict=True)) / 1e6


def _cpuinfo(field: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field), None)


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
