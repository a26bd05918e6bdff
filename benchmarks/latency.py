"""The engine against its peers, in one interleaved run a suite.

    python benchmarks/install_peers.py WORK            # once: each peer in an environment of its own
    python benchmarks/latency.py WORK seq2seq encoder llm fusion [--rounds 7] [--threads 2] [--out DIR]

seq2seq   SWCM at real dimensions; peers: an M2M100 whose decoder reads the same bytes a step
encoder   XLM-R base, classification; peers: the same encoder
llm       Llama-3.2-1B's dimensions, a prompt of the source's length; ours behind an encoder too small to matter
fusion    mT5-large's encoder, transformer mixer, Llama-3.2-1B's dimensions; peer: our PyTorch model

All have random weights (speed does not depend on them) and forbid the end token. Peers that are not installed are left
out with a word. OUT/NAME.json has every sample; `lrengine bench --compare` says what moved between two of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from install_peers import environment_python
from peer_models import build_llama, build_m2m100, build_xlm_roberta, plain_step_bytes
from workloads import build_fusion, build_swcm, quantized, step_bytes

from lrengine.bench import worker
from lrengine.bench.contestant import Entry
from lrengine.bench.figures import figures_of, table
from lrengine.bench.measure import measure
from lrengine.bench.workload import Workload, grid

logger = logging.getLogger("lrengine.bench")
PEERS = Path(__file__).parent / "peers"
SUITES = ("seq2seq", "encoder", "llm", "fusion")


@dataclass(frozen=True)
class Setting:
    """work: where models and environments are; ours: our weight types; small: miniature models, to try the script."""

    work: Path
    ours: Sequence[str]
    peers: Sequence[str]
    small: bool

    def folder(self, name: str) -> Path:
        return self.work / (f"{name}-small" if self.small else name)


def our_entries(setting: Setting, folder: Path, stored: str) -> list[Entry]:
    """A directory a type, so that nothing is converted while opening and memory is that of the type."""
    command = [sys.executable, "-m", "lrengine.bench.engine_worker"]
    entries = []
    for dtype in setting.ours:
        directory = folder if dtype == stored else quantized(folder, dtype)
        entries.append(Entry(f"lrengine {dtype}", command, directory, None, step_bytes(directory)))
    return entries


def peer_entry(
    setting: Setting, peer: str, model: Path, dtype: str, step: int | None, convert: Sequence[str] | None = None
) -> list[Entry]:
    """Nothing, with a word, where the peer is not installed. convert: arguments that make its model at `model` from
    ours, once."""
    python = Path(sys.executable) if peer == "transformers" else environment_python(setting.work, peer)
    script = PEERS / f"{peer}_worker.py"
    environment = {"PYTHONPATH": os.pathsep.join([str(Path(worker.__file__).parent), os.environ.get("PYTHONPATH", "")])}
    if peer not in setting.peers:
        return []
    if not python.exists():
        logger.warning("left out: %s is not installed (benchmarks/install_peers.py %s %s)", peer, setting.work, peer)
        return []
    if convert is not None and not model.exists():
        command = [str(python), str(script), "--convert", *convert]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
        if done.returncode:
            logger.warning("left out: %s cannot convert: %s", peer, done.stderr.strip().splitlines()[-1:])
            return []
    name = peer.replace("_", ".")
    return [Entry(f"{name} {dtype}", [str(python), str(script)], model, dtype, step, environment)]


def seq2seq(setting: Setting) -> tuple[list[Entry], list[Workload]]:
    ours, theirs = setting.folder("swcm-base"), setting.folder("m2m100")
    build_swcm(ours, small=setting.small)
    build_m2m100(theirs, setting.small)
    entries = our_entries(setting, ours, "float32")
    for dtype, size in (("float32", 4), ("int8", 1)):
        entries += peer_entry(setting, "transformers", theirs, dtype, plain_step_bytes(theirs, size))
    converted = setting.folder("ctranslate2-m2m100")
    for dtype, size in (("float32", 4), ("int8", 1)):
        step = plain_step_bytes(theirs, size)
        entries += peer_entry(setting, "ctranslate2", converted, dtype, step, [str(theirs), str(converted)])
    for dtype, size in (("float32", 4), ("int8", 1)):
        exported = setting.folder(f"onnx-m2m100-{dtype}")
        arguments = [str(theirs), str(exported), *(["int8"] if dtype == "int8" else [])]
        step = plain_step_bytes(theirs, size)
        entries += peer_entry(setting, "onnxruntime", exported, dtype, step, arguments)
    return entries, grid("generate", [1, 4, 16], [64, 16, 256], 64, [1, 4])


def encoder(setting: Setting) -> tuple[list[Entry], list[Workload]]:
    theirs, ours = setting.folder("xlmr-base"), setting.folder("xlmr-base-ours")
    build_xlm_roberta(theirs, ours, setting.small)
    types = [dtype for dtype in setting.ours if dtype in ("float32", "bfloat16", "int8")]
    entries = our_entries(Setting(setting.work, types, setting.peers, setting.small), ours, "float32")
    for dtype in ("float32", "int8"):
        entries += peer_entry(setting, "transformers", theirs, dtype, None)
    converted = setting.folder("ctranslate2-xlmr")
    for dtype in ("float32", "int8"):
        entries += peer_entry(setting, "ctranslate2", converted, dtype, None, [str(theirs), str(converted)])
    for dtype in ("float32", "int8"):
        exported = setting.folder(f"onnx-xlmr-{dtype}")
        arguments = [str(theirs), str(exported), *(["int8"] if dtype == "int8" else [])]
        entries += peer_entry(setting, "onnxruntime", exported, dtype, None, arguments)
    sizes = ((1, 64), (8, 128), (1, 16), (1, 256))
    return entries, [Workload("encode", batch, source, 0) for batch, source in sizes]


def llm(setting: Setting) -> tuple[list[Entry], list[Workload]]:
    theirs, ours = setting.folder("llama-1b"), setting.folder("llama-1b-ours")
    build_llama(theirs, ours, setting.small)
    types = [dtype for dtype in setting.ours if dtype != "float32"]
    entries = our_entries(Setting(setting.work, types, setting.peers, setting.small), ours, "bfloat16")
    for kind, size in (("q8_0", 34 / 32), ("q4_0", 18 / 32)):
        model = setting.folder("gguf-llama-1b").with_suffix(f".{kind}")
        step = plain_step_bytes(theirs, size)
        entries += peer_entry(setting, "llama_cpp", model, kind, step, [str(theirs), str(model), kind])
    converted = setting.folder("ctranslate2-llama-1b")
    step = plain_step_bytes(theirs, 1)
    entries += peer_entry(setting, "ctranslate2", converted, "int8", step, [str(theirs), str(converted)])
    entries += peer_entry(setting, "transformers", theirs, "bfloat16", plain_step_bytes(theirs, 2))
    return entries, [Workload("generate", 1, 64, 32)]


def fusion(setting: Setting) -> tuple[list[Entry], list[Workload]]:
    folder = setting.folder("fusion-bfloat16")
    build_fusion(folder, small=setting.small)
    types = [dtype for dtype in setting.ours if dtype != "float32"]
    entries = our_entries(Setting(setting.work, types, setting.peers, setting.small), folder, "bfloat16")
    entries += peer_entry(setting, "transformers", folder, "bfloat16", step_bytes(folder))
    return entries, [Workload("generate", batch, 64, 32, 1, prompt=8) for batch in (1, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("suites", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--ours", nargs="*", default=["float32", "bfloat16", "int8", "int4"], help="our weight types")
    parser.add_argument("--peers", nargs="*", default=["transformers", "ctranslate2", "onnxruntime", "llama_cpp"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="folder for the reports")
    parser.add_argument("--small", action="store_true", help="miniature models: shows that the script runs")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    setting = Setting(args.work, args.ours, args.peers, args.small)
    suites: dict[str, Callable[[Setting], tuple[list[Entry], list[Workload]]]]
    suites = {"seq2seq": seq2seq, "encoder": encoder, "llm": llm, "fusion": fusion}
    for name in args.suites:
        entries, workloads = suites[name](setting)
        report = measure(
            entries,
            workloads,
            threads=args.threads,
            rounds=args.rounds,
            save=partial(save, args.out, name),
        )
        print(f"## {name}\n\n{table(figures_of(report))}\n", flush=True)


def save(folder: Path | None, name: str, report: dict[str, Any]) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
