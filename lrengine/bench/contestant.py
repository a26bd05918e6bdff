"""A contestant: a process that answers requests (see worker.py for the messages)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lrengine.bench.workload import Workload
from lrengine.errors import LrengineError


class ContestantError(LrengineError, RuntimeError):
    """A contestant failed, or its process ended."""


@dataclass(frozen=True)
class Entry:
    """Who takes part.

    name: as reports show it. command: starts its process. directory, dtype: what it opens; dtype None: as stored.
    step_bytes: weight bytes that one decode step reads at least, of one forward pass for encoders; None: not known.
    """

    name: str
    command: Sequence[str]
    directory: Path
    dtype: str | None = None
    step_bytes: int | None = None
    environment: dict[str, str] = field(default_factory=dict)


class Contestant:
    """Opens its model when made. Raises ContestantError; the process ends with the context."""

    def __init__(self, entry: Entry, threads: int, device: str) -> None:
        self.entry = entry
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | entry.environment
        try:
            self._process = subprocess.Popen(
                list(entry.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as error:
            raise ContestantError(f"{entry.name}: {entry.command[0]} cannot be started: {error}") from error
        try:
            opened = self._ask(
                {"directory": str(entry.directory), "dtype": entry.dtype, "threads": threads, "device": device}
            )
        except ContestantError:
            self.close()
            raise
        self.open_s = float(opened["open_s"])
        self.versions: dict[str, str] = opened["versions"]

    def __enter__(self) -> Contestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def seconds(self, workload: Workload, new_tokens: int) -> float:
        return float(self._ask({"op": "run", "workload": workload.message(), "new_tokens": new_tokens})["seconds"])

    def peak_mib(self) -> float | None:
        found = self._ask({"op": "memory"})["peak_mib"]
        return None if found is None else float(found)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # it may have ended with a message unread
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise ContestantError(f"{self.entry.name}: its process ended: {error}") from error
        if not line:
            raise ContestantError(f"{self.entry.name}: its process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantError(f"{self.entry.name}: {answer['error']}")
        return answer
