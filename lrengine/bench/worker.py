"""The loop inside a contestant's process. Standard library only: peers run it in environments without this package.

Messages are JSON objects, one a line. The first opens a model and is answered with {"open_s", "versions"}; then

    {"op": "run", "workload": {...}, "new_tokens": N}  ->  {"seconds": s}
    {"op": "memory"}                                   ->  {"peak_mib": m}, the peak resident size of the process

A request that fails is answered with {"error": text}. The end of the input ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

# Answers one request: the workload's fields, and how many tokens to generate instead of the workload's own count.
Run = Callable[[dict[str, Any], int], None]
# From the opening message (directory, dtype, threads, device) to a model, and the versions of what runs it.
Open = Callable[[dict[str, Any]], "tuple[Run, dict[str, str]]"]


def serve(open_model: Open) -> None:
    """Runs until the input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    run: Run | None = None
    directory = Path()
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if run is None:
                directory = Path(message["directory"])
                started = time.perf_counter()
                run, versions = open_model(message)
                answer: dict[str, Any] = {"open_s": time.perf_counter() - started, "versions": versions}
            elif message["op"] == "memory":
                answer = {"peak_mib": peak_mib()}
            else:
                workload = with_text(message["workload"], directory)
                started = time.perf_counter()
                run(workload, message["new_tokens"])
                answer = {"seconds": time.perf_counter() - started}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        _send(answers, answer)
        if run is None:
            return


def peak_mib() -> float | None:
    """None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def with_text(workload: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The workload with its sources as "rows", where it names a file of them."""
    if not workload.get("text"):
        return workload
    rows = json.loads((directory / workload["text"]).read_text(encoding="utf-8"))
    return workload | {"rows": rows[: workload["batch"]]}


def source_ids(workload: dict[str, Any]) -> list[list[int]]:
    """The same for everyone: rows of a file, or ordinary ids, no special ones and none beyond a small vocabulary."""
    if "rows" in workload:
        return list(workload["rows"])
    return [
        [20 + (7 * row + position) % 200 for position in range(workload["source"])] for row in range(workload["batch"])
    ]


def prompt_ids(workload: dict[str, Any]) -> list[list[int]]:
    return [[20 + position % 200 for position in range(workload["prompt"])]] * int(workload["batch"])


def _send(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
