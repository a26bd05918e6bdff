"""The transformer mixer's attention by the exact shortcut (MODELS.md, B), in one pass over the layer states.

Per token, with the constant key k [D] of position 0, x_0 = c and x_l = h_l + p_l (p [L, D] learned):
    score_l = k . x_l,  alpha = softmax(score) over 1 + L,  a_l = keep_l alpha_l  (keep: attention dropout, else 1)
    z = sum_l a_l x_l  [D],  total = sum_l a_l  (1 without dropout: what the value bias is multiplied with)
The softmax is taken online: a state is read once, for its score and for z.

Forward:  reads L T D b (the states, b bytes a value) + 4 T (1 + L) keep if there is dropout,
          writes T D b (z) + 4 T (1 + L) scores, for the backward pass. k, c and p stay in the caches.
Backward: reads L T D b + 2 T D b (z and its gradient), writes L T D b only if the encoder is trained, and 4 D a
          program (its part of dk).
Floor: those bytes at the card's copy bandwidth; the published form's 3 (1 + L) products [D, D] a token are gone.

Gradients, with g = dz and delta = g . z + dtotal total = sum_l a_l da_l (so that one pass is enough):
    da_l = g . x_l + dtotal,  ds_l = alpha_l (keep_l da_l - delta),  dx_l = a_l g + ds_l k,  dk = sum_tl ds_tl x_tl
"""

# A Triton kernel's parameters have no Python types.
# mypy: disallow-untyped-defs=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrengine.kernels.dispatch import on_device, row_tile, use_triton
from lrengine.kernels.language import tl, triton
from lrengine.kernels.states import layer_states, rows


def attend_layers_reference(
    states: Sequence[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`attend_layers` in PyTorch, with the softmax in float32 or better."""
    states = [state.to(cls.dtype) for state in states]
    own = positions @ key  # [L]
    scores = [(cls @ key).expand(states[0].shape[:-1])]
    scores += [state @ key + own[index] for index, state in enumerate(states)]
    stacked = torch.stack(scores, dim=-1)
    alpha = (stacked if stacked.dtype == torch.float64 else stacked.float()).softmax(-1).to(key.dtype)
    if keep is not None:
        alpha = alpha * keep
    mixed = alpha @ torch.cat((cls[None], positions))
    for index, state in enumerate(states, start=1):
        mixed = mixed + alpha[..., index : index + 1] * state
    return mixed, alpha.sum(-1, keepdim=True)


def attend_layers(
    states: Sequence[Tensor] | Tensor, key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """z [.., D] and sum_l a_l [.., 1], both in the dtype of cls.

    states: L tensors [.., D], or one [L, .., D]; key, cls [D]; positions [L, D]; keep [.., 1 + L]: dropout's factors,
    0 or 1 / (1 - p), drawn by the caller (so that kernel and reference drop the same). Raises ValueError if the shapes
    do not fit."""
    given = layer_states(states)
    _check(given, key, positions, cls, keep)
    if not use_triton(given[0], key, positions, cls):
        return attend_layers_reference(given, key, positions, cls, keep)
    shape = given[0].shape
    mixed, total, _, _ = attend_op(
        [rows(state) for state in given], key.contiguous(), positions.contiguous(), cls.contiguous(),
        None if keep is None else rows(keep.float()),
    )  # fmt: skip
    return mixed.view(shape), total.view(*shape[:-1], 1).to(mixed.dtype)


def _check(states: list[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None) -> None:
    layers, width = len(states), states[0].shape[-1]
    for name, tensor, shape in (
        ("key", key, [width]),
        ("positions", positions, [layers, width]),
        ("cls", cls, [width]),
    ):
        if list(tensor.shape) != shape:
            raise ValueError(f"{name} is {list(tensor.shape)}, not {shape}")
    expected = [*states[0].shape[:-1], 1 + layers]
    if keep is not None and list(keep.shape) != expected:
        raise ValueError(f"keep is {list(keep.shape)}, not {expected}")


@triton.jit
def attend_forward_kernel(
    states, key, positions, cls, keep, mixed, total, scores, log_sums, tokens, width,
    HAS_KEEP: tl.constexpr, LAYERS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """BLOCK_T whole tokens; the weighted sums are rescaled whenever a larger score turns up."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    valid = row < tokens
    real = column < width
    inside = valid[:, None] & real[None, :]
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    at = row.to(tl.int64) * (LAYERS + 1)
    k = tl.load(key + column, mask=real, other=0.0).to(tl.float32)
    first = tl.load(cls + column, mask=real, other=0.0).to(tl.float32)
    top = tl.zeros([BLOCK_T], dtype=tl.float32) + tl.sum(k * first, axis=0)
    tl.store(scores + at, top, mask=valid)
    denominator = tl.full([BLOCK_T], 1.0, dtype=tl.float32)
    kept = tl.full([BLOCK_T], 1.0, dtype=tl.float32)
    if HAS_KEEP:
        kept = tl.load(keep + at, mask=valid, other=0.0)
    shares = kept
    gathered = kept[:, None] * first[None, :]
    for layer in tl.static_range(LAYERS):
        x = tl.load(states[layer] + offset, mask=inside, other=0.0).to(tl.float32)
        x += tl.load(positions + layer * width + column, mask=real, other=0.0).to(tl.float32)[None, :]
        score = tl.sum(x * k[None, :], axis=1)
        tl.store(scores + at + 1 + layer, score, mask=valid)
        higher = tl.maximum(top, score)
        shrink = tl.exp(top - higher)
        share = tl.exp(score - higher)
        top = higher
        denominator = denominator * shrink + share
        if HAS_KEEP:
            share *= tl.load(keep + at + 1 + layer, mask=valid, other=0.0)
        shares = shares * shrink + share
        gathered = gathered * shrink[:, None] + share[:, None] * x
    tl.store(mixed + offset, (gathered / denominator[:, None]).to(mixed.dtype.element_ty), mask=inside)
    tl.store(total + row, shares / denominator, mask=valid)
    tl.store(log_sums + row, top + tl.log(denominator), mask=valid)


@triton.jit
def attend_backward_kernel(
    states, key, positions, cls, keep, mixed, total, scores, log_sums, grad_mixed, grad_total,
    grad_states, grad_key, grad_scores, shares, tokens, width,
    HAS_KEEP: tl.constexpr, TRAIN_STATES: tl.constexpr, LAYERS: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):  # fmt: skip
    """BLOCK_T whole tokens. Per token: ds and a [1 + L]; per program: its part of dk, row program_id of grad_key."""
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    valid = row < tokens
    real = column < width
    inside = valid[:, None] & real[None, :]
    offset = row.to(tl.int64)[:, None] * width + column[None, :]
    at = row.to(tl.int64) * (LAYERS + 1)
    k = tl.load(key + column, mask=real, other=0.0).to(tl.float32)
    gradient = tl.load(grad_mixed + offset, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(mixed + offset, mask=inside, other=0.0).to(tl.float32)
    of_total = tl.load(grad_total + row, mask=valid, other=0.0)
    delta = tl.sum(gradient * z, axis=1) + of_total * tl.load(total + row, mask=valid, other=0.0)
    log_sum = tl.load(log_sums + row, mask=valid, other=0.0)
    of_key = tl.zeros([BLOCK_D], dtype=tl.float32)
    for layer in tl.static_range(LAYERS + 1):
        if layer == 0:
            x = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
            x += tl.load(cls + column, mask=real, other=0.0).to(tl.float32)[None, :]
        else:
            x = tl.load(states[layer - 1] + offset, mask=inside, other=0.0).to(tl.float32)
            x += tl.load(positions + (layer - 1) * width + column, mask=real, other=0.0).to(tl.float32)[None, :]
        # rows behind the end: their gradient is 0, so is ds, and they have no part in dk
        alpha = tl.exp(tl.load(scores + at + layer, mask=valid, other=0.0) - log_sum)
        of_alpha = tl.sum(gradient * x, axis=1) + of_total
        share = alpha
        if HAS_KEEP:
            kept = tl.load(keep + at + layer, mask=valid, other=0.0)
            of_alpha *= kept
            share *= kept
        of_score = alpha * (of_alpha - delta)
        of_key += tl.sum(of_score[:, None] * x, axis=0)
        tl.store(grad_scores + at + layer, of_score, mask=valid)
        tl.store(shares + at + layer, share, mask=valid)
        if TRAIN_STATES and layer > 0:
            change = share[:, None] * gradient + of_score[:, None] * k[None, :]
            out = grad_states[layer - 1]
            tl.store(out + offset, change.to(out.dtype.element_ty), mask=inside)
    tl.store(grad_key + tl.program_id(0) * width + column, of_key, mask=real)


def _attend(
    states: list[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mixed, total, scores, log_sums = _attend_shapes(states, key, positions, cls, keep)
    tokens, width = states[0].shape
    if tokens == 0:
        return mixed, total, scores, log_sums
    block_t, block_d, warps = row_tile(tokens, width)
    with on_device(key):
        attend_forward_kernel[(triton.cdiv(tokens, block_t),)](
            tuple(states), key, positions, cls, keep, mixed, total, scores, log_sums, tokens, width,
            HAS_KEEP=keep is not None, LAYERS=len(states), BLOCK_T=block_t, BLOCK_D=block_d, num_warps=warps,
        )  # fmt: skip
    return mixed, total, scores, log_sums


def _attend_shapes(
    states: list[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens = states[0].shape[0]
    return (
        torch.empty_like(states[0], dtype=cls.dtype),
        key.new_empty(tokens, dtype=torch.float32),
        key.new_empty(tokens, 1 + len(states), dtype=torch.float32),
        key.new_empty(tokens, dtype=torch.float32),
    )


def _attend_backward(
    states: list[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None, mixed: Tensor,
    total: Tensor, scores: Tensor, log_sums: Tensor, grad_mixed: Tensor, grad_total: Tensor, train_states: bool,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    tokens, width = states[0].shape
    block_t, block_d, warps = row_tile(tokens, width)
    programs = triton.cdiv(tokens, block_t)
    grad_states = [torch.empty_like(state) for state in states] if train_states else []
    grad_key = key.new_empty(programs, width, dtype=torch.float32)
    grad_scores, shares = torch.empty_like(scores), torch.empty_like(scores)
    if tokens > 0:
        with on_device(key):
            attend_backward_kernel[(programs,)](
                tuple(states), key, positions, cls, keep, mixed, total, scores, log_sums, grad_mixed.contiguous(),
                grad_total.contiguous(), tuple(grad_states) or tuple(states), grad_key, grad_scores, shares,
                tokens, width, HAS_KEEP=keep is not None, TRAIN_STATES=train_states, LAYERS=len(states),
                BLOCK_T=block_t, BLOCK_D=block_d, num_warps=warps,
            )  # fmt: skip
    return grad_states, grad_key.sum(0), grad_scores, shares


def _attend_backward_shapes(
    states: list[Tensor], key: Tensor, positions: Tensor, cls: Tensor, keep: Tensor | None, mixed: Tensor,
    total: Tensor, scores: Tensor, log_sums: Tensor, grad_mixed: Tensor, grad_total: Tensor, train_states: bool,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:  # fmt: skip
    grad_states = [torch.empty_like(state) for state in states] if train_states else []
    return (
        grad_states,
        key.new_empty(key.shape, dtype=torch.float32),
        torch.empty_like(scores),
        torch.empty_like(scores),
    )


_INPUTS = "Tensor[] states, Tensor key, Tensor positions, Tensor cls, Tensor? keep"
_SAVED = "Tensor mixed, Tensor total, Tensor scores, Tensor log_sums, Tensor grad_mixed, Tensor grad_total"
attend_op: Any = torch.library.custom_op(
    "lrengine::attend_layers", _attend, mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)"
)
attend_op.register_fake(_attend_shapes)
attend_backward_op: Any = torch.library.custom_op(
    "lrengine::attend_layers_backward", _attend_backward, mutates_args=(),
    schema=f"({_INPUTS}, {_SAVED}, bool train_states) -> (Tensor[], Tensor, Tensor, Tensor)",
)  # fmt: skip
attend_backward_op.register_fake(_attend_backward_shapes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    states, *others = inputs
    ctx.save_for_backward(*states, *others, *output)
    ctx.layers = len(states)
    ctx.mark_non_differentiable(*output[2:])


def _differentiate(ctx: Any, grad_mixed: Tensor, grad_total: Tensor, *_: Tensor) -> tuple[Any, ...]:
    """p and c are the same for all tokens: their gradients are products over the tokens."""
    saved = list(ctx.saved_tensors)
    states, others = saved[: ctx.layers], saved[ctx.layers :]
    key, positions, cls = others[:3]
    train_states = any(ctx.needs_input_grad[0])
    grad_states, grad_key, grad_scores, shares = attend_backward_op(
        states, *others, grad_mixed, grad_total, train_states
    )
    table = shares.t() @ grad_mixed.float() + grad_scores.sum(0)[:, None] * key.float()  # of [c, p_1 .. p_L]
    return (
        grad_states if train_states else [None] * ctx.layers,
        grad_key.to(key.dtype),
        table[1:].to(positions.dtype),
        table[0].to(cls.dtype),
        None,
    )


attend_op.register_autograd(_differentiate, setup_context=_save)
