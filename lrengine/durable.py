"""Files that are on the disk, not only in the system's memory."""

from __future__ import annotations

import os
from pathlib import Path


def flush(path: Path) -> None:
    """fsync of one file, or of a folder itself: that makes a rename in it durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(directory: Path) -> None:
    """fsync of every file and folder under `directory`, itself too: a rename must not reach the disk before what it
    names, or a crash leaves empty files under the final name."""
    for path in [*directory.rglob("*"), directory]:
        flush(path)
