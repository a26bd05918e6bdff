"""The engine against its peers. Those of one part of a suite take turns; parts are measured apart.

    python benchmarks/install_peers.py WORK            # once: each peer in an environment of its own
    python benchmarks/latency.py WORK seq2seq encoder llm fusion real [--parts float int] [--rounds 7] [--out DIR]

seq2seq   SWCM at real dimensions; peers: an M2M100 whose decoder reads the same bytes a step
encoder   XLM-R base, classification; peers: the same encoder
llm       Llama-3.2-1B's dimensions, a prompt of the source's length; ours behind an encoder too small to matter
fusion    mT5-large's encoder, transformer mixer, Llama-3.2-1B's dimensions; peer: our PyTorch model
real      multilingual-e5-small and SmolLM2-135M on real sentences (--real: where data/fetch_*.py put them)

All but `real` have random weights (speed does not depend on them); all forbid the end token. Peers that are not
installed are left out with a word. DIR/NAME.json has every sample; a part measured again takes its old one's place.
`--prepare` makes models and measures nothing. `lrengine bench --compare` says what moved between two files.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suites import SUITES, Part, Setting

from lrengine.bench.figures import figures_of, table
from lrengine.bench.measure import measure
from lrengine.bench.report import put_part

logger = logging.getLogger("lrengine.bench")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("suites", nargs="+", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--parts", nargs="*", help="only these (default: all that the suite has)")
    types = ["float32", "bfloat16", "int8", "int4", "int4+embeddings"]
    parser.add_argument("--ours", nargs="*", default=types, help="our weight types")
    parser.add_argument("--peers", nargs="*", default=["transformers", "ctranslate2", "onnxruntime", "llama_cpp"])
    parser.add_argument("--real", type=Path, help="folder with multilingual-e5-small, smollm2-135m-instruct and text")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="folder for the reports")
    parser.add_argument("--prepare", action="store_true", help="only make the models")
    parser.add_argument("--small", action="store_true", help="miniature models: shows that the script runs")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    setting = Setting(args.work, args.ours, args.peers, args.real, args.small)
    for suite in args.suites:
        for name, part in SUITES[suite].items():
            if args.parts is None or name in args.parts:
                run(setting, suite, name, part, args)


def run(setting: Setting, suite: str, name: str, part: Part, args: argparse.Namespace) -> None:
    entries = part.entries(setting)
    if args.prepare or not entries:
        return

    def save(report: dict[str, Any]) -> None:
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            path = args.out / f"{suite}.json"
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            path.write_text(json.dumps(put_part(found, name, report), indent=1) + "\n", encoding="utf-8")

    report = measure(entries, part.workloads, threads=args.threads, rounds=args.rounds, save=save)
    print(f"## {suite}, {name}\n\n{table(figures_of(report))}\n", flush=True)


if __name__ == "__main__":
    main()
