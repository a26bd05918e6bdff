"""Mix and the mapper's first linear in one launch: y_t = (m_t sum_l w_tl h_tl) W^T + b, w = softmax(logits).

A tile [BLOCK_T, BLOCK_D] of the mixed state is made in registers, rounded to the states' dtype as the mix alone would
store it, and multiplied at once; the mixed states are never written.

Forward:  reads L T D b (the states) from memory once and from L2 once more for every further 128 columns of E,
          E D b (the weight) once for every BLOCK_T rows, writes T E b + 4 T L. Saved: one launch and 2 T D b. That pays
          for the few rows of a single source; above `FUSED_TOKENS`, reading L states E / 128 times costs more than
          it saves, and the pieces run instead: layer_mix, then the linear.
Backward: through the pieces: df = dy W, dW = dy^T f (f is mixed again), then layer_mix's backward.
Floor: (L T D + E D + T E) b at the card's copy bandwidth.
"""

# A Triton kernel's parameters have no Python types.
# mypy: disallow-untyped-defs=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lrengine.kernels.dispatch import autocast, on_device, power_of_two, use_triton
from lrengine.kernels.language import tl, triton
from lrengine.kernels.layer_mix import (
    check_logits,
    flat_logits,
    layer_mix,
    layer_mix_reference,
    mix_gradients,
    mix_op,
    softmax_scale,
)
from lrengine.kernels.states import layer_states, rows
from lrengine.kernels.tied_linear import check_linear, dot_precision

STAGES = 1  # a second stage would put the tiles of all L layers into shared memory: more than 8.6 and 8.9 have
FUSED_TOKENS = 256  # up to here the states of 24 layers of 1024 stay in the L2 cache of every card we compile for


def mix_mapper_reference(
    states: Sequence[Tensor], logits: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`mix_mapper` in PyTorch."""
    fused, weights = layer_mix_reference(states, logits, mask)
    return linear(fused, weight, bias), weights


def mix_mapper(
    states: Sequence[Tensor] | Tensor,
    logits: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mapped states [.., E] and the mixer's weights [.., L]; weight [E, D] and bias [E] in the states' dtype, the rest
    as in `layer_mix`. Raises ValueError if shapes or dtypes do not fit."""
    weight, bias, *given = autocast(weight, bias, *layer_states(states))
    check_logits(given, logits, mask)
    check_linear(given[:1], weight, bias)
    if not use_triton(given[0], logits, weight, bias):
        return mix_mapper_reference(given, logits, mask, weight, bias)
    shape = given[0].shape
    if shape[:-1].numel() > FUSED_TOKENS:
        fused, weights = layer_mix(given, logits, mask)
        return linear(fused, weight, bias), weights
    mapped, weights = mix_mapper_op(
        [rows(state) for state in given], flat_logits(logits), None if mask is None else mask.reshape(-1).float(),
        weight.contiguous(), bias,
    )  # fmt: skip
    return mapped.view(*shape[:-1], len(weight)), weights.view(*shape[:-1], len(given)).to(mapped.dtype)


@triton.jit
def mix_mapper_kernel(
    states, logits, mask, weight, bias, mapped, weights, tokens, width, columns, logits_stride,
    HAS_MASK: tl.constexpr, HAS_BIAS: tl.constexpr, LAYERS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One tile [BLOCK_T, BLOCK_E] of y. logits_stride: L, or 0 when all tokens share one row."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = row < tokens
    known = tl.minimum(row, tokens - 1).to(tl.int64)  # rows behind the end compute the last one and store nothing
    at = known * logits_stride
    top, scale = softmax_scale(logits, at, LAYERS, BLOCK_L)
    if HAS_MASK:
        scale *= tl.load(mask + known)
    if tl.program_id(1) == 0:
        for layer in tl.static_range(LAYERS):
            share = tl.exp(tl.load(logits + at + layer) - top) * scale
            tl.store(weights + row.to(tl.int64) * LAYERS + layer, share, mask=valid)
    total = tl.zeros([BLOCK_T, BLOCK_E], dtype=tl.float32)
    for begin in range(0, width, BLOCK_D):
        inner = begin + tl.arange(0, BLOCK_D)
        real = inner < width
        offset = known[:, None] * width + inner[None, :]
        mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
        for layer in tl.static_range(LAYERS):
            share = tl.exp(tl.load(logits + at + layer) - top) * scale
            mixed += share[:, None] * tl.load(states[layer] + offset, mask=real[None, :], other=0.0).to(tl.float32)
        offset = column.to(tl.int64)[None, :] * width + inner[:, None]
        part = tl.load(weight + offset, mask=(column < columns)[None, :] & real[:, None], other=0.0)
        total = tl.dot(mixed.to(weight.dtype.element_ty), part, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    offset = row.to(tl.int64)[:, None] * columns + column[None, :]
    tl.store(mapped + offset, total.to(mapped.dtype.element_ty), mask=valid[:, None] & (column < columns)[None, :])


def _map(
    states: list[Tensor], logits: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    mapped, weights = _map_shapes(states, logits, mask, weight, bias)
    (tokens, width), columns = states[0].shape, weight.shape[0]
    if tokens == 0:
        return mapped, weights
    block_t, block_e = 16, 128
    with on_device(mapped):
        mix_mapper_kernel[(triton.cdiv(tokens, block_t), triton.cdiv(columns, block_e))](
            tuple(states), logits, mask, weight, bias, mapped, weights, tokens, width, columns,
            0 if logits.dim() == 1 else len(states), HAS_MASK=mask is not None, HAS_BIAS=bias is not None,
            LAYERS=len(states), PRECISION=dot_precision(weight), BLOCK_L=power_of_two(len(states)), BLOCK_T=block_t,
            BLOCK_E=block_e, BLOCK_D=128 // weight.element_size(), num_stages=STAGES,
        )  # fmt: skip
    return mapped, weights


def _map_shapes(
    states: list[Tensor], logits: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    tokens = states[0].shape[0]
    weights = weight.new_empty(tokens, len(states), dtype=torch.float32)
    return weight.new_empty(tokens, weight.shape[0]), weights


mix_mapper_op: Any = torch.library.custom_op(
    "lrengine::mix_mapper", _map, mutates_args=(),
    schema="(Tensor[] states, Tensor logits, Tensor? mask, Tensor weight, Tensor? bias) -> (Tensor, Tensor)",
)  # fmt: skip
mix_mapper_op.register_fake(_map_shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    states, logits, mask, weight, bias = inputs
    ctx.save_for_backward(*states, logits, mask, weight, output[1])
    ctx.has_bias = bias is not None


def _differentiate(ctx: Any, grad_mapped: Tensor, grad_weights: Tensor) -> tuple[Any, ...]:
    *states, logits, mask, weight, weights = ctx.saved_tensors
    of_states, of_logits, _, of_weight, of_bias = ctx.needs_input_grad
    grad_weight = grad_mapped.t() @ mix_op(states, logits, mask)[0] if of_weight else None
    grad_bias = grad_mapped.sum(0) if of_bias else None
    grad_states, grad_logits = mix_gradients(
        states, logits, mask, weights, grad_mapped @ weight, grad_weights, any(of_states)
    )
    return grad_states, grad_logits, None, grad_weight, grad_bias


mix_mapper_op.register_autograd(_differentiate, setup_context=_save)
