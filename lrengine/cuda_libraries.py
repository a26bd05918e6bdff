"""cuBLASLt from Python's packages: where CUDA came with pip, the dynamic loader does not know the folder."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

BACKEND = Path(__file__).with_name("liblrengine_cuda.so")


def preload_cublaslt() -> Path | None:
    """Loads libcublasLt of the newest `nvidia` package, so that the CUDA backend finds it by its name.

    Returns the file, or None: there is no backend, LRENGINE_CUBLASLT names another file, or no package has it."""
    if not BACKEND.exists() or os.environ.get("LRENGINE_CUBLASLT"):
        return None
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for folder in folders for file in Path(folder).glob("*/lib/libcublasLt.so.1[23]")]
    for file in sorted(files, key=lambda file: file.suffix, reverse=True):
        try:
            ctypes.CDLL(str(file))
        except OSError:
            continue  # of another platform, or damaged: the backend says what it misses
        return file
    return None
