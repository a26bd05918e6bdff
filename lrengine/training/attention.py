"""Which of PyTorch's attention kernels a training run may use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch.nn.attention import SDPBackend, sdpa_kernel


def attention_kernels(bf16: bool, on_cpu: bool) -> AbstractContextManager[None]:
    """The plain products on a CPU in bfloat16, all kernels elsewhere.

    The fused kernel's backward pass is slow there on short texts: 46% of the time of a step of a six-layer SWCM (32
    strings of interfaces; 24.5 strings a second of processor time with it, 34.4 without; float32 15.9 and 15.1)."""
    return sdpa_kernel(SDPBackend.MATH) if bf16 and on_cpu else nullcontext()
