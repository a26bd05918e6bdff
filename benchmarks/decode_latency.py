"""Batch-1 decode of SWCM at real dimensions: the engine against PyTorch eager, in one interleaved run.

    python benchmarks/decode_latency.py WORK [--dtypes float32 bfloat16 int8 int4] [--rounds 5] [--json OUT]

Builds the model once under WORK (random weights: speed does not depend on them): XLM-R base encoder, 12 custom and 4
normal decoder layers, width 768, vocabulary 135,359, output tied to the word embedding. Every run generates the same
number of tokens (the end token is suppressed). A token's time is (time of N tokens - time of 1 token) / (N - 1), so it
leaves the encoder out. Memory is the peak resident size of a fresh process that opens the model and generates once.
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
from pathlib import Path
from typing import Any

import numpy as np
from workloads import build_swcm, quantized, step_bytes, weight_bytes

SOURCE, NEW_TOKENS = 64, 64
REFERENCE = "torch eager float32"

PEAK_MEMORY = """
import json, sys, time
started = time.perf_counter()
import lrengine
imported = time.perf_counter()
engine = lrengine.Engine.load(sys.argv[1], device="cpu", threads=int(sys.argv[2]))
opened = time.perf_counter()
engine.generate([list(range(5, 5 + int(sys.argv[3])))], max_new_tokens=int(sys.argv[4]), suppress_tokens=[2])
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"import_s": imported - started, "open_s": opened - imported, "peak_mib": peak / 1024}))
"""


def read_bandwidth(threads: int) -> float:
    """Bytes a second of reading an array of 1 GiB with `threads` threads; best of five."""
    from concurrent.futures import ThreadPoolExecutor

    data = np.ones(1 << 28, np.float32)
    parts = np.array_split(data, threads)
    with ThreadPoolExecutor(threads) as pool:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            list(pool.map(np.max, parts))
            times.append(time.perf_counter() - started)
    return data.nbytes / min(times)


def token_ms(generate: Callable[[int], None]) -> float:
    started = time.perf_counter()
    generate(1)
    first = time.perf_counter() - started
    started = time.perf_counter()
    generate(NEW_TOKENS)
    return (time.perf_counter() - started - first) / (NEW_TOKENS - 1) * 1e3


def torch_eager(folder: Path, threads: int) -> Callable[[int], None]:
    import torch

    from lrengine.models import SwcmForConditionalGeneration

    torch.set_num_threads(threads)
    model = SwcmForConditionalGeneration.from_pretrained(folder).eval()
    source = torch.arange(5, 5 + SOURCE)[None]

    def generate(count: int) -> None:
        with torch.no_grad():
            model.generate(
                input_ids=source,
                max_new_tokens=count,
                min_new_tokens=count,
                num_beams=1,
                do_sample=False,
                suppress_tokens=[2],
            )

    return generate


def engine(folder: Path, threads: int) -> Callable[[int], None]:
    import lrengine

    loaded = lrengine.Engine.load(folder, device="cpu", threads=threads)
    source = [list(range(5, 5 + SOURCE))]

    def generate(count: int) -> None:
        loaded.generate(source, max_new_tokens=count, suppress_tokens=[2])

    return generate


def prepare(work: Path, dtypes: list[str]) -> dict[str, Path]:
    """A directory for each type; float32 always."""
    folder = work / "swcm-base"
    build_swcm(folder)
    return {"float32": folder} | {dtype: quantized(folder, dtype) for dtype in dtypes if dtype != "float32"}


def peak_memory(folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-c", PEAK_MEMORY, str(folder), str(threads), str(SOURCE), str(NEW_TOKENS)]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures | {"weights_mib": weight_bytes(folder) / 2**20}


def provenance() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1] for line in lines if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return {"date": time.strftime("%Y-%m-%d"), "cpu": cpu.strip(), "commit": commit.stdout.strip()}


def measure(folders: dict[str, Path], dtypes: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """All engines take turns, so that what else the machine does hits them alike."""
    runs = {REFERENCE: torch_eager(folders["float32"], threads)}
    runs |= {f"lrengine {dtype}": engine(folders[dtype], threads) for dtype in dtypes}
    for generate in runs.values():
        generate(4)
    figures: dict[str, list[float]] = {name: [] for name in runs}
    bandwidths = []
    for _ in range(rounds):
        bandwidths.append(read_bandwidth(threads))
        for name, generate in runs.items():
            figures[name].append(token_ms(generate))

    bandwidth = statistics.median(bandwidths)
    rows = []
    for name, values in figures.items():
        folder = folders[name.split()[-1]]
        ours = name != REFERENCE
        rows.append(
            {
                "name": name,
                "ms_per_token": statistics.median(values),
                "spread_ms": [min(values), max(values)],
                "speedup": statistics.median(figures[REFERENCE]) / statistics.median(values),
                "floor_ms": step_bytes(folder) / bandwidth * 1e3,
            }
            | (peak_memory(folder, threads) if ours else {})
        )
    setting = {"threads": threads, "source": SOURCE, "new_tokens": NEW_TOKENS, "rounds": rounds}
    return provenance() | setting | {"read_bandwidth_gb_s": bandwidth / 1e9, "rows": rows}


def show(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        low, high = row["spread_ms"]
        print(
            f"{row['name']:22} {row['ms_per_token']:7.2f} ms a token ({low:.2f} to {high:.2f}), "
            f"{row['speedup']:.2f}x, floor {row['floor_ms']:.1f}",
            end="",
        )
        if "peak_mib" in row:
            print(
                f"  peak {row['peak_mib']:.0f} MiB of {row['weights_mib']:.0f} weights, open {row['open_s']:.3f} s",
                end="",
            )
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "int8", "int4"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    report = measure(prepare(args.work, args.dtypes), args.dtypes, args.threads, args.rounds)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
