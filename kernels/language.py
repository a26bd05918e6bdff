"""Triton, or a stand-in that lets the kernel files be imported where Triton is not installed (no kernel runs there)."""

from __future__ import annotations

from typing import Any


class _Absent:
    """Just enough for a kernel's decorator; every other use is an AttributeError."""

    @staticmethod
    def jit(function: Any) -> Any:
        return function


try:
    import triton
    import triton.language as tl

    TRITON_INSTALLED = True
    INTERPRETED = bool(triton.knobs.runtime.interpret)  # Triton too looks at it when it meets a kernel, not later
except ImportError:
    triton: Any = _Absent()  # type: ignore[no-redef]
    tl: Any = triton  # type: ignore[no-redef]
    TRITON_INSTALLED = INTERPRETED = False
