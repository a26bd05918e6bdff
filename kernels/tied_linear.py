"""Tied projection: y_i = x_i W^T + b for several inputs x_i [M_i, K] of one weight W [N, K] (SWCM, sharing = tied).

The rows of all inputs are numbered through (M = sum M_i), and a tile of rows may span inputs: a tile of W is loaded
once for BLOCK_M rows, whoever they belong to, and nothing is concatenated. The inputs' addresses are launch arguments.

Forward:  reads N K b once for every BLOCK_M rows (with M <= BLOCK_M: once) + M K b, writes M N b. Apart, the weight
          would be read once for each input.
Backward: dx_i = dy_i W, the same kernel on the transposed weight; dW = sum_i dy_i^T x_i and db = sum_i sum dy_i,
          accumulated over all inputs in float32 and written once (autograd would write and add one dW an input).
Floor: max(bytes / copy bandwidth, 2 M N K / tensor-core rate).
"""

# A Triton kernel's parameters have no Python types.
# mypy: disallow-untyped-defs=false

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lrengine.kernels.dispatch import autocast, on_device, use_triton
from lrengine.kernels.language import tl, triton
from lrengine.kernels.states import rows

# With more rows a product is bound by arithmetic: reading the weight for each input costs nothing then, and cuBLAS's
# tiles are better.
FUSED_ROWS = 512


def tied_linear_reference(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """`tied_linear` in PyTorch."""
    return [linear(x, weight, bias) for x in inputs]


def tied_linear(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None = None) -> list[Tensor]:
    """[x W^T + b for x in inputs]: x [.., K] -> [.., N]; weight [N, K], bias [N]; all of one dtype.

    Above FUSED_ROWS rows in all, the inputs go one by one. Raises ValueError if shapes or dtypes do not fit."""
    weight, bias, *given = autocast(weight, bias, *inputs)
    check_linear(given, weight, bias)
    count = sum(x.shape[:-1].numel() for x in given)
    if not use_triton(*given, weight, bias) or count > FUSED_ROWS:
        return tied_linear_reference(given, weight, bias)
    outputs = tied_linear_op([rows(x) for x in given], weight.contiguous(), bias)
    return [y.view(*x.shape[:-1], len(weight)) for x, y in zip(given, outputs, strict=True)]


def check_linear(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> None:
    """Raises ValueError unless every input is [.., K], weight [N, K], bias [N] and all are of one dtype."""
    if len(inputs) == 0:
        raise ValueError("no inputs given")
    if weight.dim() != 2:
        raise ValueError(f"the weight is {list(weight.shape)}, not [N, K]")
    for index, x in enumerate(inputs):
        if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
            raise ValueError(f"input {index} is {list(x.shape)}, the weight is {list(weight.shape)}")
        if x.dtype != weight.dtype:
            raise ValueError(f"input {index} is {x.dtype}, the weight is {weight.dtype}")
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        raise ValueError(f"the bias is {bias.dtype} {list(bias.shape)}, the weight {weight.dtype} {list(weight.shape)}")


@triton.jit
def tied_product_kernel(
    inputs, outputs, starts, weight, bias, columns, depth, weight_column, weight_depth,
    HAS_BIAS: tl.constexpr, COUNT: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Rows starts[i] .. starts[i + 1] are input i. weight_column, weight_depth: strides of the weight as [N, K]."""
    row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for begin in range(0, depth, BLOCK_K):
        inner = begin + tl.arange(0, BLOCK_K)
        known = inner < depth
        tile = tl.zeros([BLOCK_M, BLOCK_K], dtype=weight.dtype.element_ty)
        for index in tl.static_range(COUNT):
            own = (row >= starts[index]) & (row < starts[index + 1])
            offset = (row - starts[index]).to(tl.int64)[:, None] * depth + inner[None, :]
            tile += tl.load(inputs[index] + offset, mask=own[:, None] & known[None, :], other=0.0)
        offset = column.to(tl.int64)[None, :] * weight_column + inner.to(tl.int64)[:, None] * weight_depth
        part = tl.load(weight + offset, mask=(column < columns)[None, :] & known[:, None], other=0.0)
        total = tl.dot(tile, part, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    result = total.to(weight.dtype.element_ty)
    for index in tl.static_range(COUNT):
        own = (row >= starts[index]) & (row < starts[index + 1])
        offset = (row - starts[index]).to(tl.int64)[:, None] * columns + column[None, :]
        tl.store(outputs[index] + offset, result, mask=own[:, None] & (column < columns)[None, :])


@triton.jit
def tied_weight_kernel(
    gradients, inputs, sizes, grad_weight, grad_bias, columns, depth,
    HAS_BIAS: tl.constexpr, COUNT: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile [BLOCK_N, BLOCK_K] of dW over the rows of all inputs; the first tile of every row of tiles does db."""
    column = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    total = tl.zeros([BLOCK_N, BLOCK_K], dtype=tl.float32)
    of_bias = tl.zeros([BLOCK_N], dtype=tl.float32)
    for index in tl.static_range(COUNT):
        for begin in range(0, sizes[index], BLOCK_M):
            row = begin + tl.arange(0, BLOCK_M)
            known = row < sizes[index]
            offset = row.to(tl.int64)[None, :] * columns + column[:, None]
            change = tl.load(gradients[index] + offset, mask=known[None, :] & (column < columns)[:, None], other=0.0)
            offset = row.to(tl.int64)[:, None] * depth + inner[None, :]
            tile = tl.load(inputs[index] + offset, mask=known[:, None] & (inner < depth)[None, :], other=0.0)
            total = tl.dot(change, tile, total, input_precision=PRECISION)
            if HAS_BIAS:
                of_bias += tl.sum(change.to(tl.float32), axis=1)
    offset = column.to(tl.int64)[:, None] * depth + inner[None, :]
    inside = (column < columns)[:, None] & (inner < depth)[None, :]
    tl.store(grad_weight + offset, total.to(grad_weight.dtype.element_ty), mask=inside)
    if HAS_BIAS:
        first = tl.program_id(1) == 0
        tl.store(grad_bias + column, of_bias.to(grad_bias.dtype.element_ty), mask=(column < columns) & first)


def dot_precision(tensor: Tensor) -> str:
    """float32 products as torch does them: in TF32 only where the user allowed it."""
    return "tf32" if tensor.is_cuda and torch.backends.cuda.matmul.allow_tf32 else "ieee"


def _product(inputs: list[Tensor], outputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> None:
    """outputs[i] = inputs[i] weight^T + bias; the weight may be a transposed view."""
    given = [(x, y) for x, y in zip(inputs, outputs, strict=True) if len(x) > 0]
    if not given:
        return
    starts = (0, *accumulate(len(x) for x, _ in given))
    columns, depth = weight.shape
    block_m, block_n = (64 if starts[-1] > 32 else 16), 64
    with on_device(weight):
        tied_product_kernel[(triton.cdiv(columns, block_n), triton.cdiv(starts[-1], block_m))](
            tuple(x for x, _ in given), tuple(y for _, y in given), starts, weight, bias, columns, depth,
            weight.stride(0), weight.stride(1), HAS_BIAS=bias is not None, COUNT=len(given),
            PRECISION=dot_precision(weight), BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=_depth_tile(weight),
        )  # fmt: skip


def _depth_tile(weight: Tensor) -> int:
    """128 bytes of every row: whole cache lines."""
    return 128 // weight.element_size()


def _forward(inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    outputs = _shapes(inputs, weight, bias)
    _product(inputs, outputs, weight, bias)
    return outputs


def _shapes(inputs: list[Tensor], weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    return [x.new_empty(x.shape[0], weight.shape[0]) for x in inputs]


def _backward_inputs(gradients: list[Tensor], weight: Tensor) -> list[Tensor]:
    outputs = _backward_inputs_shapes(gradients, weight)
    _product([gradient.contiguous() for gradient in gradients], outputs, weight.t(), None)
    return outputs


def _backward_inputs_shapes(gradients: list[Tensor], weight: Tensor) -> list[Tensor]:
    return [gradient.new_empty(gradient.shape[0], weight.shape[1]) for gradient in gradients]


def _backward_weight(gradients: list[Tensor], inputs: list[Tensor], has_bias: bool) -> tuple[Tensor, Tensor]:
    grad_weight, grad_bias = _backward_weight_shapes(gradients, inputs, has_bias)
    columns, depth = grad_weight.shape
    block_n, block_k = 64, 64
    with on_device(grad_weight):
        tied_weight_kernel[(triton.cdiv(columns, block_n), triton.cdiv(depth, block_k))](
            tuple(gradient.contiguous() for gradient in gradients), tuple(inputs), tuple(len(x) for x in inputs),
            grad_weight, grad_bias, columns, depth, HAS_BIAS=has_bias, COUNT=len(inputs),
            PRECISION=dot_precision(grad_weight), BLOCK_M=_depth_tile(grad_weight), BLOCK_N=block_n, BLOCK_K=block_k,
        )  # fmt: skip
    return grad_weight, grad_bias


def _backward_weight_shapes(gradients: list[Tensor], inputs: list[Tensor], has_bias: bool) -> tuple[Tensor, Tensor]:
    columns = gradients[0].shape[1]
    return inputs[0].new_empty(columns, inputs[0].shape[1]), inputs[0].new_empty(columns if has_bias else 0)


tied_linear_op: Any = torch.library.custom_op(
    "lrengine::tied_linear", _forward, mutates_args=(),
    schema="(Tensor[] inputs, Tensor weight, Tensor? bias) -> Tensor[]",
)  # fmt: skip
tied_linear_op.register_fake(_shapes)
backward_inputs_op: Any = torch.library.custom_op(
    "lrengine::tied_linear_backward_inputs", _backward_inputs, mutates_args=(),
    schema="(Tensor[] gradients, Tensor weight) -> Tensor[]",
)  # fmt: skip
backward_inputs_op.register_fake(_backward_inputs_shapes)
backward_weight_op: Any = torch.library.custom_op(
    "lrengine::tied_linear_backward_weight", _backward_weight, mutates_args=(),
    schema="(Tensor[] gradients, Tensor[] inputs, bool has_bias) -> (Tensor, Tensor)",
)  # fmt: skip
backward_weight_op.register_fake(_backward_weight_shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    given, weight, bias = inputs
    ctx.save_for_backward(*given, weight)
    ctx.has_bias = bias is not None


def _differentiate(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    *inputs, weight = ctx.saved_tensors
    of_inputs, of_weight, of_bias = ctx.needs_input_grad
    grad_inputs = backward_inputs_op(gradients, weight) if any(of_inputs) else [None] * len(inputs)
    grad_weight = grad_bias = None
    if of_weight or of_bias:
        grad_weight, grad_bias = backward_weight_op(gradients, inputs, ctx.has_bias)
    return grad_inputs, grad_weight, grad_bias if ctx.has_bias else None


tied_linear_op.register_autograd(_differentiate, setup_context=_save)
