"""Encoders: the list of layer states is the same thing for every kind and every version of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from lrengine.models.encoders import all_layer_states, build_encoder, load_encoder
from tiny import BERT_ENCODERS, ENCODERS, pad_batch, random_sources, randomise, tiny_encoder, tiny_encoder_config

SOURCES = random_sources([9, 1, 5])


def layer_modules(encoder: Any) -> tuple[list[Any], Any]:
    """The layers, and the final norm where there is one."""
    kind = encoder.config.model_type
    if kind in BERT_ENCODERS:
        return list(encoder.encoder.layer), None
    if kind == "m2m_100":
        return list(encoder.layers), encoder.layer_norm
    return list(encoder.encoder.block), encoder.encoder.final_layer_norm


@pytest.mark.parametrize("kind", ENCODERS)
def test_states_are_the_layers_outputs_and_the_last_is_after_the_final_norm(kind: str) -> None:
    encoder = tiny_encoder(kind, layers=4)
    layers, final_norm = layer_modules(encoder)
    seen: list[torch.Tensor] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
    states = all_layer_states(encoder, *pad_batch(SOURCES, encoder.config.pad_token_id))
    assert len(states) == 4
    expected = seen[:3] + [seen[3] if final_norm is None else final_norm(seen[3])]
    for found, wanted in zip(states, expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ENCODERS)
def test_padding_changes_no_token(kind: str) -> None:
    encoder = tiny_encoder(kind)
    together = all_layer_states(encoder, *pad_batch(SOURCES, encoder.config.pad_token_id))
    for row, source in enumerate(SOURCES):
        alone = all_layer_states(encoder, torch.tensor([source]), torch.ones(1, len(source), dtype=torch.long))
        for found, wanted in zip(together, alone, strict=True):
            torch.testing.assert_close(found[row, : len(source)], wanted[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_found_in_the_model_that_contains_it(kind: str, tmp_path: Any) -> None:
    whole_class = AutoModelForMaskedLM if kind in BERT_ENCODERS else AutoModelForSeq2SeqLM
    whole = randomise(whole_class.from_config(tiny_encoder_config(kind)))
    whole.save_pretrained(tmp_path)
    base = whole.base_model if kind in BERT_ENCODERS else whole.get_encoder()
    ids, mask = pad_batch(SOURCES, whole.config.pad_token_id)
    expected = base(input_ids=ids, attention_mask=mask).last_hidden_state
    for source in (whole, tmp_path):
        encoder = load_encoder(source)
        assert not any("pooler" in name or "decoder" in name for name in encoder.state_dict())
        found = all_layer_states(encoder, ids, mask)[-1]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_loaded_encoder_is_a_copy() -> None:
    original = tiny_encoder("mt5")
    copy = load_encoder(original)
    with torch.no_grad():
        copy.shared.weight.zero_()
    assert original.shared.weight.abs().sum() > 0


def test_unknown_encoders_are_refused(tmp_path: Any) -> None:
    config = AutoConfig.for_model("gpt2")
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="gpt2"):
        build_encoder(config)
    with pytest.raises(ValueError, match="gpt2"):
        load_encoder(tmp_path)
