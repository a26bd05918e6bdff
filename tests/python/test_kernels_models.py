"""The models with the kernels are the models with the reference: the same loss, the same gradients. And who decides."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from kernels_support import DEVICE, Draw, assert_near
from torch import Tensor

from lrengine.kernels import layer_mix, linear_cross_entropy, mix_mapper, tied_linear, transformer_mix
from lrengine.kernels.dispatch import kernel_mode, use_triton
from lrengine.models.losses import projected_cross_entropy, token_cross_entropy
from tiny import pad_batch, random_sources, tiny_classifier, tiny_fusion, tiny_swcm

pytest.importorskip("triton", reason="Triton has no build for this platform")
TOLERANCE = 5e-4  # of float32, relative to each gradient's largest value, through whole models


def batch() -> dict[str, Tensor]:
    ids, mask = pad_batch(random_sources([9, 4, 6]), pad_id=1)
    labels, real = pad_batch(random_sources([5, 7, 2], seed=1, vocabulary=200), pad_id=-100)
    del real
    return {"input_ids": ids.to(DEVICE), "attention_mask": mask.to(DEVICE), "labels": labels.to(DEVICE)}


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that start from now on."""
    started: list[str] = []
    for module in (layer_mix, transformer_mix, mix_mapper, tied_linear, linear_cross_entropy):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            original = getattr(module, name)

            class Counting:
                def __init__(self, name: str, kernel: Any) -> None:
                    self.name, self.kernel = name, kernel

                def __getitem__(self, grid: Any) -> Any:
                    started.append(self.name)
                    return self.kernel[grid]

            monkeypatch.setattr(module, name, Counting(name, original))
    return started


def loss_and_gradients(model: Any, mode: str, inputs: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)  # the same dropout
    with kernel_mode(mode):
        loss = model(**inputs, **options).loss
        loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **found}


def assert_same_training(model: Any, inputs: dict[str, Tensor], **options: Any) -> None:
    expected = loss_and_gradients(model, "reference", inputs, **options)
    found = loss_and_gradients(model, "triton", inputs, **options)
    assert set(found) == set(expected) and len(found) > 1
    for name, value in expected.items():
        assert_near(found[name], value, TOLERANCE, name)


@pytest.mark.parametrize("mixer", ["global", "transformer", {"type": "transformer", "add_global": True}], ids=str)
def test_layer_fusion(mixer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny_fusion(mixer=mixer).to(DEVICE)
    if hasattr(model.mixer, "temperature"):
        torch.nn.init.constant_(model.mixer.temperature, 3e-5)
    started = count_calls(monkeypatch)
    assert_same_training(model, batch(), with_logits=False)
    assert {"mix_mapper_kernel", "mix_backward_kernel", "loss_kernel", "probability_kernel"} <= set(started)
    assert ("attend_backward_kernel" in started) == (mixer != "global")


def test_the_weights_that_layer_fusion_shows_are_zeros_at_padding() -> None:
    model: Any = tiny_fusion().to(DEVICE)
    shown = []
    for mode in ("reference", "triton"):
        with kernel_mode(mode), torch.no_grad():
            shown.append(model(**batch()).mixer_weights)
    torch.testing.assert_close(*shown)
    assert (shown[1].sum(-1) > 0).long().equal(batch()["attention_mask"])


def test_layer_fusion_in_training_drops_the_same_with_an_encoder_that_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny_fusion(mixer={"type": "transformer", "dropout": 0.3}, freeze_encoder=False).to(DEVICE)
    for module in (model.encoder, model.llm):
        module.eval()
    model.mixer.train()
    started = count_calls(monkeypatch)
    assert_same_training(model, batch(), with_logits=False)
    assert "attend_backward_kernel" in started


def test_layer_fusion_with_a_mapper_of_another_form() -> None:
    for mapper in ("mlp", "latent"):
        assert_same_training(tiny_fusion(mapper=mapper).to(DEVICE), batch(), with_logits=False)


@pytest.mark.parametrize("norm_style", ["published", "post"])
@pytest.mark.parametrize("sharing", ["tied", "init"])
def test_swcm(sharing: str, norm_style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = tiny_swcm(sharing=sharing, norm_style=norm_style, tie_word_embeddings=sharing == "tied").to(DEVICE)
    started = count_calls(monkeypatch)
    assert_same_training(model, batch(), with_logits=False)
    assert "loss_kernel" in started and ("tied_weight_kernel" in started) == (sharing == "tied")
    if sharing == "tied":  # keys and values of each of the three custom layers, not twice
        assert started.count("tied_weight_kernel") == 6


def test_swcm_generates_the_same_tokens() -> None:
    model: Any = tiny_swcm(sharing="tied").to(DEVICE)
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    answers = []
    for mode in ("reference", "triton"):
        with kernel_mode(mode):
            answers.append(model.generate(**inputs, max_new_tokens=8, num_beams=2))
    assert torch.equal(*answers)


def test_classifier() -> None:
    model: Any = tiny_classifier(freeze_encoder=False).to(DEVICE)
    inputs = {**batch(), "labels": torch.tensor([0, 2, 1], device=DEVICE)}
    assert_same_training(model, inputs)


def test_without_logits_the_loss_is_the_same_on_every_path() -> None:
    draw = Draw()
    hidden, weight, bias = draw.normal(2, 3, 8), draw.normal(20, 8), draw.normal(20)
    labels = torch.tensor([[1, 2, -100], [4, -100, 0]], device=DEVICE)
    expected = token_cross_entropy(hidden @ weight.t() + bias, labels, 7)
    for mode in ("reference", "triton"):
        with kernel_mode(mode):
            torch.testing.assert_close(projected_cross_entropy(hidden, weight, bias, labels, 7), expected)


@pytest.mark.parametrize("build", [tiny_swcm, tiny_fusion])
def test_logits_are_there_unless_refused(build: Any) -> None:
    model: Any = build()
    inputs = {name: value.cpu() for name, value in batch().items()}
    with torch.no_grad():
        assert model(**inputs).logits is not None and model(**inputs, with_logits=False).logits is None


def test_a_cpu_tensor_takes_the_reference_unless_told_otherwise() -> None:
    tensor = torch.zeros(2)
    assert not use_triton(tensor)
    with kernel_mode("triton"):
        assert use_triton(tensor) and use_triton(tensor, None)
        with pytest.raises(ValueError, match="not torch.float64"):
            use_triton(tensor.double())
    with kernel_mode("reference"):
        assert not use_triton(tensor)
    with pytest.raises(ValueError, match="'fast', not one of auto, reference, triton"), kernel_mode("fast"):
        pass


def test_the_environment_variable_is_heard() -> None:
    """In a process that does not interpret."""
    code = "import torch; from lrengine.kernels.dispatch import use_triton; use_triton(torch.zeros(1))"
    environment = {**os.environ, "LRENGINE_KERNELS": "triton", "TRITON_INTERPRET": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "on others only with TRITON_INTERPRET=1" in run.stderr
