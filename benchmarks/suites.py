"""Who takes part in each suite, and in what: models are made (once), parts are small enough for memory and for a quiet
quarter of an hour. Parts of a suite are measured apart; only those of one part take turns."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from install_peers import environment_python
from peer_models import build_llama, build_m2m100, build_xlm_roberta, plain_step_bytes
from real_models import TEXT, build_real_fusion
from workloads import build_fusion, build_swcm, quantized, step_bytes

from lrengine.bench import worker
from lrengine.bench.contestant import Entry
from lrengine.bench.workload import Workload

logger = logging.getLogger("lrengine.bench")
PEERS = Path(__file__).parent / "peers"
PREFIXES = {"ctranslate2": "ctranslate2", "onnxruntime": "onnx"}
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


@dataclass(frozen=True)
class Setting:
    """work: where models and environments are; ours, peers: who takes part; real: folder of real weights and text;
    small: miniature models, to try the script."""

    work: Path
    ours: Sequence[str]
    peers: Sequence[str]
    real: Path | None
    small: bool

    def folder(self, name: str) -> Path:
        return self.work / (f"{name}-small" if self.small else name)


@dataclass(frozen=True)
class Part:
    """entries: makes what it needs where that is missing, so it is called only for the part that is wanted."""

    entries: Callable[[Setting], list[Entry]]
    workloads: Sequence[Workload]


def our_entries(setting: Setting, folder: Path, stored: str, dtypes: Sequence[str]) -> list[Entry]:
    """A directory a type, so that nothing is converted while opening and memory is that of the type."""
    command = [sys.executable, "-m", "lrengine.bench.engine_worker"]
    entries = []
    for dtype in [dtype for dtype in dtypes if dtype in setting.ours]:
        directory = folder if dtype == stored else quantized(folder, dtype)
        entries.append(Entry(f"lrengine {dtype}", command, directory, None, step_bytes(directory)))
    return entries


def peer_entry(
    setting: Setting, peer: str, model: Path, dtype: str, step: float | None, convert: Sequence[str] | None = None
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
    bytes_read = None if step is None else int(step)
    return [Entry(f"{name} {dtype}", [str(python), str(script)], model, dtype, bytes_read, environment)]


def seq2seq(setting: Setting, ours: Sequence[str], theirs: Sequence[str]) -> list[Entry]:
    """`theirs`: "peer type"."""
    folder, peer_folder = setting.folder("swcm-base"), setting.folder("m2m100")
    build_swcm(folder, small=setting.small)
    build_m2m100(peer_folder, setting.small)
    entries = our_entries(setting, folder, "float32", ours)
    for peer, dtype in (name.split() for name in theirs):
        step = plain_step_bytes(peer_folder, BYTES[dtype.partition("+")[0]])
        entries += converted_entry(setting, peer, dtype, peer_folder, "m2m100", step)
    return entries


def encoder(setting: Setting, ours: Sequence[str], theirs: Sequence[str]) -> list[Entry]:
    peer_folder, folder = setting.folder("xlmr-base"), setting.folder("xlmr-base-ours")
    build_xlm_roberta(peer_folder, folder, setting.small)
    # no floor: a pass over many tokens waits for arithmetic
    entries = [replace(entry, step_bytes=None) for entry in our_entries(setting, folder, "float32", ours)]
    for peer, dtype in (name.split() for name in theirs):
        entries += converted_entry(setting, peer, dtype, peer_folder, "xlmr", None)
    return entries


def llm(setting: Setting, ours: Sequence[str], theirs: Sequence[str]) -> list[Entry]:
    peer_folder, folder = setting.folder("llama-1b"), setting.folder("llama-1b-ours")
    build_llama(peer_folder, folder, setting.small)
    entries = our_entries(setting, folder, "bfloat16", ours)
    for peer, dtype in (name.split() for name in theirs):
        step = plain_step_bytes(peer_folder, BYTES[dtype])
        entries += converted_entry(setting, peer, dtype, peer_folder, "llama-1b", step)
    return entries


def converted_entry(
    setting: Setting, peer: str, dtype: str, source: Path, name: str, step: float | None
) -> list[Entry]:
    """The peer on its own form of the Hugging Face directory `source`."""
    if peer == "transformers":
        return peer_entry(setting, peer, source, dtype, step)
    if peer == "llama_cpp":
        model = setting.folder(f"gguf-{name}").with_suffix(f".{dtype}")
        return peer_entry(setting, peer, model, dtype, step, [str(source), str(model), dtype])
    model = setting.folder(f"{PREFIXES[peer]}-{name}-{dtype}")
    return peer_entry(setting, peer, model, dtype, step, [str(source), str(model), dtype])


def fusion(setting: Setting, ours: Sequence[str], theirs: Sequence[str]) -> list[Entry]:
    folder = setting.folder("fusion-bfloat16")
    build_fusion(folder, small=setting.small)
    entries = our_entries(setting, folder, "bfloat16", ours)
    for peer, dtype in (name.split() for name in theirs):
        entries += peer_entry(setting, peer, folder, dtype, step_bytes(folder))
    return entries


def real(setting: Setting, ours: Sequence[str], theirs: Sequence[str]) -> list[Entry]:
    """e5-small's encoder and SmolLM2-135M, on sentences of the Universal Declaration."""
    folder = setting.folder("real-fusion")
    if not build_real_fusion(folder, setting.real):
        logger.warning(
            "left out: real weights are not here (data/fetch_weights.py DIR, data/fetch_text.py; --real DIR)"
        )
        return []
    entries = our_entries(setting, folder, "float32", ours)
    for peer, dtype in (name.split() for name in theirs):
        entries += peer_entry(setting, peer, folder, dtype, step_bytes(folder))
    return entries


def part(
    build: Callable[[Setting, Sequence[str], Sequence[str]], list[Entry]],
    ours: str,
    theirs: Sequence[str],
    workloads: Sequence[Workload],
) -> Part:
    return Part(lambda setting: build(setting, ours.split(), theirs), workloads)


OURS = "float32 bfloat16 int8 int4"
GREEDY = Workload("generate", 1, 64, 64)
FLOAT = ("ctranslate2 float32", "onnxruntime float32", "transformers float32")
INT8 = ("ctranslate2 int8", "onnxruntime int8", "transformers int8")
MIXED = ("ctranslate2 float32", "ctranslate2 int8", "onnxruntime int8")
ENCODE = [Workload("encode", batch, source, 0) for batch, source in ((1, 64), (8, 128), (1, 16), (1, 256))]
ANSWER = Workload("generate", 1, 64, 32)
REAL = Workload("generate", 1, 64, 32, prompt=8, text=TEXT)

SUITES: dict[str, dict[str, Part]] = {
    "seq2seq": {
        "float": part(seq2seq, "float32 bfloat16", FLOAT, [GREEDY]),
        "int": part(seq2seq, "int8 int4 int4+embeddings", INT8, [GREEDY]),
        "beams": part(seq2seq, "float32 int8 int4", MIXED[:2], [replace(GREEDY, beams=4)]),
        "batch": part(seq2seq, OURS, MIXED, [replace(GREEDY, batch=rows, new_tokens=32) for rows in (4, 16)]),
        "length": part(seq2seq, OURS, MIXED, [replace(GREEDY, source=length) for length in (16, 256)]),
        "compile": part(seq2seq, "float32", ("transformers float32", "transformers float32+compile"), [GREEDY]),
    },
    "encoder": {
        "float": part(encoder, "float32 bfloat16", FLOAT, ENCODE),
        "int": part(encoder, "int8", INT8, ENCODE),
        "compile": part(encoder, "float32", ("transformers float32", "transformers float32+compile"), ENCODE[:2]),
    },
    "llm": {
        "int": part(
            llm,
            "int8 int4 int4+embeddings",
            ("llama_cpp q8_0", "llama_cpp q4_0", "ctranslate2 int8"),
            [ANSWER],
        ),
        "bfloat16": part(llm, "bfloat16", ("transformers bfloat16",), [ANSWER]),
    },
    "fusion": {
        "all": part(
            fusion,
            "bfloat16 int8 int4",
            ("transformers bfloat16",),
            [replace(ANSWER, batch=batch, prompt=8) for batch in (1, 4)],
        ),
    },
    "real": {
        "all": part(
            real,
            OURS,
            ("transformers float32",),
            [replace(REAL, batch=batch) for batch in (1, 4, 16)],
        ),
    },
}  # fmt: skip
