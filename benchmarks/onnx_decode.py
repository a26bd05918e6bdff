"""ONNX on the CPU: OnnxEngine against optimum's ORTModelForSeq2SeqLM, in one interleaved run.

    python benchmarks/onnx_decode.py WORK --peer-python PYTHON [--rounds 5] [--json OUT]

Both run on ONNX Runtime and read the same number of weight bytes a step. Ours: an XLM-R base encoder and an SWCM
decoder of 12 custom and 4 normal layers (workloads.py). The peer: an M2M100 of 12 encoder and 16 decoder layers, width
768, the same vocabulary. A custom layer has two feed-forward blocks of 3,072, so the peer's decoder has one of 5,376 a
layer: 12 x 2 + 4 = 28 blocks of 3,072 are 16 of 5,376; a layer's attention has the same six matrices, and both multiply
with the whole word embedding. PYTHON is one with torch, transformers < 4.58, optimum-onnx and onnxruntime: it wants
other versions than we do, so it is a process of its own that answers over a pipe (onnx_peer.py). Weights are random:
speed does not depend on them.

All take turns; every run generates the same number of tokens (no end token before the last). tokens a second = batch x
tokens / (time of N tokens - time of 1 token), so the encoder and the first step are left out; `request_s` has them.
Processor seconds are counted beside those of the clock: with one thread (which spins for nobody) they say what the work
costs, however busy the machine is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from decode_latency import provenance
from workloads import VOCABULARY, build_swcm, step_bytes

NEW_TOKENS = 16
PEER_SIZES = {
    "vocab_size": VOCABULARY, "d_model": 768, "encoder_layers": 12, "encoder_ffn_dim": 3072, "decoder_layers": 16,
    "decoder_ffn_dim": 5376, "encoder_attention_heads": 12, "decoder_attention_heads": 12,
    "max_position_embeddings": 512,
}  # fmt: skip
# (batch, source tokens, beams)
SETTINGS = ((1, 64, 1), (1, 400, 1), (1, 64, 4), (1, 400, 4))
SMALL_SETTINGS = ((1, 16, 1), (2, 16, 2))
Seconds = tuple[float, float]  # of the clock, of the processors
Run = Callable[[int, int, int, int], Seconds]


class Peer:
    """A process that answers requests with their seconds."""

    def __init__(self, python: Path, folder: Path, threads: int, script: Path) -> None:
        command = [str(python), str(script), "serve", str(folder), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer's process ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def generate(self, batch: int, source: int, beams: int, new_tokens: int) -> Seconds:
        assert self._process.stdin is not None
        request = {"batch": batch, "source": source, "beams": beams, "new_tokens": new_tokens}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert answer["tokens"] == new_tokens
        return float(answer["seconds"]), float(answer["cpu_seconds"])

    def close(self) -> None:
        self._process.communicate()


def onnx_engine(folder: Path, threads: int) -> Run:
    from lrengine import OnnxEngine

    engine = OnnxEngine.load(folder, provider="cpu", threads=threads)

    def generate(batch: int, source: int, beams: int, new_tokens: int) -> Seconds:
        ids = [list(range(5, 5 + source))] * batch
        started, began = time.perf_counter(), time.process_time()
        engine.generate(ids, max_new_tokens=new_tokens, min_new_tokens=new_tokens, num_beams=beams)
        return time.perf_counter() - started, time.process_time() - began

    return generate


def build_ours(work: Path, dtypes: list[str], smoke: bool) -> dict[str, Path]:
    from lrengine.export import export_onnx

    model = work / "swcm-base"
    if smoke:
        _build_small(model)
    else:
        build_swcm(model)
    folders = {dtype: work / f"swcm-onnx-{dtype}" for dtype in dtypes}
    for dtype, folder in folders.items():
        if not folder.exists():
            export_onnx(model, folder, dtype=dtype)
    return folders


def _build_small(folder: Path) -> None:
    """The same shape in miniature, to try the script itself."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from lrengine.models import SwcmForConditionalGeneration

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=300, hidden_size=48, num_attention_heads=3, intermediate_size=96, num_hidden_layers=3,
        max_position_embeddings=80,
    )  # fmt: skip
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    SwcmForConditionalGeneration.from_encoder(encoder, normal_layer_interval=3).save_pretrained(folder)


def measure(runs: dict[str, Run], settings: Any, rounds: int, new_tokens: int) -> list[dict[str, Any]]:
    """All take turns, so that what else the machine does hits them alike."""
    rows = []
    for batch, source, beams in settings:
        rates: dict[str, list[float]] = {name: [] for name in runs}
        cpu_rates: dict[str, list[float]] = {name: [] for name in runs}
        requests: dict[str, list[float]] = {name: [] for name in runs}
        for generate in runs.values():
            generate(batch, source, beams, 3)
        for _ in range(rounds):
            for name, generate in runs.items():
                first = generate(batch, source, beams, 1)
                whole = generate(batch, source, beams, new_tokens)
                for found, clock in ((rates, 0), (cpu_rates, 1)):
                    found[name].append(batch * (new_tokens - 1) / (whole[clock] - first[clock]))
                requests[name].append(whole[0])
        setting = {"batch": batch, "source": source, "beams": beams}
        rows += [
            {
                "name": name,
                **setting,
                "tokens_per_s": statistics.median(found),
                "spread": [min(found), max(found)],
                "tokens_per_cpu_s": statistics.median(cpu_rates[name]),
                "cpu_spread": [min(cpu_rates[name]), max(cpu_rates[name])],
                "request_s": statistics.median(requests[name]),
            }
            for name, found in rates.items()
        ]
    return rows


def compare(rows: list[dict[str, Any]], peer: str) -> None:
    """Adds to each row how many times the peer's rate it has, with the same setting."""
    base = {(row["batch"], row["source"], row["beams"]): row for row in rows if row["name"] == peer}
    for row in rows:
        other = base.get((row["batch"], row["source"], row["beams"]))
        if other is not None:
            row["speedup"] = row["tokens_per_s"] / other["tokens_per_s"]
            row["cpu_speedup"] = row["tokens_per_cpu_s"] / other["tokens_per_cpu_s"]
            row["request_speedup"] = other["request_s"] / row["request_s"]
        print(
            f"{row['name']:28} batch {row['batch']} source {row['source']:3} beams {row['beams']}: "
            f"{row['tokens_per_s']:6.1f} tokens/s ({row['spread'][0]:.1f} to {row['spread'][1]:.1f}), "
            f"{row.get('speedup', 1.0):.2f}x; {row['tokens_per_cpu_s']:.1f} a processor second "
            f"({row['cpu_spread'][0]:.1f} to {row['cpu_spread'][1]:.1f}), {row.get('cpu_speedup', 1.0):.2f}x; "
            f"whole request {row['request_s']:.2f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peer-python", type=Path, help="without it, ours alone")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--smoke", action="store_true", help="in miniature, to try the script itself")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    folders = build_ours(args.work, args.dtypes, args.smoke)
    runs = {f"OnnxEngine {dtype}": onnx_engine(folder, args.threads) for dtype, folder in folders.items()}
    peer = None
    if args.peer_python:
        script = Path(__file__).with_name("onnx_peer.py")
        command = [str(args.peer_python), str(script), "build", str(args.work / "peer"), json.dumps(PEER_SIZES)]
        subprocess.run(command, check=True)
        peer = Peer(args.peer_python, args.work / "peer", args.threads, script)
        runs["optimum ORTModelForSeq2SeqLM"] = peer.generate
    new_tokens = 4 if args.smoke else NEW_TOKENS
    rows = measure(runs, SMALL_SETTINGS if args.smoke else SETTINGS, args.rounds, new_tokens)
    compare(rows, "optimum ORTModelForSeq2SeqLM")
    if peer is not None:
        peer.close()
    import onnxruntime

    report = provenance() | {
        "onnxruntime": onnxruntime.__version__,
        "threads": args.threads,
        "load_average": os.getloadavg()[1],
        "new_tokens": new_tokens,
        "rounds": args.rounds,
        "step_bytes": step_bytes(args.work / "swcm-base"),
        "smoke": args.smoke,
        "rows": rows,
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
