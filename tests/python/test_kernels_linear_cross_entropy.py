"""Linear + cross-entropy without logits: loss and gradients are those of the float64 reference."""

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

from lrengine.kernels import linear_cross_entropy as module
from lrengine.kernels.linear_cross_entropy import (
    linear_cross_entropy,
    linear_cross_entropy_reference,
    token_loss_op,
)

__all__ = ["kernels_run"]


def check(tokens: int, width: int, vocabulary: int, dtype: torch.dtype, with_bias: bool, reduction: str) -> None:
    draw = Draw(dtype)
    labels = draw.labels(tokens, classes=vocabulary, ignored=0.2 if tokens > 1 else 0.0)
    bias = [draw.normal(vocabulary)] if with_bias else []

    def run(form: Any) -> Any:
        return lambda x, weight, *rest: form(x, weight, labels, rest[0] if bias else None, -100, reduction)

    inputs = [draw.normal(tokens, width), draw.normal(vocabulary, width, scale=2 * width**-0.5), *bias]
    assert_same(run(linear_cross_entropy), run(linear_cross_entropy_reference), inputs, TOLERANCES[dtype])


@pytest.mark.parametrize(("reduction", "with_bias"), [("mean", True), ("sum", False)])
@pytest.mark.parametrize(
    ("tokens", "width", "vocabulary"), [(1, 1, 1), (1, 7, 2), (5, 33, 63), (7, 16, 64), (66, 40, 65), (9, 100, 301)]
)
def test_it_is_the_reference(tokens: int, width: int, vocabulary: int, reduction: str, with_bias: bool) -> None:
    check(tokens, width, vocabulary, torch.float32, with_bias, reduction)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    check(6, 72, 130, dtype, True, "mean")


def test_the_vocabulary_in_several_parts_and_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: many programs share the vocabulary, and the backward pass walks over slices of it."""
    monkeypatch.setattr(module, "processors", lambda tensor: 2)
    monkeypatch.setattr(module, "_SLICE_VALUES", 5 * 64)
    check(5, 33, 301, torch.float32, True, "mean")


def test_small_gradients_survive_float16() -> None:
    """A mean over many tokens: P / T is below what float16 holds, the gradients are not."""
    draw = Draw(torch.float16)
    x, weight = draw.normal(6, 8), draw.normal(50, 8)
    labels = draw.labels(6, classes=50, ignored=0.0)
    own = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    wide = [x.double().requires_grad_(), weight.double().requires_grad_()]
    found = torch.autograd.grad(linear_cross_entropy(*own, labels) * 1e-3, own)
    expected = torch.autograd.grad(linear_cross_entropy_reference(*wide, labels, None, -100, "mean") * 1e-3, wide)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-2, atol=1e-7)


def test_large_logits_do_not_overflow() -> None:
    x, weight = torch.full((2, 1), 100.0, device=DEVICE), torch.tensor([[100.0], [99.0], [-100.0]], device=DEVICE)
    loss = linear_cross_entropy(x, weight, torch.tensor([0, 1], device=DEVICE), reduction="sum")
    torch.testing.assert_close(loss.item(), 100.0)


def test_ignored_labels_count_nowhere() -> None:
    draw = Draw()
    x, weight = draw.normal(2, 3, 8).requires_grad_(), draw.normal(20, 8)
    labels = torch.tensor([[3, -100, 7], [-100, -100, 0]], device=DEVICE)
    linear_cross_entropy(x, weight, labels).backward()
    assert (x.grad.abs().sum(-1) > 0).tolist() == (labels != -100).tolist()  # type: ignore[union-attr]
    other = linear_cross_entropy(x, weight, labels.masked_fill(labels == -100, 9), ignore_index=9)
    torch.testing.assert_close(other, linear_cross_entropy(x, weight, labels))


@pytest.mark.parametrize("label", [-1, 20, 1 << 40])
def test_a_label_outside_the_vocabulary_makes_the_loss_nan(label: int) -> None:
    draw = Draw()
    labels = torch.tensor([1, label], device=DEVICE)
    assert linear_cross_entropy(draw.normal(2, 8), draw.normal(20, 8), labels).isnan()


def test_frozen_weights_get_no_gradient_and_strided_ones_are_the_same() -> None:
    draw = Draw()
    x, weight, labels = draw.normal(3, 8).requires_grad_(), draw.normal(20, 8), draw.labels(3, classes=20)
    loss = linear_cross_entropy(strided(x), strided(weight), labels)
    loss.backward()
    assert weight.grad is None and x.grad is not None
    torch.testing.assert_close(loss, linear_cross_entropy(x, weight, labels))


def test_no_logits_are_ever_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only buffer over tokens and vocabulary is the slice of the backward pass, and its size is limited."""
    monkeypatch.setattr(module, "_SLICE_VALUES", 8 * 64)
    kernel, buffers = module.probability_kernel, []

    class Watching:
        def __getitem__(self, grid: Any) -> Any:
            def launch(*operands: Any, **options: Any) -> None:
                buffers.append(operands[kernel.arg_names.index("changes")].numel())
                kernel[grid](*operands, **options)

            return launch

    monkeypatch.setattr(module, "probability_kernel", Watching())
    draw = Draw()
    x, weight = draw.normal(8, 4).requires_grad_(), draw.normal(400, 4).requires_grad_()
    linear_cross_entropy(x, weight, draw.labels(8, classes=400)).backward()
    assert buffers == 6 * [8 * 64] + [8 * 16]


def test_gradients_by_finite_differences() -> None:
    draw = Draw()
    labels = draw.labels(4, classes=7)
    assert_finite_differences(
        lambda x, weight, bias: linear_cross_entropy(x, weight, labels, bias),
        [draw.normal(4, 5), draw.normal(7, 5), draw.normal(7)],
    )


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_op_keeps_torchs_contract(with_bias: bool) -> None:
    draw = Draw()
    bias = draw.normal(20).requires_grad_() if with_bias else None
    operands = (draw.normal(3, 8).requires_grad_(), draw.normal(20, 8).requires_grad_(), bias)
    torch.library.opcheck(token_loss_op, (*operands, draw.labels(3, classes=20), -100))


class Loss(nn.Module):
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return linear_cross_entropy(x.sin(), weight, torch.tensor([1, -100, 3], device=x.device), bias)


def operands() -> tuple[Tensor, ...]:
    draw = Draw()
    return draw.normal(3, 8), draw.normal(20, 8), draw.normal(20)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_whole(backend: str) -> None:
    assert_compiles(Loss(), operands(), backend)


def test_exported_as_one_node() -> None:
    program = torch.export.export(Loss(), operands())
    assert [node.target for node in program.graph.nodes].count(torch.ops.lrengine.linear_cross_entropy.default) == 1
    torch.testing.assert_close(program.module()(*operands()), Loss()(*operands()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (3, 9)}, r"input 0 is \[3, 9\], the weight is \[20, 8\]"),
        ({"labels": (4,)}, r"labels are \[4\], the states are \[3, 8\]"),
        ({"bias": (8,)}, r"the bias is torch.float32 \[8\]"),
    ],
)
def test_wrong_shapes_are_named(changed: dict[str, Any], message: str) -> None:
    shapes = {"x": (3, 8), "weight": (20, 8), "labels": (3,), "bias": (20,), **changed}
    tensors = {name: torch.zeros(shape, device=DEVICE) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**{**tensors, "labels": tensors["labels"].long()})


def test_an_unknown_reduction_is_refused() -> None:
    draw = Draw()
    with pytest.raises(ValueError, match="reduction 'none'"):
        linear_cross_entropy(draw.normal(3, 8), draw.normal(20, 8), draw.labels(3, classes=20), reduction="none")
