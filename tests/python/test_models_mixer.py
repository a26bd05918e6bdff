"""The layer mixers: the shortcut is exact, in training too, and every form is the float64 reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference import mixer as reference
from torch import nn

from lrengine.models.mixer import LayerMixer, TransformerMixer, build_mixer, mixer_settings
from tiny import randomise

LAYERS, WIDTH, LENGTH = 5, 24, 7


def make(form: str, **fields: Any) -> LayerMixer:
    settings = mixer_settings({"type": form, "ffn_dim": 40, **fields})
    mixer: Any = build_mixer(settings, LAYERS, WIDTH)
    mixer = randomise(mixer, seed=3).double()
    if hasattr(mixer, "temperature"):
        with torch.no_grad():  # the published factor of 1e5 wants a small t
            mixer.temperature.fill_(3e-5)
            mixer.layer_logits.mul_(0.1)
    return mixer


def random_states(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(LAYERS, 1, LENGTH, WIDTH, generator=generator, dtype=torch.float64))


def parameters_of(mixer: LayerMixer) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in mixer.state_dict().items()}


def expected_weights(mixer: LayerMixer, states: np.ndarray, masks: Any = None) -> np.ndarray:
    parameters, settings = parameters_of(mixer), mixer.settings
    scale = (settings["temperature_base"], settings["temperature_factor"])
    if settings["type"] == "last":
        return reference.last_weights(states)
    if settings["type"] == "global":
        return reference.global_weights(parameters, states, *scale)
    added = reference.global_logits(parameters, *scale) if settings["add_global"] else 0.0
    return reference.transformer_weights(parameters, states, settings["layer_norm_eps"], masks, added)


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("last", {}),
        ("global", {}),
        ("global", {"temperature_base": 2.0, "temperature_factor": 10.0}),
        ("transformer", {}),
        ("transformer", {"layer_norm_eps": 0.1}),
        ("transformer", {"add_global": True}),
    ],
)
def test_weights_and_fused_states_are_the_references(form: str, fields: dict[str, Any]) -> None:
    mixer, states = make(form, **fields), random_states()
    with torch.no_grad():
        fused, weights = mixer(states, torch.ones(1, LENGTH))
    plain = torch.stack(states)[:, 0].numpy()
    expected = expected_weights(mixer, plain)
    np.testing.assert_allclose(weights[0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fused[0], reference.fuse(plain, expected), rtol=0, atol=1e-10)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-12)
    if form == "transformer":
        assert weights[0].std(0).min() > 1e-3, "weights that do not depend on the token prove nothing"


def as_torch_layer(mixer: TransformerMixer) -> nn.TransformerEncoderLayer:
    """torch's own layer with the mixer's weights: the names are the same."""
    layer = nn.TransformerEncoderLayer(WIDTH, 1, dim_feedforward=40, dropout=0.1, batch_first=True).double()
    own = {
        ("self_attn" + name[9:] if name.startswith("attention.") else name): v for name, v in mixer.state_dict().items()
    }
    layer.load_state_dict({name: own[name] for name in layer.state_dict()})
    return layer.eval()


def test_the_shortcut_is_torchs_transformer_layer() -> None:
    mixer: Any = make("transformer")
    states = random_states()
    sequence = torch.stack([state + mixer.position_embeddings[i] for i, state in enumerate(states)], dim=2)[0]
    sequence = torch.cat([mixer.cls.expand(LENGTH, 1, -1), sequence], dim=1)
    expected = mixer.output(as_torch_layer(mixer)(sequence)[:, 0]).softmax(-1)
    torch.testing.assert_close(mixer.weights(states)[0], expected, rtol=0, atol=1e-10)


def record_dropout_masks(mixer: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The masks that the mixer draws in its next call, by place."""
    masks: dict[str, np.ndarray] = {}

    def attention_dropout(alpha: torch.Tensor) -> torch.Tensor:
        mask = nn.functional.dropout(torch.ones_like(alpha), 0.3)
        masks["alpha"] = mask[0].numpy()
        return alpha * mask

    def replaced(place: str) -> Any:
        def apply(values: torch.Tensor) -> torch.Tensor:
            mask = nn.functional.dropout(torch.ones_like(values), 0.3)
            masks[place] = mask[0].numpy()
            return values * mask

        return apply

    monkeypatch.setattr(mixer, "attention_dropout", attention_dropout)
    for module, place in (("dropout1", "after_attention"), ("dropout", "inside"), ("dropout2", "after_feed_forward")):
        monkeypatch.setattr(getattr(mixer, module), "forward", replaced(place))
    return masks


@pytest.mark.parametrize("add_global", [False, True])
def test_the_shortcut_is_exact_in_training_given_the_same_masks(
    add_global: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer, states = make("transformer", add_global=add_global).train(), random_states()
    masks = record_dropout_masks(mixer, monkeypatch)
    with torch.no_grad():
        weights = mixer.weights(states)
    assert all((mask == 0).any() for mask in masks.values()) and len(masks) == 4
    expected = expected_weights(mixer, torch.stack(states)[:, 0].numpy(), reference.DropoutMasks(**masks))
    np.testing.assert_allclose(weights[0], expected, rtol=0, atol=1e-10)


def test_dropout_is_drawn_at_four_places_in_training_and_nowhere_else() -> None:
    mixer: Any = make("transformer", dropout=0.5)
    ones = torch.ones(1, 4, 6)
    assert torch.equal(mixer.attention_dropout(ones), ones)
    mixer.train()
    drawn = mixer.attention_dropout(torch.ones(1, 100, 6))
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert [mixer.dropout.p, mixer.dropout1.p, mixer.dropout2.p] == [0.5] * 3


def test_gradients_are_those_of_the_plain_form() -> None:
    mixer: Any = make("transformer")
    states = random_states()
    target = torch.randn(LENGTH, LAYERS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (mixer.weights(states)[0] * target).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in mixer.named_parameters()}
    mixer.zero_grad()
    layer: Any = as_torch_layer(mixer).train()
    for module in layer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    layer.self_attn.dropout = 0.0
    sequence = torch.stack([state + mixer.position_embeddings[i] for i, state in enumerate(states)], dim=2)[0]
    sequence = torch.cat([mixer.cls.expand(LENGTH, 1, -1), sequence], dim=1)
    (mixer.output(layer(sequence)[:, 0]).softmax(-1) * target).sum().backward()
    expected = {name: parameter.grad for name, parameter in mixer.named_parameters() if parameter.grad is not None}
    expected |= {name.replace("self_attn", "attention"): parameter.grad for name, parameter in layer.named_parameters()}
    assert set(expected) >= {"cls", "position_embeddings", "attention.in_proj_weight", "linear1.weight", "output.bias"}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10, msg=name)


def test_padding_becomes_zeros_and_changes_nothing_else() -> None:
    mixer, states = make("transformer"), random_states()
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    fused, weights = mixer(states, mask)
    whole, _ = mixer(states, torch.ones(1, LENGTH))
    assert torch.equal(fused[:, :4], whole[:, :4])
    assert fused[:, 4:].abs().sum() == 0 and weights[:, 4:].abs().sum() == 0


@pytest.mark.parametrize("form", ["global", "transformer"])
def test_first_values_are_the_published_ones(form: str) -> None:
    mixer: Any = build_mixer(mixer_settings({"type": form, "add_global": form == "transformer"}), LAYERS, WIDTH)
    assert mixer.temperature.tolist() == pytest.approx([1e-5])
    assert mixer.layer_logits.tolist() == pytest.approx([3e-5] * LAYERS)
    if form == "transformer":
        assert mixer.cls.abs().sum() == 0 and mixer.output.weight.abs().sum() == 0
        torch.testing.assert_close(
            mixer.eval().weights([s.float() for s in random_states()])[0], torch.full((LENGTH, LAYERS), 0.2)
        )


def test_half_precision_keeps_the_temperature() -> None:
    """(100 + 1e5 t) a overflows nothing and rounds nowhere but in the parameters."""
    mixer = make("global").to(torch.bfloat16)
    states = [state.bfloat16() for state in random_states()]
    parameters = {name: value.float().numpy().astype(np.float64) for name, value in mixer.state_dict().items()}
    expected = reference.global_weights(parameters, np.zeros((LAYERS, LENGTH, WIDTH)), 100.0, 1e5)
    np.testing.assert_allclose(mixer.weights(states)[0].float().detach(), expected, atol=4e-3)


@pytest.mark.parametrize("value", ["mean", {"type": "global", "temperatur": 1.0}, {}])
def test_bad_settings_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="mixer"):
        mixer_settings(value)
