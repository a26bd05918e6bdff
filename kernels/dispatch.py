"""Which of the two forms runs: the Triton kernel or the PyTorch reference.

`LRENGINE_KERNELS`, read once at import:
  auto       kernels on CUDA tensors of float32, bfloat16 and float16 if Triton is installed, else the reference; the
             default
  reference  the reference everywhere (also the way out on cards before 8.0, for which the kernels are not compiled)
  triton     kernels everywhere; a ValueError says why one cannot run. On a CPU they need Triton's interpreter, that is
             TRITON_INTERPRET=1 before Triton is first imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lrengine.kernels.language import INTERPRETED, TRITON_INSTALLED

MODES = ("auto", "reference", "triton")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _checked(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"LRENGINE_KERNELS is '{mode}', not one of {', '.join(MODES)}")
    return mode


_mode = _checked(os.environ.get("LRENGINE_KERNELS", "auto"))


@contextmanager
def kernel_mode(mode: str) -> Iterator[None]:
    """Another mode for the time of a `with` block (all threads). Raises ValueError for an unknown one."""
    global _mode
    before, _mode = _mode, _checked(mode)
    try:
        yield
    finally:
        _mode = before


def use_triton(*tensors: Tensor | None) -> bool:
    """Whether kernels run on these tensors (None: an absent option). Raises ValueError in the mode `triton` if they
    cannot."""
    if _mode == "reference":
        return False
    given = [tensor for tensor in tensors if tensor is not None]
    if _mode == "auto":
        return TRITON_INSTALLED and all(tensor.is_cuda and tensor.dtype in DTYPES for tensor in given)
    if not TRITON_INSTALLED:
        raise ValueError("LRENGINE_KERNELS is 'triton', but Triton is not installed")
    if wrong := sorted({str(tensor.dtype) for tensor in given if tensor.dtype not in DTYPES}):
        raise ValueError(f"the Triton kernels take float32, bfloat16 and float16, not {', '.join(wrong)}")
    if any(not tensor.is_cuda for tensor in given) and not INTERPRETED:
        raise ValueError("the Triton kernels run on CUDA tensors; on others only with TRITON_INTERPRET=1")
    return True


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a module is its weight and bias and nothing else (no adapter, no hook that fetches the weight), so that a
    kernel may take these past its forward."""
    return type(module) is nn.Linear and not (module._forward_hooks or module._forward_pre_hooks)


def on_device(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def processors(tensor: Tensor) -> int:
    """Streaming multiprocessors of the tensor's device: how many programs run side by side."""
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count if tensor.is_cuda else 1


def autocast(*tensors: Tensor | None) -> list[Any]:
    """What torch.autocast does to the inputs of a linear: inside it, the tensors in its dtype."""
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


def power_of_two(size: int) -> int:
    """The smallest power of two that is not below `size` (Triton's tiles have such sides)."""
    return 1 << max(size - 1, 0).bit_length()


def row_tile(tokens: int, width: int) -> tuple[int, int, int]:
    """(BLOCK_T, BLOCK_D, warps) of a kernel that holds whole rows [.., width] in registers: about 2048 values a tile,
    but one row a program while there are too few rows to fill a large GPU."""
    columns = power_of_two(width)
    rows = max(1, 2048 // columns) if tokens > 512 else 1
    return min(rows, 16), columns, 4 if columns <= 2048 else 8
