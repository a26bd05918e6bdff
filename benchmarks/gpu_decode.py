"""Batch-1 latency and batch throughput of both models on a GPU: the engine against PyTorch eager and torch.compile, in
one interleaved run.

    python benchmarks/gpu_decode.py WORK --workload swcm|swcm-tied|fusion [--dtypes bfloat16 int8] [--batches 1 8 32]
        [--rounds 5] [--json OUT] [--smoke]

A token's time is (time of N tokens - time of 1 token) / (N - 1); the time of 1 token is the encoder's and the first
step's. The end token is suppressed. The floor is the weight bytes of a step over the card's measured copy bandwidth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from workloads import build_fusion, build_swcm, quantized, step_bytes, weight_bytes

SOURCE, NEW_TOKENS = 64, 64
Generate = Callable[[int, int, int], None]  # batch, new tokens, beams


def copy_bandwidth() -> float:
    """Bytes a second, read plus written, of copying 1 GiB on the device; best of ten."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_(0, 255)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(12):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return 2 * source.numel() / best


def prompts_of(fusion: bool, batch: int) -> list[list[int]] | None:
    return [list(range(20, 28))] * batch if fusion else None


def engine(folder: Path, device: str, fusion: bool) -> tuple[Generate, Any]:
    import lrengine

    loaded = lrengine.Engine.load(folder, device=device)

    def generate(batch: int, count: int, beams: int) -> None:
        sources = [list(range(5, 5 + SOURCE))] * batch
        loaded.generate(
            sources, prompts=prompts_of(fusion, batch), max_new_tokens=count, num_beams=beams, suppress_tokens=[2]
        )

    return generate, loaded


def peer(folder: Path, fusion: bool, compiled: bool, dtype: str, device: str) -> Generate:
    from lrengine.models import LayerFusionForCausalLM, SwcmForConditionalGeneration

    family = LayerFusionForCausalLM if fusion else SwcmForConditionalGeneration
    model = family.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(device)
    if compiled:
        model.forward = torch.compile(model.forward, mode="reduce-overhead", dynamic=False)
    cache = {"cache_implementation": "static"} if compiled else {}

    def generate(batch: int, count: int, beams: int) -> None:
        inputs: dict[str, Any] = {"input_ids": torch.arange(5, 5 + SOURCE, device=device).repeat(batch, 1)}
        if fusion:
            inputs["prompt_ids"] = torch.arange(20, 28, device=device).repeat(batch, 1)
        with torch.no_grad():
            model.generate(
                **inputs, **cache, max_new_tokens=count, min_new_tokens=count, num_beams=beams, do_sample=False,
                suppress_tokens=[2],
            )  # fmt: skip

    return generate


def timed(generate: Generate, batch: int, count: int, beams: int) -> float:
    """Seconds until the tokens are on the host."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    generate(batch, count, beams)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(runs: dict[str, Generate], batch: int, beams: int, rounds: int) -> list[dict[str, Any]]:
    """All take turns. One that fails is reported with its error and left out."""
    rows: dict[str, dict[str, Any]] = {}
    alive = dict(runs)
    for name, generate in runs.items():
        try:
            for count in (2, NEW_TOKENS, NEW_TOKENS):  # memory, graphs and compiled code are made here
                generate(batch, count, beams)
        except Exception as error:
            rows[name] = {
                "name": name,
                "batch": batch,
                "beams": beams,
                "failed": f"{type(error).__name__}: {error}"[:300],
            }
            del alive[name]
    first: dict[str, list[float]] = {name: [] for name in alive}
    token: dict[str, list[float]] = {name: [] for name in alive}
    for _ in range(rounds):
        for name, generate in alive.items():
            one = timed(generate, batch, 1, beams)
            many = timed(generate, batch, NEW_TOKENS, beams)
            first[name].append(one * 1e3)
            token[name].append((many - one) / (NEW_TOKENS - 1) * 1e6)
    for name in alive:
        rows[name] = {
            "name": name, "batch": batch, "beams": beams,
            "first_token_ms": statistics.median(first[name]), "first_token_spread_ms": spread(first[name]),
            "us_per_token": statistics.median(token[name]), "us_per_token_spread": spread(token[name]),
            "tokens_per_s": batch / statistics.median(token[name]) * 1e6,
        }  # fmt: skip
    return [rows[name] for name in runs]


def spread(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def launches_per_token(loaded: Any, generate: Generate) -> float:
    """Kernels of a decode step, as the engine counts them, graphs included."""
    before = loaded.kernel_launches
    generate(1, NEW_TOKENS, 1)
    return float(loaded.kernel_launches - before) / (NEW_TOKENS - 1)


def provenance(device: str) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    facts: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "commit": commit.stdout.strip() or None}
    facts |= {"torch": torch.__version__, "device": device}
    if torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        facts["gpu"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workload", choices=["swcm", "swcm-tied", "fusion"], default="swcm")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4], help="at batch 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["eager", "compile"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU: shows that the script runs")
    args = parser.parse_args()

    fusion = args.workload == "fusion"
    device = "cpu" if args.smoke else "cuda"
    folder = args.work / f"{args.workload}-bfloat16{'-smoke' if args.smoke else ''}"
    if fusion:
        build_fusion(folder, small=args.smoke)
    else:
        build_swcm(folder, "tied" if args.workload == "swcm-tied" else "init", "bfloat16")
    folders = {dtype: folder if dtype == "bfloat16" else quantized(folder, dtype) for dtype in args.dtypes}

    runs: dict[str, Generate] = {}
    launches: dict[str, float] = {}
    for dtype, directory in folders.items():
        runs[f"lrengine {dtype}"], loaded = engine(directory, device, fusion)
        launches[dtype] = launches_per_token(loaded, runs[f"lrengine {dtype}"])
    for name in args.peers:
        runs[f"torch {name} bfloat16"] = peer(folder, fusion, name == "compile", "bfloat16", device)

    rows: list[dict[str, Any]] = []
    for beams in args.beams:
        rows += measure(runs, 1, beams, args.rounds)
    for batch in [batch for batch in args.batches if batch > 1]:
        rows += measure(runs, batch, 1, max(1, args.rounds // 2))
    report: dict[str, Any] = provenance(device) | {
        "workload": args.workload, "source": SOURCE, "new_tokens": NEW_TOKENS, "smoke": args.smoke, "rows": rows,
        "launches_per_token": launches,
        "step_bytes": {dtype: step_bytes(directory) for dtype, directory in folders.items()},
        "weight_bytes": {dtype: weight_bytes(directory) for dtype, directory in folders.items()},
    }  # fmt: skip
    if not args.smoke:
        bandwidth = copy_bandwidth()
        report["copy_bandwidth_gb_s"] = bandwidth / 1e9
        report["floor_us"] = {dtype: size / bandwidth * 1e6 for dtype, size in report["step_bytes"].items()}
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
