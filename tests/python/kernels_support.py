"""What the kernel tests share: random inputs, and the comparison with the reference in float64, gradients included.

The kernels run on the GPU where there is one, else in Triton's interpreter (tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lrengine.kernels.dispatch import kernel_mode

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}  # relative to a tensor's largest value


@pytest.fixture(autouse=True)
def kernels_run() -> Iterator[None]:
    """Import this name into a test file: its kernels then run, and say so if they cannot."""
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    with kernel_mode("triton"):
        yield


class Draw:
    """Random tensors of one dtype; the same seed gives the same ones."""

    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.dtype, self.generator = dtype, torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=self.generator)).to(DEVICE, self.dtype)

    def states(self, layers: int, *shape: int) -> list[Tensor]:
        return [self.normal(*shape) for _ in range(layers)]

    def mask(self, *shape: int, kept: float = 0.7) -> Tensor:
        return (torch.rand(*shape, generator=self.generator) < kept).long().to(DEVICE)

    def labels(self, *shape: int, classes: int, ignored: float = 0.2) -> Tensor:
        labels = torch.randint(classes, shape, generator=self.generator)
        return labels.masked_fill(torch.rand(*shape, generator=self.generator) < ignored, -100).to(DEVICE)


def assert_near(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    """Largest difference <= tolerance * largest expected value."""
    assert found.shape == expected.shape, f"{name}: {list(found.shape)}, expected {list(expected.shape)}"
    if expected.numel() == 0:
        return
    difference = (found.double() - expected.double()).abs().max().item()
    largest = max(expected.abs().max().item(), 1e-3)
    assert difference <= tolerance * largest, f"{name}: off by {difference:.3g}, largest value {largest:.3g}"


def assert_same(
    kernel: Callable[..., Any], reference: Callable[..., Any], inputs: Sequence[Tensor], tolerance: float, seed: int = 9
) -> None:
    """Outputs and gradients of `kernel` are those of `reference` in float64, for the float `inputs` (all trained)."""
    own = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    found, expected = _tensors(kernel(*own)), _tensors(reference(*wide))
    draw = Draw(torch.float64, seed)
    weights = [draw.normal(*output.shape) for output in expected]
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_near(one, other, tolerance, f"output {index}")
    weights = [weight.to(output.dtype).double() for weight, output in zip(weights, found, strict=True)]
    gradients = torch.autograd.grad(
        found, own, [weight.to(output.dtype) for weight, output in zip(weights, found, strict=True)]
    )
    for index, (one, other) in enumerate(zip(gradients, torch.autograd.grad(expected, wide, weights), strict=True)):
        assert one.dtype == own[index].dtype
        assert_near(one, other, 2 * tolerance, f"gradient of input {index}")


def assert_finite_differences(function: Callable[..., Tensor], inputs: Sequence[Tensor], step: float = 1e-2) -> None:
    """The gradient of the scalar `function` along a random direction, by central differences (float32 inputs)."""
    own = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    gradients = torch.autograd.grad(function(*own), own)
    draw = Draw(seed=17)
    for index, gradient in enumerate(gradients):
        direction = draw.normal(*gradient.shape)
        ends = []
        for sign in (1.0, -1.0):
            moved = [tensor.detach() + (sign * step * direction if i == index else 0.0) for i, tensor in enumerate(own)]
            ends.append(function(*moved).item())
        slope, expected = (ends[0] - ends[1]) / (2 * step), (gradient * direction).sum().item()
        assert abs(slope - expected) <= 2e-2 * max(abs(expected), 0.1), f"input {index}: {slope} and {expected}"


def assert_compiles(module: nn.Module, inputs: Sequence[Tensor], backend: str) -> None:
    """torch.compile takes it whole, and changes neither its output (a tensor) nor its gradients."""
    own = [tensor.requires_grad_() for tensor in inputs]
    expected, found = module(*own), torch.compile(module, backend=backend, fullgraph=True)(*own)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(output.square().sum(), own) for output in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def strided(tensor: Tensor) -> Tensor:
    """The same values, not contiguous."""
    return torch.stack((tensor, tensor), dim=-1)[..., 0]


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
