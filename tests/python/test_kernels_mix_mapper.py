"""Mix and mapper in one launch: the same as the mix, then the linear."""

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
    assert_same,
    kernels_run,
    strided,
)
from torch import Tensor, nn

from lrengine.kernels import mix_mapper as module
from lrengine.kernels.mix_mapper import mix_mapper, mix_mapper_op, mix_mapper_reference

__all__ = ["kernels_run"]


def check(layers: int, shape: tuple[int, ...], widths: tuple[int, int], dtype: torch.dtype, shared: bool) -> None:
    draw = Draw(dtype)
    logits = Draw(seed=5).normal(*(() if shared else shape), layers)
    mask = None if shared else draw.mask(*shape)
    weight, bias = draw.normal(widths[1], widths[0], scale=widths[0] ** -0.5), draw.normal(widths[1])
    assert_same(
        lambda logits, weight, bias, *states: mix_mapper(states, logits, mask, weight, bias),
        lambda logits, weight, bias, *states: mix_mapper_reference(states, logits, mask, weight, bias),
        [logits, weight, bias, *draw.states(layers, *shape, widths[0])],
        TOLERANCES[dtype],
    )


@pytest.mark.parametrize("shared", [True, False], ids=["one row of logits", "logits per token"])
@pytest.mark.parametrize(
    ("layers", "tokens", "widths"),
    [(1, 1, (1, 1)), (2, 5, (7, 130)), (12, 17, (33, 40)), (24, 2, (100, 129)), (49, 3, (17, 9))],
)
def test_it_is_the_reference(layers: int, tokens: int, widths: tuple[int, int], shared: bool) -> None:
    check(layers, (tokens,), widths, torch.float32, shared)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    check(6, (2, 3), (72, 40), dtype, False)


def test_many_tokens_take_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUSED_TOKENS", 4)
    monkeypatch.setattr(module, "mix_mapper_op", None)
    check(3, (5,), (12, 10), torch.float32, False)


def test_strided_inputs_are_the_same_inputs() -> None:
    draw = Draw()
    states, logits, weight = draw.states(3, 4, 8), draw.normal(4, 3), draw.normal(6, 8)
    expected, _ = mix_mapper(states, logits, None, weight)
    found, _ = mix_mapper([strided(state) for state in states], strided(logits), None, strided(weight))
    assert torch.equal(found, expected)


def test_what_is_frozen_gets_no_gradient() -> None:
    draw = Draw()
    states, logits, weight = draw.states(3, 4, 8), draw.normal(3).requires_grad_(), draw.normal(6, 8)
    mix_mapper(states, logits, None, weight)[0].sum().backward()
    assert logits.grad is not None and weight.grad is None and all(state.grad is None for state in states)


def test_gradients_by_finite_differences() -> None:
    draw = Draw()
    target = draw.normal(3, 6)
    assert_finite_differences(
        lambda logits, weight, *states: (mix_mapper(states, logits, None, weight)[0] * target).sum(),
        [draw.normal(2), draw.normal(6, 5), *draw.states(2, 3, 5)],
    )


def test_the_op_keeps_torchs_contract() -> None:
    draw = Draw()
    states = [state.requires_grad_() for state in draw.states(3, 4, 8)]
    operands = (draw.normal(4, 3).requires_grad_(), torch.ones(4, device=DEVICE), draw.normal(6, 8).requires_grad_())
    torch.library.opcheck(mix_mapper_op, (states, *operands, draw.normal(6).requires_grad_()))


class Mapping(nn.Module):
    def forward(self, logits: Tensor, weight: Tensor, bias: Tensor, first: Tensor, second: Tensor) -> Any:
        return mix_mapper((first, second), logits.sin(), None, weight, bias)[0]


def operands() -> tuple[Tensor, ...]:
    draw = Draw()
    return draw.normal(2), draw.normal(6, 9), draw.normal(6), *draw.states(2, 5, 9)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(backend: str) -> None:
    assert_compiles(Mapping(), operands(), backend)


def test_exported_as_one_node() -> None:
    program = torch.export.export(Mapping(), operands())
    assert [node.target for node in program.graph.nodes].count(torch.ops.lrengine.mix_mapper.default) == 1
    torch.testing.assert_close(program.module()(*operands()), Mapping()(*operands()))


def test_wrong_shapes_and_dtypes_are_named() -> None:
    draw = Draw()
    with pytest.raises(ValueError, match=r"input 0 is \[4, 8\], the weight is \[6, 9\]"):
        mix_mapper(draw.states(2, 4, 8), draw.normal(2), None, draw.normal(6, 9))
    with pytest.raises(ValueError, match="input 0 is torch.float32, the weight is torch.float16"):
        mix_mapper(draw.states(2, 4, 8), draw.normal(2), None, draw.normal(6, 8).half())
    with pytest.raises(ValueError, match=r"logits are \[3\]"):
        mix_mapper(draw.states(2, 4, 8), draw.normal(3), None, draw.normal(6, 8))
