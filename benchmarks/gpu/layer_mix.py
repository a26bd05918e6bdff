"""The layer mixers at real sizes: the Triton kernels against the published PyTorch form and torch.compile of it.

    python benchmarks/gpu/layer_mix.py [--json OUT] [--seconds 105] [--layers 12 24] [--widths 768 1024 2048]
        [--tokens 64 512 4096 16384] [--smoke]

published: stack the L states, then (transformer) one nn.TransformerEncoderLayer over [c; h + p], softmax, weighted sum.
compiled:  torch.compile of that. reference: our own PyTorch form with the exact shortcut. triton: with the kernels.
bfloat16 states and parameters. `bytes`: what the task needs once, L T D + T D values (the transformer form in Triton
reads the states twice, for the attention and for the mix: its floor says so). Backward: as layer fusion trains, the
mixer over a frozen encoder; times of the backward pass alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from measure import Card, difference, finish, options
from torch import Tensor, nn

from lrengine.kernels.dispatch import kernel_mode
from lrengine.models.mixer import LayerMixer, build_mixer, mixer_settings

FORMS = ("global", "transformer")
COMPILE_UNTIL = 0.75  # of the time: what compiles comes last, and takes long


class Published(nn.Module):
    """The published form with the mixer's weights."""

    def __init__(self, mixer: LayerMixer) -> None:
        super().__init__()
        self.mixer: Any = mixer
        if mixer.settings["type"] == "transformer":
            settings = mixer.settings
            self.layer = nn.TransformerEncoderLayer(
                mixer.width, 1, settings["ffn_dim"], settings["dropout"], batch_first=True
            ).to(torch.bfloat16)
            own = mixer.state_dict()
            names = {name: name.replace("self_attn", "attention") for name in self.layer.state_dict()}
            self.layer.load_state_dict({name: own[source] for name, source in names.items()})

    def forward(self, states: tuple[Tensor, ...]) -> Tensor:
        """[T, D] each -> [T, D]"""
        stacked = torch.stack(states, dim=1)
        if self.mixer.settings["type"] == "global":
            weights = self.mixer.global_logits().softmax(-1).to(stacked.dtype)
        else:
            x = torch.cat((self.mixer.cls.expand(len(stacked), 1, -1), stacked + self.mixer.position_embeddings), dim=1)
            weights = self.mixer.output(self.layer(x)[:, 0]).softmax(-1)
        return (weights[..., None] * stacked).sum(1)


class Case:
    """One mixer and its input, in every implementation."""

    def __init__(self, card: Card, form: str, layers: int, width: int) -> None:
        torch.manual_seed(0)
        self.card, self.form, self.layers, self.width = card, form, layers, width
        mixer = build_mixer(mixer_settings({"type": form, "dropout": 0.0}), layers, width)
        self.mixer = mixer.to(card.device, torch.bfloat16)
        with torch.no_grad():
            for parameter in self.mixer.parameters():
                if parameter.dim() == 1:
                    parameter.normal_(std=0.02)
            if form == "global":
                self.mixer.temperature.fill_(1e-5)  # type: ignore[union-attr, operator]
        self.published = Published(self.mixer).to(card.device)
        self.published.eval()  # the mixer in it too: PyTorch's layer has a faster path then

    def states(self, tokens: int) -> tuple[Tensor, ...]:
        return tuple(
            torch.randn(tokens, self.width, device=self.card.device, dtype=torch.bfloat16) for _ in range(self.layers)
        )

    def call(self, implementation: str, states: tuple[Tensor, ...]) -> Callable[[], Tensor]:
        if implementation in ("published", "compiled"):
            return lambda: self.published(states)
        mode = "triton" if implementation == "triton" else "reference"
        mask = torch.ones(1, len(states[0]), device=self.card.device)
        batched = [state[None] for state in states]

        def run() -> Tensor:
            with kernel_mode(mode):
                return self.mixer(batched, mask)[0][0]

        return run

    def bytes(self, tokens: int, implementation: str) -> int:
        """Of the forward pass."""
        passes = 2 if self.form == "transformer" and implementation == "triton" else 1
        return 2 * tokens * self.width * (passes * self.layers + 1)

    def operations(self, tokens: int) -> int:
        """Of the products that are left in the transformer form: value, output, two of the feed-forward block."""
        if self.form == "global":
            return 0
        return 2 * tokens * self.width * (2 * self.width + 2 * self.mixer.settings["ffn_dim"])

    def record(self, implementation: str, tokens: int, direction: str, times: dict[str, Any]) -> dict[str, Any]:
        size = self.bytes(tokens, implementation)
        return {
            "form": self.form, "implementation": implementation, "direction": direction, "layers": self.layers,
            "width": self.width, "tokens": tokens, "bytes": size, "times": times,
            "floor_us": self.card.floor_us(size, self.operations(tokens) * (2 if direction == "backward" else 1)),
        }  # fmt: skip

    @torch.no_grad()
    def forward(self, implementation: str, tokens: int) -> dict[str, Any]:
        states = self.states(tokens)
        call = self.call(implementation, states)
        if implementation == "compiled":
            plain, compiled = self.published, torch.compile(self.published, dynamic=True)
            call = lambda: compiled(states)  # noqa: E731
            expected = plain(states)
        else:
            expected = self.published(states)
        off = difference(call(), expected)
        return {**self.record(implementation, tokens, "forward", self.card.time(call)), "difference": off}

    def backward(self, implementation: str, tokens: int) -> dict[str, Any]:
        states = self.states(tokens)
        output = self.call(implementation, states)()
        module: nn.Module = self.mixer if implementation != "published" else self.published
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        gradient = torch.randn_like(output)

        def run() -> Any:
            with kernel_mode("triton" if implementation == "triton" else "reference"):
                return torch.autograd.grad(output, trained, gradient, retain_graph=True, allow_unused=True)

        return self.record(implementation, tokens, "backward", self.card.time(run, graph=False))


def main() -> int:
    parser = options(105.0, __doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--widths", type=int, nargs="+", default=[768, 1024, 2048])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 512, 4096, 16384])
    given = parser.parse_args()
    if given.smoke:
        given.layers, given.widths, given.tokens = [3], [40], [5]
    card = Card(given.seconds, given.smoke)
    cases: list[dict[str, Any]] = []
    skipped: list[str] = []
    pairs = [(layers, width) for width in given.widths for layers in given.layers]
    backward_tokens = sorted(given.tokens)[len(given.tokens) // 2]

    def attempt(form: str, layers: int, width: int, implementation: str, limit: float) -> None:
        case = Case(card, form, layers, width)
        for tokens in given.tokens:
            name = f"{form} {implementation} L={layers} D={width} T={tokens}"
            if card.used() > limit:
                skipped.append(name)
                continue
            try:
                cases.append(case.forward(implementation, tokens))
                if tokens == backward_tokens and implementation != "compiled":
                    cases.append(case.backward(implementation, tokens))
            except torch.OutOfMemoryError:
                skipped.append(f"{name} (out of memory)")

    for implementation in ("triton", "published", "reference"):
        for layers, width in pairs:
            for form in FORMS:
                attempt(form, layers, width, implementation, 1.0)
    if not given.smoke:
        for layers, width in pairs:
            for form in FORMS:
                attempt(form, layers, width, "compiled", COMPILE_UNTIL)
    finish(card, "layer_mix", cases, skipped, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
