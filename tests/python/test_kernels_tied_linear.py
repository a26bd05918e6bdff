"""The tied projection: several inputs, one weight, one gradient of it."""

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

from lrengine.kernels import tied_linear as module
from lrengine.kernels.tied_linear import tied_linear, tied_linear_op, tied_linear_reference

__all__ = ["kernels_run"]


def check(rows: tuple[int, ...], width: int, columns: int, dtype: torch.dtype, with_bias: bool) -> None:
    draw = Draw(dtype)
    bias = [draw.normal(columns)] if with_bias else []
    inputs = [draw.normal(count, width) for count in rows]

    def run(form: Any) -> Any:
        return lambda weight, *rest: form(rest[len(bias) :], weight, rest[0] if bias else None)

    weight = draw.normal(columns, width, scale=width**-0.5)
    assert_same(run(tied_linear), run(tied_linear_reference), [weight, *bias, *inputs], TOLERANCES[dtype])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("rows", "width", "columns"),
    [((1,), 1, 1), ((1, 1), 7, 5), ((3, 20), 33, 70), ((40, 1, 31), 100, 65), ((70, 5), 40, 130), ((2, 3, 4), 17, 9)],
)
def test_it_is_the_reference(rows: tuple[int, ...], width: int, columns: int, with_bias: bool) -> None:
    check(rows, width, columns, torch.float32, with_bias)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    check((5, 36), 72, 48, dtype, True)


def test_inputs_of_any_shape_keep_theirs_and_may_be_empty_or_strided() -> None:
    draw = Draw()
    inputs, weight = [draw.normal(2, 3, 8), draw.normal(0, 8), draw.normal(8)], draw.normal(5, 8)
    found = tied_linear([strided(x) for x in inputs], weight.t().contiguous().t())
    for one, other in zip(found, tied_linear_reference(inputs, weight, None), strict=True):
        torch.testing.assert_close(one, other)


def test_the_weights_gradient_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """autograd would compute one for each input and add them."""
    launches = []
    kernel = module.tied_weight_kernel

    class Counting:
        def __getitem__(self, grid: Any) -> Any:
            launches.append(grid)
            return kernel[grid]

    monkeypatch.setattr(module, "tied_weight_kernel", Counting())
    draw = Draw()
    weight = draw.normal(6, 8).requires_grad_()
    sum(y.sum() for y in tied_linear([draw.normal(3, 8), draw.normal(5, 8)], weight)).backward()  # type: ignore[union-attr]
    assert len(launches) == 1


def test_many_rows_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUSED_ROWS", 7)
    monkeypatch.setattr(module, "tied_linear_op", None)
    check((4, 4), 8, 6, torch.float32, True)


def test_a_frozen_weight_gets_no_gradient() -> None:
    draw = Draw()
    x, weight = draw.normal(3, 8).requires_grad_(), draw.normal(6, 8)
    tied_linear([x, draw.normal(2, 8)], weight)[0].sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, -1))


def test_gradients_by_finite_differences() -> None:
    draw = Draw()
    targets = [draw.normal(3, 4), draw.normal(2, 4)]

    def scalar(weight: Tensor, bias: Tensor, *inputs: Tensor) -> Tensor:
        outputs = tied_linear(inputs, weight, bias)
        return torch.stack([(y * target).sum() for y, target in zip(outputs, targets, strict=True)]).sum()

    assert_finite_differences(scalar, [draw.normal(4, 5), draw.normal(4), draw.normal(3, 5), draw.normal(2, 5)])


def test_inside_autocast_the_product_is_in_half_precision() -> None:
    draw = Draw()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        (y,) = tied_linear([draw.normal(3, 8)], draw.normal(6, 8), draw.normal(6))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_op_keeps_torchs_contract(with_bias: bool) -> None:
    draw = Draw()
    inputs = [draw.normal(3, 8).requires_grad_(), draw.normal(2, 8).requires_grad_()]
    bias = draw.normal(6).requires_grad_() if with_bias else None
    torch.library.opcheck(tied_linear_op, (inputs, draw.normal(6, 8).requires_grad_(), bias))


class Projecting(nn.Module):
    def forward(self, weight: Tensor, bias: Tensor, first: Tensor, second: Tensor) -> Any:
        one, other = tied_linear((first, second), weight.sin(), bias)
        return torch.cat((one, other))


def operands() -> tuple[Tensor, ...]:
    draw = Draw()
    return draw.normal(6, 9), draw.normal(6), draw.normal(4, 9), draw.normal(3, 9)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(backend: str) -> None:
    assert_compiles(Projecting(), operands(), backend)


def test_exported_as_one_node() -> None:
    program = torch.export.export(Projecting(), operands())
    assert [node.target for node in program.graph.nodes].count(torch.ops.lrengine.tied_linear.default) == 1
    torch.testing.assert_close(program.module()(*operands()), Projecting()(*operands()))


@pytest.mark.parametrize(
    ("inputs", "weight", "bias", "message"),
    [
        ([], (6, 8), None, "no inputs"),
        ([(3, 8), (2, 9)], (6, 8), None, r"input 1 is \[2, 9\], the weight is \[6, 8\]"),
        ([(3, 8)], (8,), None, r"the weight is \[8\], not \[N, K\]"),
        ([(3, 8)], (6, 8), (8,), r"the bias is torch.float32 \[8\]"),
    ],
)
def test_wrong_shapes_are_named(inputs: Any, weight: Any, bias: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tied_linear(
            [torch.zeros(shape, device=DEVICE) for shape in inputs],
            torch.zeros(weight, device=DEVICE),
            None if bias is None else torch.zeros(bias, device=DEVICE),
        )


def test_wrong_dtypes_are_named() -> None:
    with pytest.raises(ValueError, match="input 0 is torch.float16, the weight is torch.float32"):
        tied_linear([torch.zeros(3, 8, dtype=torch.float16, device=DEVICE)], torch.zeros(6, 8, device=DEVICE))
