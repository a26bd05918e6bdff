"""Files of model directories, which nobody has looked at yet: opened without waiting, read only when they are files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from lrengine.errors import ModelFileError

SMALL_BYTES = 16 << 20  # config.json, indexes: the engine's own limit (core/json.h)


def open_model_file(path: Path) -> BinaryIO:
    """`path` for reading. ModelFileError for anything but a regular file: a pipe would wait for its writer, a device
    has no end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: found {error.strerror}, expected a readable file") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        found = "a directory" if stat.S_ISDIR(mode) else "something else than a file"
        raise ModelFileError(f"{path}: cannot be read: found {found}, expected a readable file")
    return os.fdopen(descriptor, "rb")


def read_model_file(path: Path, most: int = SMALL_BYTES) -> bytes:
    """All of `path`. ModelFileError as above, and for more than `most` bytes: its size is looked at first."""
    with open_model_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ModelFileError(f"{path}: found {size} bytes, expected at most {most}")
        try:
            return file.read()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
