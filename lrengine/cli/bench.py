"""`lrengine bench DIR`: how long requests take here, in each weight type; or what moved between two reports."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from lrengine.bench.compare import compare
from lrengine.bench.contestant import Entry
from lrengine.bench.figures import figures_of, table
from lrengine.bench.measure import measure
from lrengine.bench.model_bytes import step_bytes
from lrengine.bench.report import SCHEMA
from lrengine.bench.workload import Workload, grid
from lrengine.errors import DataError, InvalidRequestError, ModelFileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, nargs="?", help="model directory")
    parser.add_argument(
        "--compare", metavar="JSON", type=Path, nargs=2, help="two reports: say what moved beyond noise"
    )
    parser.add_argument(
        "--dtype", nargs="+", default=["auto"], help="weight types, each a contestant (default: as stored)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:INDEX (default: cpu)")
    parser.add_argument("--threads", type=int, default=_usable_cores(), help="default: as many as the process may use")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16], help="sources of a request")
    parser.add_argument("--source", type=int, nargs="+", default=[64, 16, 256], help="tokens of a source")
    parser.add_argument("--new-tokens", type=int, default=64, help="tokens to generate (default: 64)")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=7, help="requests of each kind (default: 7)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all samples here")


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.compare:
        for change in compare(*(_read(path) for path in args.compare)):
            print(change)
        return 0
    if args.directory is None:
        raise InvalidRequestError("DIR: found nothing, expected a model directory (or --compare A.json B.json)")
    for name in ("threads", "rounds"):
        if getattr(args, name) < 1:
            raise InvalidRequestError(f"--{name}: found {getattr(args, name)}, expected at least 1")
    report = measure(
        [_entry(args.directory, dtype) for dtype in args.dtype],
        _workloads(args),
        threads=args.threads,
        device=args.device,
        rounds=args.rounds,
        save=lambda found: _write(found, args.json),
    )
    print(table(figures_of(report)))
    return 1 if any("failed" in found for found in report["contestants"] + report["rows"]) else 0


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _model_type(directory: Path) -> str:
    try:
        return str(json.loads((directory / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{directory / 'config.json'}: not a model's config: {error}") from error


def _entry(directory: Path, dtype: str) -> Entry:
    """The floor is known where the weights are used as they are stored."""
    stored = dtype == "auto"
    command = [sys.executable, "-m", "lrengine.bench.engine_worker"]
    name = "lrengine" if stored else f"lrengine {dtype}"
    return Entry(name, command, directory, None if stored else dtype, step_bytes(directory) if stored else None)


def _workloads(args: argparse.Namespace) -> list[Workload]:
    task = "encode" if _model_type(args.directory) == "layer_fusion_classifier" else "generate"
    return grid(task, args.batch, args.source, args.new_tokens, args.beams)


def _write(report: dict[str, Any], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise DataError(f"{path}: expected a report of `lrengine bench --json` with schema {SCHEMA}")
    return report
