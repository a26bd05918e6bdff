"""Triton, or a stand-in that lets the kernel files be imported where Triton is not installed (no kernel runs there)."""

from __future__ import annotations

from typing import Any


class _Absent:
    """Just enough for a kernel's decorator; every other use is an AttributeError."""

    @staticmethod
    def jit(function: Any) -> Any:
        return function


def _repair_interpreter() -> None:
    """Two things that Triton 3.6's interpreter does not do: take a loop's bound from an array of one element with
    NumPy 2.4, and multiply bfloat16 (it multiplies the bit patterns)."""
    from triton.runtime import interpreter

    patch_tensor, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

    def with_index(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def in_float32(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = self.cast_impl(a, tl.float32), self.cast_impl(b, tl.float32)
        return dot(self, a, b, *rest)

    interpreter._patch_lang_tensor = with_index
    interpreter.InterpreterBuilder.create_dot = in_float32


try:
    import triton
    import triton.language as tl

    TRITON_INSTALLED = True
    INTERPRETED = bool(triton.knobs.runtime.interpret)  # Triton too looks at it when it meets a kernel, not later
    if INTERPRETED:
        _repair_interpreter()
except ImportError:
    triton: Any = _Absent()  # type: ignore[no-redef]
    tl: Any = triton  # type: ignore[no-redef]
    TRITON_INSTALLED = INTERPRETED = False
