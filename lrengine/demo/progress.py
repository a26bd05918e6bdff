"""Lines that say what the demo is doing: one a stage, rewritten in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

TITLE_WIDTH = 66


class Progress:
    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.live = self.stream.isatty()
        self.begun = time.monotonic()
        self._last = 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage, and its seconds when it ends well."""
        start = time.monotonic()
        self._write(f"  {title} ..." + ("" if self.live else "\n"))
        yield
        self.done(title, time.monotonic() - start)

    def done(self, title: str, seconds: float) -> None:
        """A line for something that has ended."""
        self._write("\r\033[K" * self.live + f"✓ {title:<{TITLE_WIDTH}} {seconds:6.1f} s\n")

    def tick(self, text: str) -> None:
        """What a running stage reports; at most twice a second on a terminal, never elsewhere."""
        now = time.monotonic()
        if self.live and now - self._last > 0.5:
            self._last = now
            self._write(f"\r\033[K  {text}")

    def say(self, text: str = "") -> None:
        self._write(text + "\n")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def table(header: list[str], rows: list[list[str]]) -> str:
    """A plain text table, the first column left-aligned, the others right-aligned."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = [
        "  "
        + "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    rule = "  " + "  ".join("─" * width for width in widths)
    return "\n".join([shown[0], rule, *shown[1:]])
