"""Linear + cross-entropy over a large vocabulary: the Triton kernels against PyTorch with logits, also compiled.

    python benchmarks/gpu/linear_cross_entropy.py [--json OUT] [--seconds 50] [--tokens 256 1024 4096] [--smoke]

Vocabularies and widths: 135,359 x 768 (SWCM), 250,112 x 1024 (mT5's). bfloat16. A step is the forward and the backward
pass to states and weight; `peak_bytes` is what it needs beyond its inputs. `bytes`: weight and states once forward; for
a step also their gradients. Floor: those bytes, or 2 T V D operations forward and four times as many a step (with the
recomputation; three times would do with logits), whichever is longer at the card's measured rates.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from measure import Card, difference, finish, options
from torch import Tensor

from lrengine.kernels.dispatch import kernel_mode
from lrengine.kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_reference

SIZES = [(135_359, 768), (250_112, 1024)]


def with_logits(x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return linear_cross_entropy_reference(x, weight, labels, None, -100, "mean")


def with_kernels(x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    with kernel_mode("triton"):
        return linear_cross_entropy(x, weight, labels)


def measure(card: Card, name: str, vocabulary: int, width: int, tokens: int) -> list[dict[str, Any]]:
    """The forward pass alone, and the step."""
    torch.manual_seed(0)
    x = torch.randn(tokens, width, device=card.device, dtype=torch.bfloat16).requires_grad_()
    weight = (torch.randn(vocabulary, width, device=card.device) * width**-0.5).to(torch.bfloat16).requires_grad_()
    labels = torch.randint(vocabulary, (tokens,), device=card.device)
    labels[::7] = -100
    forms = {"logits": with_logits, "triton": with_kernels}
    form = torch.compile(with_logits, dynamic=True) if name == "compiled" else forms[name]

    def forward() -> Tensor:
        with torch.no_grad():
            return form(x, weight, labels)

    def step() -> Any:
        return torch.autograd.grad(form(x, weight, labels), (x, weight))

    off = difference(forward(), with_logits(x, weight, labels).detach())
    size, operations = 2 * (vocabulary * width + tokens * width), 2 * tokens * vocabulary * width
    common = {"implementation": name, "vocabulary": vocabulary, "width": width, "tokens": tokens}
    return [
        {**common, "pass": "forward", "bytes": size, "times": card.time(forward), "difference": off,
         "floor_us": card.floor_us(size, operations), "peak_bytes": peak(card, forward)},
        {**common, "pass": "step", "bytes": 2 * size, "times": card.time(step, graph=False),
         "floor_us": card.floor_us(2 * size, 4 * operations), "peak_bytes": peak(card, step)},
    ]  # fmt: skip


def peak(card: Card, call: Any) -> int | None:
    """Device memory that a call takes at most beyond what there is; None in a smoke run."""
    if card.smoke:
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main() -> int:
    parser = options(50.0, __doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096])
    given = parser.parse_args()
    sizes = [(331, 24)] if given.smoke else SIZES
    tokens = [5] if given.smoke else given.tokens
    names = ("triton", "logits") if given.smoke else ("triton", "logits", "compiled")
    card = Card(given.seconds, given.smoke)
    cases: list[dict[str, Any]] = []
    skipped: list[str] = []
    for name in names:
        for vocabulary, width in sizes:
            for count in tokens:
                if card.used() > 1.0:
                    skipped.append(f"{name} V={vocabulary} D={width} T={count}")
                    continue
                try:
                    cases += measure(card, name, vocabulary, width, count)
                except torch.OutOfMemoryError:
                    skipped.append(f"{name} V={vocabulary} D={width} T={count} (out of memory)")
    finish(card, "linear_cross_entropy", cases, skipped, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
