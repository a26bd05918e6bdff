"""Counted work of a decoded token, for machines too noisy to time: instructions, and bytes from beyond a small cache.

    python benchmarks/work.py DECODE_WORK [--update]

DECODE_WORK is the program that CMake builds from benchmarks/cpp/decode_work.cpp. valgrind's cachegrind runs it on a
small SWCM in each weight type, with the AVX2 kernels (valgrind knows no AVX-512) and one thread; a token's share is the
difference of 9 tokens and 1 over 8. Counts depend on nothing but the program and the compiler: one that is over the
stored figure (benchmarks/results/work.json) by more than 3% fails. --update stores what was counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from workloads import quantized, step_bytes

STORED = Path(__file__).parent / "results" / "work.json"
TOLERANCE = 0.03
SOURCE, TOKENS = 8, 9
# Smaller than any type's weights, so that each is read from memory once a token.
LAST_LEVEL = "262144,8,64"


def build_model(folder: Path) -> None:
    """Width 256, 3 custom layers and a normal one, vocabulary 4,000: 5 million weights a step."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from lrengine.models import SwcmForConditionalGeneration

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=4000, hidden_size=256, num_hidden_layers=3, num_attention_heads=4, intermediate_size=1024,
        max_position_embeddings=130, type_vocab_size=1,
    )  # fmt: skip
    encoder = XLMRobertaModel(config, add_pooling_layer=False)
    model = SwcmForConditionalGeneration.from_encoder(encoder, normal_layer_interval=3, normal_after_last=True)
    model.save_pretrained(folder)


def counts(program: Path, directory: Path, tokens: int) -> tuple[int, int]:
    """Instructions, and bytes of lines that missed the last level on reading data."""
    command = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=yes",
        f"--LL={LAST_LEVEL}",
        "--cachegrind-out-file=/dev/null",
    ]
    command += [str(program), str(directory), str(SOURCE), str(tokens)]
    environment = os.environ | {"LRENGINE_ISA": "avx2"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode or done.stdout.strip() != str(tokens):
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    found = {
        name: int(value.replace(",", ""))
        for name, value in re.findall(r"(I\s+refs|LLd misses):\s+([\d,]+)", done.stderr)
    }
    by_name = {re.sub(r"\s+", " ", name): value for name, value in found.items()}
    return by_name["I refs"], 64 * by_name["LLd misses"]


def measure(program: Path) -> dict[str, dict[str, int]]:
    figures = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        build_model(folder)
        for dtype in ("float32", "bfloat16", "int8", "int4"):
            directory = folder if dtype == "float32" else quantized(folder, dtype)
            one, many = counts(program, directory, 1), counts(program, directory, TOKENS)
            instructions, missed = ((b - a) // (TOKENS - 1) for a, b in zip(one, many, strict=True))
            figures[dtype] = {
                "instructions_a_token": instructions,
                "missed_bytes_a_token": missed,
                "weight_bytes_a_token": step_bytes(directory),
            }
    return figures


def compiler() -> str:
    return subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind was not found: no work is counted here")
        return 0
    types = measure(args.program)
    found = {"compiler": compiler(), "types": types}
    if args.update:
        STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    if stored["compiler"] != found["compiler"]:
        print(f"stored by {stored['compiler']}; this is {found['compiler']}: shown, not judged")
    over = []
    for dtype, figures in types.items():
        for name, value in figures.items():
            ratio = value / stored["types"][dtype][name]
            print(f"{dtype:9} {name:22} {value:>12,}  {ratio:.3f} of what is stored")
            if ratio > 1 + TOLERANCE and stored["compiler"] == found["compiler"]:
                over.append(f"{dtype} {name}")
    if over:
        print(f"more work than stored: {', '.join(over)}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
