"""Layer mix: f_t = m_t sum_l w_tl h_tl with w = softmax(logits) over the L layers (MODELS.md, B: global, transformer).

Logits are [L], one weighting for all tokens, or [T, L]. Everything is accumulated in float32.

Forward, per call:  reads L T D b (the states, b bytes a value) + 4 T L (logits per token), writes T D b + 4 T L.
Backward:           reads L T D b + T D b, writes 4 T L and, if the encoder is trained, L T D b.
Floor: those bytes at the card's copy bandwidth; one multiply-add a value is far below what the bytes cost.
How the states are passed: states.py. Gradients: dw_tl = m_t g_t . h_tl, dh_tl = m_t w_tl g_t, then the softmax's.
"""

# A Triton kernel's parameters have no Python types.
# mypy: disallow-untyped-defs=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrengine.kernels.dispatch import on_device, power_of_two, row_tile, use_triton
from lrengine.kernels.language import tl, triton
from lrengine.kernels.states import layer_states, rows


def layer_mix_reference(states: Sequence[Tensor], logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """`layer_mix` in PyTorch; weights and sum in the states' dtype."""
    dtype = states[0].dtype
    weights = logits.softmax(-1).to(dtype).expand(*states[0].shape[:-1], -1)
    if mask is not None:
        weights = weights * mask.unsqueeze(-1).to(dtype)
    fused = weights[..., :1] * states[0]
    for index in range(1, len(states)):  # one layer at a time: a stack would copy all L states
        fused = fused + weights[..., index : index + 1] * states[index]
    return fused, weights


def layer_mix(states: Sequence[Tensor] | Tensor, logits: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fused states [.., D] and the weights [.., L] that made them, both in the states' dtype, zeros where mask is 0.

    states: L tensors [.., D], or one [L, .., D]; logits [L] or [.., L]; mask [..], 1 marks a token.
    Raises ValueError if the shapes do not fit."""
    given = layer_states(states)
    check_logits(given, logits, mask)
    if not use_triton(given[0], logits):
        return layer_mix_reference(given, logits, mask)
    shape = given[0].shape
    fused, weights = mix_op(
        [rows(state) for state in given], flat_logits(logits), None if mask is None else mask.reshape(-1).float()
    )
    return fused.view(shape), weights.view(*shape[:-1], len(given)).to(fused.dtype)


def check_logits(states: list[Tensor], logits: Tensor, mask: Tensor | None) -> None:
    """Raises ValueError if logits or mask do not fit the states."""
    shape, layers = states[0].shape[:-1], len(states)
    if logits.shape not in ((layers,), (*shape, layers)):
        raise ValueError(f"logits are {list(logits.shape)}, not [{layers}] or {[*shape, layers]}")
    if mask is not None and mask.shape != shape:
        raise ValueError(f"the mask is {list(mask.shape)}, the states are {list(states[0].shape)}")


def flat_logits(logits: Tensor) -> Tensor:
    """[L] or [T, L], float32: a learned temperature of 1e5 is too much for half precision."""
    return logits.float().contiguous() if logits.dim() == 1 else rows(logits.float())


@triton.jit
def softmax_scale(logits, at, LAYERS: tl.constexpr, BLOCK_L: tl.constexpr):
    """Of the rows of logits that start at `at`: the maxima, and 1 / sum(exp(logit - maximum))."""
    layers = tl.arange(0, BLOCK_L)
    tile = tl.load(logits + at[:, None] + layers[None, :], mask=(layers < LAYERS)[None, :], other=float("-inf"))
    top = tl.max(tile, axis=1)
    return top, 1.0 / tl.sum(tl.exp(tile - top[:, None]), axis=1)


@triton.jit
def mix_forward_kernel(
    states, logits, mask, fused, weights, tokens, width, logits_stride,
    HAS_MASK: tl.constexpr, LAYERS: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One tile [BLOCK_T, BLOCK_D] of the result. logits_stride: L, or 0 when all tokens share one row."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (row < tokens)[:, None] & (column < width)[None, :]
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    known = tl.minimum(row, tokens - 1).to(tl.int64)  # rows behind the end compute the last one and store nothing
    at = known * logits_stride
    top, scale = softmax_scale(logits, at, LAYERS, BLOCK_L)
    if HAS_MASK:
        scale *= tl.load(mask + known)
    total = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for layer in tl.static_range(LAYERS):
        share = tl.exp(tl.load(logits + at + layer) - top) * scale
        state = tl.load(states[layer] + offset, mask=inside, other=0.0).to(tl.float32)
        total += share[:, None] * state
        if tl.program_id(1) == 0:
            tl.store(weights + row.to(tl.int64) * LAYERS + layer, share, mask=row < tokens)
    tl.store(fused + offset, total.to(fused.dtype.element_ty), mask=inside)


@triton.jit
def mix_backward_kernel(
    states, weights, grad_fused, grad_states, grad_weights, tokens, width,
    TRAIN_STATES: tl.constexpr, LAYERS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """BLOCK_T whole rows: g . h_l for every layer, and if wanted the gradient of every state."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    valid = row < tokens
    inside = valid[:, None] & (column < width)[None, :]
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    at = row.to(tl.int64) * LAYERS
    gradient = tl.load(grad_fused + offset, mask=inside, other=0.0).to(tl.float32)
    for layer in tl.static_range(LAYERS):
        state = tl.load(states[layer] + offset, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad_weights + at + layer, tl.sum(gradient * state, axis=1), mask=valid)
        if TRAIN_STATES:
            share = tl.load(weights + at + layer, mask=valid, other=0.0)
            change = share[:, None] * gradient
            tl.store(grad_states[layer] + offset, change.to(grad_states[layer].dtype.element_ty), mask=inside)


def _mix(states: list[Tensor], logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    fused, weights = _mix_shapes(states, logits, mask)
    tokens, width = states[0].shape
    if tokens == 0:
        return fused, weights
    # 8 values a thread: one 16-byte load in half precision; few tokens make more and smaller programs
    block_t, columns, warps = (4, 256, 4) if tokens > 512 else (1, 512, 2)
    block_d = min(power_of_two(width), columns)
    grid = (triton.cdiv(tokens, block_t), triton.cdiv(width, block_d))
    with on_device(fused):
        mix_forward_kernel[grid](
            tuple(states), logits, mask, fused, weights, tokens, width, 0 if logits.dim() == 1 else len(states),
            HAS_MASK=mask is not None, LAYERS=len(states), BLOCK_L=power_of_two(len(states)), BLOCK_T=block_t,
            BLOCK_D=block_d, num_warps=warps,
        )  # fmt: skip
    return fused, weights


def _mix_shapes(states: list[Tensor], logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    weights = states[0].new_empty(states[0].shape[0], len(states), dtype=torch.float32)
    return torch.empty_like(states[0]), weights


def _mix_backward(
    states: list[Tensor], weights: Tensor, grad_fused: Tensor, train_states: bool
) -> tuple[list[Tensor], Tensor]:
    grad_states, grad_weights = _mix_backward_shapes(states, weights, grad_fused, train_states)
    tokens, width = states[0].shape
    if tokens == 0:
        return grad_states, grad_weights
    block_t, block_d, warps = row_tile(tokens, width)
    with on_device(weights):
        mix_backward_kernel[(triton.cdiv(tokens, block_t),)](
            tuple(states), weights, grad_fused.contiguous(), tuple(grad_states) or tuple(states), grad_weights,
            tokens, width, TRAIN_STATES=train_states, LAYERS=len(states), BLOCK_T=block_t, BLOCK_D=block_d,
            num_warps=warps,
        )  # fmt: skip
    return grad_states, grad_weights


def _mix_backward_shapes(
    states: list[Tensor], weights: Tensor, grad_fused: Tensor, train_states: bool
) -> tuple[list[Tensor], Tensor]:
    return [torch.empty_like(state) for state in states] if train_states else [], torch.empty_like(weights)


mix_op: Any = torch.library.custom_op(
    "lrengine::layer_mix",
    _mix,
    mutates_args=(),
    schema="(Tensor[] states, Tensor logits, Tensor? mask) -> (Tensor, Tensor)",
)
mix_op.register_fake(_mix_shapes)
mix_backward_op: Any = torch.library.custom_op(
    "lrengine::layer_mix_backward", _mix_backward, mutates_args=(),
    schema="(Tensor[] states, Tensor weights, Tensor grad_fused, bool train_states) -> (Tensor[], Tensor)",
)  # fmt: skip
mix_backward_op.register_fake(_mix_backward_shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    states, logits, mask = inputs
    ctx.save_for_backward(*states, logits, mask, output[1])


def _differentiate(ctx: Any, grad_fused: Tensor, grad_weights: Tensor) -> tuple[Any, ...]:
    *states, logits, mask, weights = ctx.saved_tensors
    train_states = any(ctx.needs_input_grad[0])
    return (*mix_gradients(states, logits, mask, weights, grad_fused, grad_weights, train_states), None)


def mix_gradients(
    states: list[Tensor], logits: Tensor, mask: Tensor | None, weights: Tensor, grad_fused: Tensor,
    grad_weights: Tensor, train_states: bool,
) -> tuple[list[Tensor] | list[None], Tensor]:  # fmt: skip
    """Gradients of the states (or L times None) and of the logits, from those of the fused states and of the weights
    that the mix returned (after the mask)."""
    grad_states, products = mix_backward_op(states, weights, grad_fused, train_states)
    products = products + grad_weights
    if mask is not None:
        products = products * mask[:, None]
    if logits.dim() == 1:
        products = products.sum(0)
    softmax = logits.softmax(-1)
    grad_logits = softmax * (products - (softmax * products).sum(-1, keepdim=True))
    return grad_states if train_states else [None] * len(states), grad_logits


mix_op.register_autograd(_differentiate, setup_context=_save)
