"""Linear + cross-entropy without logits in memory: loss_t = log sum_v exp(z_tv) - z_t,y(t) with z = x W^T + b.

x [T, D], W [V, D] (V = 135,359 or 250,112 here), b [V] or none, y [T]; z [T, V] in float32 would take 2.2 GB at
T = 4096.

Forward:  vocabulary tiles [BLOCK_T, BLOCK_V] of z live in registers; every program walks over its part of the
          vocabulary with an online log-sum-exp, and the parts are added up afterwards ([parts, T] values).
          Bytes: V D b once for every BLOCK_T rows (mostly from L2: programs of one part run side by side) + T D b.
Backward: for slices of the vocabulary: P = softmax - onehot is recomputed from z and the saved log-sum-exp into a
          buffer [T, slice] of at most 64 MB (half precision), then dx += P W_slice (float32) and dW_slice = P^T (g x).
          dx is accumulated in float32 over all slices, dW in float32 over all tokens.
Floor: 2 T V D operations forward, 3 x 2 T V D backward (one third of it recomputation), at the tensor cores' rate;
with few tokens the weight's bytes at the card's copy bandwidth.
"""

# A Triton kernel's parameters have no Python types.
# mypy: disallow-untyped-defs=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from lrengine.kernels.dispatch import autocast, on_device, processors, use_triton
from lrengine.kernels.language import tl, triton
from lrengine.kernels.states import rows
from lrengine.kernels.tied_linear import check_linear, dot_precision

_SLICE_VALUES = 1 << 25  # of the buffer P: T x slice


@dataclass(frozen=True)
class Tile:
    """Sides of the tiles of a product [rows, depth] x [depth, columns], and the warps that compute one."""

    rows: int
    columns: int
    depth: int
    warps: int


def product_tile(dtype: torch.dtype) -> Tile:
    """In half precision what keeps the tensor cores busy and, three stages deep, fits the 99 KB of 8.6 and 8.9."""
    return Tile(64, 64, 32, 4) if dtype == torch.float32 else Tile(128, 128, 64, 8)


def linear_cross_entropy_reference(
    x: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    """`linear_cross_entropy` in PyTorch: the logits in the inputs' dtype, the loss in float32 or better."""
    logits = linear(x, weight, bias)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(wide.flatten(0, -2), labels.flatten(), ignore_index=ignore_index, reduction=reduction)


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Mean or sum of -log p(label) over the labels that are not `ignore_index`; a scalar in float32.

    x [.., D], weight [V, D], bias [V] of one dtype; labels [..], int64. The kernel cannot raise for a label outside
    the vocabulary: the loss is NaN then (the reference raises IndexError on a CPU). Raises ValueError if shapes or
    dtypes do not fit."""
    x, weight, bias = autocast(x, weight, bias)
    check_linear([x], weight, bias)
    if labels.shape != x.shape[:-1]:
        raise ValueError(f"labels are {list(labels.shape)}, the states are {list(x.shape)}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction '{reduction}' is not mean or sum")
    if not use_triton(x, weight, bias):
        return linear_cross_entropy_reference(x, weight, labels, bias, ignore_index, reduction)
    flat = labels.reshape(-1).contiguous()
    losses, _ = token_loss_op(rows(x), weight.contiguous(), bias, flat, ignore_index)
    total = losses.sum()
    return total if reduction == "sum" else total / (flat != ignore_index).sum()


@triton.jit
def logits_tile(
    x, weight, bias, row, column, tokens, vocabulary, width,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """z [BLOCK_T, BLOCK_V] in float32; -inf behind the vocabulary's end."""
    total = tl.zeros([BLOCK_T, BLOCK_V], dtype=tl.float32)
    for begin in range(0, width, BLOCK_D):
        inner = begin + tl.arange(0, BLOCK_D)
        known = inner < width
        offset = row.to(tl.int64)[:, None] * width + inner[None, :]
        tile = tl.load(x + offset, mask=(row < tokens)[:, None] & known[None, :], other=0.0)
        offset = column.to(tl.int64)[None, :] * width + inner[:, None]
        part = tl.load(weight + offset, mask=(column < vocabulary)[None, :] & known[:, None], other=0.0)
        total = tl.dot(tile, part, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column < vocabulary, other=0.0).to(tl.float32)[None, :]
    return tl.where((column < vocabulary)[None, :], total, float("-inf"))


@triton.jit
def loss_kernel(
    x, weight, bias, labels, log_sums, chosen, tokens, vocabulary, width, tiles,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Part program_id(1) of the vocabulary, `tiles` tiles long: its log-sum-exp, and the label's logit if it is in."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    label = tl.load(labels + row, mask=row < tokens, other=-1)
    top = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    picked = tl.zeros([BLOCK_T], dtype=tl.float32)
    first = tl.program_id(1) * tiles
    for tile in range(first, tl.minimum(first + tiles, tl.cdiv(vocabulary, BLOCK_V))):
        column = tile * BLOCK_V + tl.arange(0, BLOCK_V)
        z = logits_tile(
            x, weight, bias, row, column, tokens, vocabulary, width, HAS_BIAS, PRECISION, BLOCK_T, BLOCK_V, BLOCK_D
        )
        higher = tl.maximum(top, tl.max(z, axis=1))
        total = total * tl.exp(top - higher) + tl.sum(tl.exp(z - higher[:, None]), axis=1)
        top = higher
        picked += tl.sum(tl.where(column[None, :] == label[:, None], z, 0.0), axis=1)
    at = tl.program_id(1).to(tl.int64) * tokens + row
    tl.store(log_sums + at, top + tl.log(total), mask=row < tokens)
    tl.store(chosen + at, picked, mask=row < tokens)


@triton.jit
def probability_kernel(
    x, weight, bias, labels, log_sums, changes, tokens, vocabulary, width, begin, end, ignore_index,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """P = softmax - onehot of the columns begin .. end into changes [T, end - begin]; zeros for ignored tokens."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = begin + tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    label = tl.load(labels + row, mask=row < tokens, other=0)
    z = logits_tile(
        x, weight, bias, row, column, tokens, vocabulary, width, HAS_BIAS, PRECISION, BLOCK_T, BLOCK_V, BLOCK_D
    )
    change = tl.exp(z - tl.load(log_sums + row, mask=row < tokens, other=0.0)[:, None])
    change = tl.where(column[None, :] == label[:, None], change - 1.0, change)
    change = tl.where((label == ignore_index)[:, None], 0.0, change)
    offset = row.to(tl.int64)[:, None] * (end - begin) + (column - begin)[None, :]
    inside = (row < tokens)[:, None] & (column < end)[None, :]
    tl.store(changes + offset, change.to(changes.dtype.element_ty), mask=inside)


@triton.jit
def product_kernel(
    a, b, out, height, columns, depth, a_row, a_depth, b_depth, b_column, out_row,
    ADD: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out [height, columns] = a b, or out += a b; a and b with any strides, sums in float32."""
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for begin in range(0, depth, BLOCK_K):
        inner = (begin + tl.arange(0, BLOCK_K)).to(tl.int64)
        known = inner < depth
        offset = row.to(tl.int64)[:, None] * a_row + inner[None, :] * a_depth
        left = tl.load(a + offset, mask=(row < height)[:, None] & known[None, :], other=0.0)
        offset = inner[:, None] * b_depth + column.to(tl.int64)[None, :] * b_column
        right = tl.load(b + offset, mask=known[:, None] & (column < columns)[None, :], other=0.0)
        total = tl.dot(left, right, total, input_precision=PRECISION)
    offset = row.to(tl.int64)[:, None] * out_row + column[None, :]
    inside = (row < height)[:, None] & (column < columns)[None, :]
    if ADD:
        total += tl.load(out + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=inside)


def _token_losses(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    tokens, width = x.shape
    if tokens == 0:
        return _token_losses_shapes(x, weight, bias, labels, ignore_index)
    vocabulary = weight.shape[0]
    tile = product_tile(x.dtype)
    groups, tiles = triton.cdiv(tokens, tile.rows), triton.cdiv(vocabulary, tile.columns)
    # two programs for every processor, and a part of at least one tile
    tiles_a_part = triton.cdiv(tiles, min(tiles, max(1, 2 * processors(x) // groups)))
    parts = triton.cdiv(tiles, tiles_a_part)
    log_sums = x.new_empty(parts, tokens, dtype=torch.float32)
    chosen = torch.empty_like(log_sums)
    with on_device(x):
        loss_kernel[(groups, parts)](
            x, weight, bias, labels, log_sums, chosen, tokens, vocabulary, width, tiles_a_part,
            HAS_BIAS=bias is not None, PRECISION=dot_precision(x), BLOCK_T=tile.rows, BLOCK_V=tile.columns,
            BLOCK_D=tile.depth, num_warps=tile.warps,
        )  # fmt: skip
    log_sum = log_sums.logsumexp(0)
    losses = (log_sum - chosen.sum(0)).masked_fill((labels < 0) | (labels >= vocabulary), float("nan"))
    return losses.masked_fill(labels == ignore_index, 0.0), log_sum


def _token_losses_shapes(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], dtype=torch.float32), x.new_empty(x.shape[0], dtype=torch.float32)


def _add_product(a: Tensor, b: Tensor, out: Tensor, add: bool) -> None:
    """out = a b, or out += a b, for 2-d tensors of any strides (out: unit stride inside a row)."""
    tile = product_tile(a.dtype)
    with on_device(out):
        product_kernel[(triton.cdiv(out.shape[0], tile.rows), triton.cdiv(out.shape[1], tile.columns))](
            a, b, out, out.shape[0], out.shape[1], a.shape[1], *a.stride(), *b.stride(), out.stride(0), ADD=add,
            PRECISION=dot_precision(a), BLOCK_M=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.depth,
            num_warps=tile.warps,
        )  # fmt: skip


def _loss_backward(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, log_sum: Tensor, gradient: Tensor,
    ignore_index: int, train_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dx, dW, db. P stays unscaled and x takes the gradient's shape divided by its largest value: a mean over many
    tokens would put P / T below what float16 holds."""
    grad_x, grad_weight, grad_bias = _loss_backward_shapes(
        x, weight, bias, labels, log_sum, gradient, ignore_index, train_weight
    )
    (tokens, width), vocabulary = x.shape, weight.shape[0]
    if tokens == 0:
        return grad_x, grad_weight.zero_(), grad_bias.zero_()
    total = torch.zeros_like(x, dtype=torch.float32)
    largest = gradient.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    relative = gradient / largest
    scaled = (x * relative[:, None]).to(x.dtype)
    tile = product_tile(x.dtype)
    size = min(vocabulary, max(tile.columns, _SLICE_VALUES // tokens // tile.columns * tile.columns))
    for begin in range(0, vocabulary, size):
        end = min(begin + size, vocabulary)
        changes = x.new_empty(tokens, end - begin)
        with on_device(x):
            probability_kernel[(triton.cdiv(tokens, tile.rows), triton.cdiv(end - begin, tile.columns))](
                x, weight, bias, labels, log_sum, changes, tokens, vocabulary, width, begin, end, ignore_index,
                HAS_BIAS=bias is not None, PRECISION=dot_precision(x), BLOCK_T=tile.rows, BLOCK_V=tile.columns,
                BLOCK_D=tile.depth, num_warps=tile.warps,
            )  # fmt: skip
        _add_product(changes, weight[begin:end], total, add=True)
        if train_weight:
            of_slice = x.new_empty(end - begin, width, dtype=torch.float32)
            _add_product(changes.t(), scaled, of_slice, add=False)
            grad_weight[begin:end] = of_slice * largest
            if bias is not None:
                grad_bias[begin:end] = (relative.to(x.dtype) @ changes).float() * largest
    grad_x.copy_(total * gradient[:, None])
    return grad_x, grad_weight, grad_bias


def _loss_backward_shapes(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, log_sum: Tensor, gradient: Tensor,
    ignore_index: int, train_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    nothing = x.new_empty(0)
    grad_bias = torch.empty_like(bias) if bias is not None and train_weight else nothing
    return torch.empty_like(x), torch.empty_like(weight) if train_weight else nothing.clone(), grad_bias


token_loss_op: Any = torch.library.custom_op(
    "lrengine::linear_cross_entropy", _token_losses, mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor labels, int ignore_index) -> (Tensor, Tensor)",
)  # fmt: skip
token_loss_op.register_fake(_token_losses_shapes)
loss_backward_op: Any = torch.library.custom_op(
    "lrengine::linear_cross_entropy_backward", _loss_backward, mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor labels, Tensor log_sum, Tensor gradient, int ignore_index, "
    "bool train_weight) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
loss_backward_op.register_fake(_loss_backward_shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, labels, ctx.ignore_index = inputs
    ctx.save_for_backward(x, weight, bias, labels, output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    x, weight, bias, labels, log_sum = ctx.saved_tensors
    train_weight = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    grad_x, grad_weight, grad_bias = loss_backward_op(
        x, weight, bias, labels, log_sum, gradient, ctx.ignore_index, train_weight
    )
    if not train_weight:
        return grad_x, None, None, None, None
    return grad_x, grad_weight, None if bias is None else grad_bias, None, None


token_loss_op.register_autograd(_differentiate, setup_context=_save)
