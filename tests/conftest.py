"""PyTorch sums in an order that depends on its number of threads: one thread here and in the processes that tests
start, so that a run in another process can be compared bit by bit.

Triton decides when it is imported whether its kernels are interpreted; without an NVIDIA driver they are."""

import os
import shutil
import sys
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"
_NVIDIA = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
os.environ.setdefault("TRITON_INTERPRET", "0" if _NVIDIA else "1")


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Also after a test whose code chose another number."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
