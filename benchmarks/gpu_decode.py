"""Batch-1 latency and batch throughput of both models on a GPU: the engine against PyTorch eager and torch.compile, in
one interleaved run.

    python benchmarks/gpu_decode.py WORK --workload swcm|swcm-tied|fusion [--dtypes bfloat16 int8 int4]
        [--batches 1 8 32] [--rounds 5] [--json OUT] [--smoke]

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
WORKLOADS = ("swcm", "swcm-tied", "fusion")
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
    facts: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "device": device}
    facts["commit"] = output_of(["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"])
    if torch.cuda.is_available():
        facts["gpu"] = output_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return facts


def output_of(command: list[str]) -> str | None:
    """What a command prints; None where there is no such command."""
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


def check(folder: Path, device: str, fusion: bool, repeats: int = 100) -> dict[str, Any]:
    """Numbers at real dimensions: scores of 48 tokens against the CPU's, and one request again and again, which must
    give the same tokens each time: kernels that overlap wrongly would not."""
    import lrengine

    source, target = list(range(5, 5 + SOURCE)), list(range(40, 88))
    scores = {
        place: lrengine.Engine.load(folder, device=place).score([source], [target], prompts=prompts_of(fusion, 1))[0]
        for place in {device, "cpu"}
    }
    pairs = zip(scores[device].token_logprobs, scores["cpu"].token_logprobs, strict=True)
    loaded = lrengine.Engine.load(folder, device=device)
    answers = {
        tuple(
            loaded.generate([source], prompts=prompts_of(fusion, 1), max_new_tokens=32, suppress_tokens=[2])[0].tokens
        )
        for _ in range(repeats)
    }
    return {"largest_logprob_difference": max(abs(a - b) for a, b in pairs), "distinct_answers": len(answers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--workload", choices=WORKLOADS, default="swcm")
    parser.add_argument("--build-only", action="store_true", help="make the models of all workloads and stop")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8", "int4"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4], help="at batch 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["eager", "compile"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU: shows that the script runs")
    args = parser.parse_args()

    if args.build_only:
        for workload in WORKLOADS:
            folders_of(args.work, workload, args.dtypes, args.smoke)
        return
    fusion = args.workload == "fusion"
    device = "cpu" if args.smoke else "cuda"
    folders = folders_of(args.work, args.workload, args.dtypes, args.smoke)
    report: dict[str, Any] = provenance(device) | {
        "workload": args.workload, "source": SOURCE, "new_tokens": NEW_TOKENS, "smoke": args.smoke, "rows": [],
        "step_bytes": {dtype: step_bytes(directory) for dtype, directory in folders.items()},
        "weight_bytes": {dtype: weight_bytes(directory) for dtype, directory in folders.items()},
    }  # fmt: skip
    if not args.smoke:
        bandwidth = copy_bandwidth()
        report["copy_bandwidth_gb_s"] = bandwidth / 1e9
        report["floor_us"] = {dtype: size / bandwidth * 1e6 for dtype, size in report["step_bytes"].items()}

    runs: dict[str, Generate] = {}
    report["launches_per_token"] = {}
    for dtype, directory in folders.items():
        runs[f"lrengine {dtype}"], loaded = engine(directory, device, fusion)
        report["launches_per_token"][dtype] = launches_per_token(loaded, runs[f"lrengine {dtype}"])
    report["check"] = check(folders[args.dtypes[0]], device, fusion, 3 if args.smoke else 100)
    save(report, args.json)
    for name in args.peers:
        directory = folders_of(args.work, args.workload, ["bfloat16"], args.smoke)["bfloat16"]
        runs[f"torch {name} bfloat16"] = peer(directory, fusion, name == "compile", "bfloat16", device)
    settings = [(1, beams, args.rounds) for beams in args.beams]
    settings += [(batch, 1, max(1, args.rounds // 2)) for batch in args.batches if batch > 1]
    for batch, beams, rounds in settings:
        report["rows"] += measure(runs, batch, beams, rounds)
        save(report, args.json)  # what a time limit cuts off is not lost
    print(json.dumps(report, indent=1))


def folders_of(work: Path, workload: str, dtypes: list[str], smoke: bool) -> dict[str, Path]:
    """The workload's model in each type, made where it is missing."""
    folder = work / f"{workload}-bfloat16{'-smoke' if smoke else ''}"
    if workload == "fusion":
        build_fusion(folder, small=smoke)
    else:
        build_swcm(folder, "tied" if workload == "swcm-tied" else "init", "bfloat16")
    return {dtype: folder if dtype == "bfloat16" else quantized(folder, dtype) for dtype in dtypes}


def save(report: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
