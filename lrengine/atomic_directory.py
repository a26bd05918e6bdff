"""A directory that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrengine.durable import flush, flush_tree
from lrengine.errors import ModelFileError


@contextmanager
def atomic_directory(destination: Path, force: bool = False, mark: str = "config.json") -> Iterator[Path]:
    """Yields an empty directory beside `destination`; when the block ends well, it is flushed to disk and renamed.

    A failed block leaves nothing new and everything old. An existing `destination` is refused unless `force`, and even
    then it must be empty or hold the file `mark`, by which a directory of this kind is known, so that a mistyped path
    costs nobody his files.
    """
    destination = _absolute(destination)
    _check_free(destination, force, mark)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = destination.parent / f".{destination.name}.{uuid.uuid4().hex[:8]}.partial"
        partial.mkdir()
    except OSError as error:
        raise ModelFileError(f"{destination}: cannot be created: {error}") from error
    try:
        yield partial
        flush_tree(partial)
        _check_free(destination, force, mark)
        _move(partial, destination)
    except OSError as error:
        raise ModelFileError(f"{destination}: writing it failed: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _absolute(path: Path) -> Path:
    """Without following the last part, which may be a link that must not be replaced."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _check_free(destination: Path, force: bool, mark: str) -> None:
    if not os.path.lexists(destination):
        return
    if not force:
        raise ModelFileError(f"{destination}: exists already; --force replaces it")
    is_known = (destination / mark).is_file()
    if destination.is_symlink() or not destination.is_dir() or not (is_known or not any(destination.iterdir())):
        kind = "a model directory" if mark == "config.json" else "an export"
        raise ModelFileError(f"{destination}: is not {kind} (no {mark}), so it is not replaced")


def _move(partial: Path, destination: Path) -> None:
    replaced = partial.with_suffix(".replaced")
    had_one = destination.exists()
    try:
        if had_one:
            destination.rename(replaced)
        partial.rename(destination)
    except BaseException:  # Ctrl-C and SIGTERM too
        if replaced.exists() and not destination.exists():
            replaced.rename(destination)
        raise
    flush(destination.parent)
    if had_one:
        shutil.rmtree(replaced, ignore_errors=True)
