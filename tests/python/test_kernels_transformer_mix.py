"""The transformer mixer's attention: the one-pass kernel is the float64 reference, with and without dropout."""

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

from lrengine.kernels.transformer_mix import attend_layers, attend_layers_reference, attend_op

__all__ = ["kernels_run"]

# L, T, D; many tokens share programs, and the last program has some too few
SIZES = [(1, 1, 1), (1, 5, 7), (2, 1, 64), (2, 515, 5), (5, 9, 300), (12, 3, 33), (24, 2, 768), (49, 3, 17)]


def parameters(draw: Draw, layers: int, width: int) -> list[Tensor]:
    """key, positions, cls; the scale keeps the scores' softmax from being one-hot."""
    return [draw.normal(width, scale=width**-0.5), draw.normal(layers, width), draw.normal(width)]


def draw_keep(layers: int, *shape: int, rate: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return ((torch.rand(*shape, 1 + layers, generator=generator) >= rate) / (1 - rate)).to(DEVICE)


def check(layers: int, shape: tuple[int, ...], width: int, dtype: torch.dtype, keep: Tensor | None) -> None:
    draw = Draw(dtype)
    assert_same(
        lambda key, positions, cls, *states: attend_layers(states, key, positions, cls, keep),
        lambda key, positions, cls, *states: attend_layers_reference(states, key, positions, cls, keep),
        [*parameters(draw, layers, width), *draw.states(layers, *shape, width)],
        TOLERANCES[dtype],
    )


@pytest.mark.parametrize("dropped", [False, True], ids=["no dropout", "dropout"])
@pytest.mark.parametrize(("layers", "tokens", "width"), SIZES)
def test_it_is_the_reference(layers: int, tokens: int, width: int, dropped: bool) -> None:
    check(layers, (tokens,), width, torch.float32, draw_keep(layers, tokens) if dropped else None)


@pytest.mark.parametrize("dropped", [False, True], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision(dtype: torch.dtype, dropped: bool) -> None:
    check(6, (2, 3), 40, dtype, draw_keep(6, 2, 3) if dropped else None)


def test_float32_parameters_over_half_precision_states() -> None:
    draw = Draw(torch.bfloat16)
    assert_same(
        lambda key, positions, cls, *states: attend_layers(states, key, positions, cls),
        lambda key, positions, cls, *states: attend_layers_reference(states, key, positions, cls, None),
        [*parameters(Draw(seed=3), 4, 24), *draw.states(4, 5, 24)],
        1e-2,  # only the states' gradients are rounded
    )


def test_large_scores_do_not_overflow() -> None:
    """The online softmax has to rescale up and down: scores rise to 1e4 and fall again."""
    states = [torch.full((1, 8), value, device=DEVICE) for value in (10.0, 1e4, -1e4)]
    zeros, key = torch.zeros(3, 8, device=DEVICE), torch.full((8,), 0.125, device=DEVICE)
    mixed, total = attend_layers(states, key, zeros, zeros[0])
    assert_near(mixed, states[1], 1e-6)
    assert_near(total, torch.ones(1, 1, device=DEVICE), 1e-6)


def test_stacked_and_strided_inputs_are_the_same_inputs() -> None:
    draw = Draw()
    states, (key, positions, cls) = draw.states(4, 2, 3, 10), parameters(draw, 4, 10)
    expected = attend_layers(states, key, positions, cls)[0]
    assert torch.equal(attend_layers(torch.stack(states), key, positions, cls)[0], expected)
    again = attend_layers([strided(s) for s in states], strided(key), strided(positions), strided(cls))[0]
    assert torch.equal(again, expected)


def test_frozen_states_get_no_gradient() -> None:
    draw = Draw()
    states, (key, positions, cls) = draw.states(3, 4, 8), parameters(draw, 3, 8)
    attend_layers(states, key.requires_grad_(), positions, cls)[0].sum().backward()
    assert key.grad is not None and all(state.grad is None for state in states)


def test_gradients_by_finite_differences() -> None:
    draw = Draw()
    target, keep = draw.normal(3, 5), draw_keep(2, 3)

    def scalar(key: Tensor, positions: Tensor, cls: Tensor, *states: Tensor) -> Tensor:
        mixed, total = attend_layers(states, key, positions, cls, keep)
        return (mixed * target).sum() + total.sum()

    assert_finite_differences(scalar, [*parameters(draw, 2, 5), *draw.states(2, 3, 5)])


def test_no_tokens() -> None:
    draw = Draw()
    inputs = [tensor.requires_grad_() for tensor in parameters(draw, 2, 8)]
    mixed, total = attend_layers(draw.states(2, 0, 8), *inputs)
    assert mixed.shape == (0, 8) and total.shape == (0, 1)
    assert all(gradient.abs().sum() == 0 for gradient in torch.autograd.grad(mixed.sum(), inputs))


def test_the_op_keeps_torchs_contract() -> None:
    draw = Draw()
    inputs = [tensor.requires_grad_() for tensor in parameters(draw, 3, 8)]
    states = [state.requires_grad_() for state in draw.states(3, 4, 8)]
    torch.library.opcheck(attend_op, (states, *inputs, draw_keep(3, 4)))


class Attending(nn.Module):
    def forward(self, key: Tensor, positions: Tensor, cls: Tensor, first: Tensor, second: Tensor) -> Any:
        return attend_layers((first, second), key.sin(), positions, cls)[0]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(backend: str) -> None:
    draw = Draw()
    assert_compiles(Attending(), [*parameters(draw, 2, 9), *draw.states(2, 5, 9)], backend)


def test_exported_as_one_node() -> None:
    draw = Draw()
    inputs = (*parameters(draw, 2, 9), *draw.states(2, 5, 9))
    program = torch.export.export(Attending(), inputs)
    assert [node.target for node in program.graph.nodes].count(torch.ops.lrengine.attend_layers.default) == 1
    torch.testing.assert_close(program.module()(*inputs), Attending()(*inputs))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": (9,)}, r"key is \[9\], not \[8\]"),
        ({"positions": (3, 8)}, r"positions is \[3, 8\], not \[2, 8\]"),
        ({"cls": (1, 8)}, r"cls is \[1, 8\], not \[8\]"),
        ({"keep": (4, 2)}, r"keep is \[4, 2\], not \[4, 3\]"),
    ],
)
def test_wrong_shapes_are_named(changed: dict[str, Any], message: str) -> None:
    shapes = {"key": (8,), "positions": (2, 8), "cls": (8,), **changed}
    with pytest.raises(ValueError, match=message):
        attend_layers(
            Draw().states(2, 4, 8), **{name: torch.zeros(shape, device=DEVICE) for name, shape in shapes.items()}
        )
