"""The layer mix: the kernel is the float64 reference, for any number of layers, any width, any form of the states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernels_support import (
    DEVICE,
    DTYPES,
    TOLERANCES,
    Draw,
    assert_compiles,
    assert_finite_differences,
    assert_near,
    assert_same,
    kernels_run,
    strided,
)
from torch import Tensor, nn

from lrengine.kernels.layer_mix import layer_mix, layer_mix_reference, mix_op

__all__ = ["kernels_run"]

# L, T, D; many tokens share programs, and the last program has some too few
SIZES = [(1, 1, 1), (1, 5, 7), (2, 1, 64), (2, 515, 5), (5, 9, 300), (12, 3, 33), (24, 2, 768), (49, 3, 17)]


@pytest.mark.parametrize("shared", [True, False], ids=["one row of logits", "logits per token"])
@pytest.mark.parametrize(("layers", "tokens", "width"), SIZES)
def test_it_is_the_reference(layers: int, tokens: int, width: int, shared: bool) -> None:
    draw = Draw()
    logits = draw.normal(layers) if shared else draw.normal(tokens, layers)
    mask = draw.mask(tokens)
    assert_same(
        lambda logits, *states: layer_mix(states, logits, mask),
        lambda logits, *states: layer_mix_reference(states, logits, mask),
        [logits, *draw.states(layers, tokens, width)],
        TOLERANCES[torch.float32],
    )


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("shared", [True, False], ids=["one row of logits", "logits per token"])
def test_half_precision_states_with_logits_in_float32(dtype: torch.dtype, shared: bool) -> None:
    draw = Draw(dtype)
    logits = Draw(seed=1).normal(*(() if shared else (2, 3)), 6, scale=2.0)
    assert_same(
        lambda logits, *states: layer_mix(states, logits),
        lambda logits, *states: layer_mix_reference(states, logits, None),
        [logits, *draw.states(6, 2, 3, 40)],
        TOLERANCES[dtype],
    )


def test_the_sum_is_accumulated_in_float32() -> None:
    """2048 + 47 times 1 in bfloat16 would stay 2048."""
    states = [torch.full((1, 4), value, dtype=torch.bfloat16, device=DEVICE) for value in [2048.0] + 47 * [1.0]]
    fused, _ = layer_mix(states, torch.zeros(48, device=DEVICE))
    expected = torch.full((1, 4), 2095 / 48, device=DEVICE)
    torch.testing.assert_close(fused.float(), expected, rtol=8e-3, atol=0)  # the interpreter rounds down


def test_large_logits_do_not_overflow_and_padding_is_zeros() -> None:
    draw = Draw()
    states, mask = draw.states(3, 4, 10), torch.tensor([1, 0, 1, 0], device=DEVICE)
    fused, weights = layer_mix(states, torch.tensor([1e4, -1e4, 0.0], device=DEVICE), mask)
    assert_near(fused, states[0] * mask[:, None], 1e-6)
    assert weights.tolist() == [[float(kept), 0.0, 0.0] for kept in mask.tolist()]


def test_stacked_and_strided_states_are_the_same_states() -> None:
    draw = Draw()
    states, logits = draw.states(4, 2, 3, 10), draw.normal(2, 3, 4)
    expected, _ = layer_mix(states, logits)
    assert torch.equal(layer_mix(torch.stack(states), logits)[0], expected)
    assert torch.equal(layer_mix([strided(state) for state in states], strided(logits))[0], expected)
    assert torch.equal(
        layer_mix([s.transpose(0, 1) for s in states], logits.transpose(0, 1))[0].transpose(0, 1), expected
    )


def test_a_stack_takes_its_gradient_whole() -> None:
    draw = Draw()
    assert_same(
        lambda stack, logits: layer_mix(stack, logits),
        lambda stack, logits: layer_mix_reference(list(stack), logits, None),
        [draw.normal(3, 4, 6), draw.normal(3)],
        TOLERANCES[torch.float32],
    )


def test_frozen_states_get_no_gradient() -> None:
    draw = Draw()
    states, logits = draw.states(3, 4, 8), draw.normal(3).requires_grad_()
    layer_mix(states, logits)[0].sum().backward()
    assert logits.grad is not None and all(state.grad is None for state in states)


def test_gradients_by_finite_differences() -> None:
    draw = Draw()
    target = draw.normal(3, 5)
    assert_finite_differences(
        lambda logits, *states: (layer_mix(states, logits)[0] * target).sum(), [draw.normal(2), *draw.states(2, 3, 5)]
    )


def test_no_tokens() -> None:
    fused, weights = layer_mix(Draw().states(2, 0, 8), torch.zeros(2, device=DEVICE))
    assert fused.shape == (0, 8) and weights.shape == (0, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_the_op_keeps_torchs_contract(shared: bool) -> None:
    draw = Draw()
    logits = (draw.normal(3) if shared else draw.normal(4, 3)).requires_grad_()
    states = [state.requires_grad_() for state in draw.states(3, 4, 8)]
    torch.library.opcheck(mix_op, (states, logits, torch.ones(4, device=DEVICE)))


class Mixing(nn.Module):
    def forward(self, logits: Tensor, first: Tensor, second: Tensor) -> Any:
        return layer_mix((first, second), logits.sin())[0]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(backend: str) -> None:
    draw = Draw()
    assert_compiles(Mixing(), [draw.normal(2), *draw.states(2, 5, 9)], backend)


def test_exported_as_one_node() -> None:
    draw = Draw()
    inputs = (draw.normal(2), *draw.states(2, 5, 9))
    program = torch.export.export(Mixing(), inputs)
    assert [node.target for node in program.graph.nodes].count(torch.ops.lrengine.layer_mix.default) == 1
    torch.testing.assert_close(program.module()(*inputs), Mixing()(*inputs))


@pytest.mark.parametrize(
    ("states", "logits", "mask", "message"),
    [
        ([], (2,), None, "no layer states"),
        ([(4, 8), (4, 9)], (2,), None, r"layer state 1 is \[4, 9\], the first is \[4, 8\]"),
        ([(4, 8), (4, 8)], (3,), None, r"logits are \[3\], not \[2\] or \[4, 2\]"),
        ([(4, 8), (4, 8)], (5, 2), None, r"logits are \[5, 2\]"),
        ([(4, 8), (4, 8)], (2,), (3,), r"the mask is \[3\], the states are \[4, 8\]"),
    ],
)
def test_wrong_shapes_are_named(states: Any, logits: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_mix(
            [torch.zeros(shape, device=DEVICE) for shape in states],
            torch.zeros(logits, device=DEVICE),
            None if mask is None else torch.ones(mask, device=DEVICE),
        )


def test_wrong_dtypes_are_named() -> None:
    single = torch.zeros(2, 3, device=DEVICE)
    with pytest.raises(ValueError, match="layer state 1 is torch.float16"):
        layer_mix([single, single.half()], torch.zeros(2, device=DEVICE))
    with pytest.raises(ValueError, match="not torch.float64"):
        layer_mix([single.double()], torch.zeros(1, device=DEVICE))
