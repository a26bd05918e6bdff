"""Classification without an LLM."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lrengine.models import LayerFusionClassifierConfig, LayerFusionForSequenceClassification
from lrengine.models.encoders import all_layer_states
from tiny import ENCODERS, pad_batch, random_sources, tiny_classifier, tiny_encoder, tiny_encoder_config

SOURCES = random_sources([9, 1, 5])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("mixer", ["last", "global", "transformer"])
def test_logits_are_the_heads_over_the_mean_of_mixed_tokens(encoder: str, mixer: str) -> None:
    model = tiny_classifier(encoder, mixer).double()
    ids, mask = pad_batch(SOURCES, model.config.encoder.pad_token_id)
    output = model(ids, mask)
    for row, source in enumerate(SOURCES):
        states = torch.stack(all_layer_states(model.encoder, torch.tensor([source]), torch.ones(1, len(source))))[:, 0]
        weights = output.mixer_weights[row, : len(source)]
        pooled = torch.einsum("lsd,sl->d", states, weights) / len(source)
        expected = model.classifier.weight @ pooled + model.classifier.bias
        torch.testing.assert_close(output.logits[row], expected, rtol=0, atol=1e-5)  # float32 masks inside T5
    if mixer == "last":
        assert output.mixer_weights[0, 0].tolist() == [0, 0, 1]


def test_the_loss_is_cross_entropy() -> None:
    model, labels = tiny_classifier(), torch.tensor([2, 0, 1])
    ids, mask = pad_batch(SOURCES, 1)
    output = model(ids, mask, labels=labels)
    torch.testing.assert_close(output.loss, -output.logits.log_softmax(-1)[range(3), labels].mean())


@pytest.mark.parametrize("frozen", [True, False])
def test_the_encoder_is_trained_unless_frozen(frozen: bool) -> None:
    model = tiny_classifier(freeze_encoder=frozen).train()
    ids, mask = pad_batch(SOURCES, 1)
    model(ids, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert model.encoder.training != frozen
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) != (frozen and name.startswith("encoder.")), name


def test_labels_are_in_the_config() -> None:
    model = LayerFusionForSequenceClassification.from_encoder(tiny_encoder("bert"), ["no", "yes"], mixer="last")
    assert model.config.id2label == {0: "no", 1: "yes"} and model.config.label2id == {"no": 0, "yes": 1}
    assert model.classifier.weight.shape == (2, 72)
    one = LayerFusionForSequenceClassification.from_encoder(tiny_encoder("bert"), ["only"])
    assert one.config.to_dict()["id2label"] == {0: "only"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"id2label": {0: "a", 2: "c"}}, "id2label"),
        ({"id2label": {}}, "id2label"),
        ({"mixer": {"type": "transformer", "heads": 3}}, "heads"),
        ({"encoder": None}, "encoder"),
    ],
)
def test_bad_configs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerFusionClassifierConfig(**{"encoder": tiny_encoder_config("bert"), **fields})
