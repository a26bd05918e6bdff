"""Installs peers, each in an environment of its own (they want different versions of the same packages).

    python benchmarks/install_peers.py WORK [ctranslate2] [onnxruntime] [llama_cpp]

PyTorch is asked for alone and first: what is asked for together may take another build of it. llama.cpp is compiled for
this machine's instruction set, which takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
PEERS = ("ctranslate2", "onnxruntime", "llama_cpp")


def environment_python(work: Path, peer: str) -> Path:
    return work / "venvs" / peer / "bin" / "python"


def install(work: Path, peer: str) -> None:
    python = environment_python(work, peer)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    requirements = REQUIREMENTS / f"requirements-{peer}.txt"
    torch = [line for line in requirements.read_text(encoding="utf-8").splitlines() if line.startswith("torch==")]
    if torch:
        subprocess.run([*pip, *torch], check=True)
    environment = os.environ | {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}
    subprocess.run([*pip, "-r", str(requirements)], check=True, env=environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)} (default: all)")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(PEERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(PEERS)}")
    for peer in args.peers or PEERS:
        print(f"installing {peer}", flush=True)
        install(args.work, peer)


if __name__ == "__main__":
    main()
