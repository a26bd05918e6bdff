"""SWCM in PyTorch: where the encoder's weights go, and that the numbers are those of the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from reference import swcm as reference
from transformers import AutoModelForMaskedLM, XLMRobertaConfig

from lrengine.models import SwcmConfig, SwcmForConditionalGeneration
from lrengine.models.swcm_decoder import _attention_mask
from tiny import BERT_ENCODERS, pad_batch, random_sources, randomise, tiny_encoder, tiny_encoder_config, tiny_swcm

# MODELS.md: decoder part -> encoder source; the norms only in the encoder's own form.
ATTENTION = {
    "q_proj": "attention.self.query",
    "k_proj": "attention.self.key",
    "v_proj": "attention.self.value",
    "out_proj": "attention.output.dense",
}
FEED_FORWARD = {"fc_in": "intermediate.dense", "fc_out": "output.dense"}
NORMS = {
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
    "norm3": "attention.output.LayerNorm",
    "norm4": "output.LayerNorm",
}
BERT_IDS = {"bos_token_id": 3, "pad_token_id": 0, "eos_token_id": 4}


def sources_of(norm_style: str, sharing: str) -> dict[str, str]:
    """Every part of a custom layer that must come from its encoder layer."""
    parts = {}
    if sharing == "init":
        for block, table in zip(
            ("self_attention", "cross_attention", "ffn1", "ffn2"), (ATTENTION,) * 2 + (FEED_FORWARD,) * 2, strict=True
        ):
            parts.update({f"{block}.{part}": source for part, source in table.items()})
    if norm_style == "post":
        parts.update(NORMS)
    return parts


def misplaced(model: Any, encoder: Any) -> list[str]:
    """Decoder tensors that differ from the encoder tensor they must be a copy of."""
    config, own, source = model.config, model.state_dict(), encoder.state_dict()
    custom = [index for index, kind in enumerate(config.layer_kinds()) if kind == "custom"]
    wrong = []
    for layer, place in enumerate(custom):
        for part, origin in sources_of(config.norm_style, config.sharing).items():
            for kind in ("weight", "bias"):
                name = f"decoder.layers.{place}.{part}.{kind}"
                if not torch.equal(own[name], source[f"encoder.layer.{layer}.{origin}.{kind}"]):
                    wrong.append(name)
    return wrong


@pytest.mark.parametrize("kind", BERT_ENCODERS)
@pytest.mark.parametrize("norm_style", ["post", "published"])
def test_every_encoder_weight_is_in_its_place(kind: str, norm_style: str) -> None:
    encoder = tiny_encoder(kind)
    model = SwcmForConditionalGeneration.from_encoder(
        encoder, norm_style=norm_style, normal_layer_interval=2, **BERT_IDS
    )
    assert misplaced(model, encoder) == []
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.state_dict()[f"encoder.{name}"], value)
    with torch.no_grad():
        model.decoder.layers[3].cross_attention.v_proj.bias[5] += (
            1e-3  # layer 3 is custom layer 2: a normal one precedes
        )
    assert misplaced(model, encoder) == ["decoder.layers.3.cross_attention.v_proj.bias"]


def test_copied_weights_train_apart() -> None:
    encoder = tiny_encoder()
    model = SwcmForConditionalGeneration.from_encoder(encoder)
    storages = [parameter.data_ptr() for parameter in model.parameters()]
    assert len(storages) == len(set(storages))
    assert not {parameter.data_ptr() for parameter in encoder.parameters()} & set(storages)


def test_tied_layers_own_no_matrices_and_train_the_encoder() -> None:
    model = SwcmForConditionalGeneration.from_encoder(tiny_encoder(), sharing="tied", normal_layer_interval=2)
    custom = [index for index, kind in enumerate(model.config.layer_kinds()) if kind == "custom"]
    for index in custom:
        names = {name for name in model.state_dict() if name.startswith(f"decoder.layers.{index}.")}
        assert names == {f"decoder.layers.{index}.norm{n}.{kind}" for n in range(1, 5) for kind in ("weight", "bias")}
    assert misplaced(model, tiny_encoder()) == []
    # Only the decoder runs: a gradient in the encoder's matrices comes through the custom layers.
    states = torch.randn(1, 4, 72)
    model(encoder_outputs=(states,), labels=torch.tensor([[7, 8, 2]])).loss.backward()
    for layer in model.encoder.encoder.layer:
        assert layer.attention.self.query.weight.grad.abs().sum() > 0
        assert layer.output.dense.weight.grad.abs().sum() > 0


def test_sharing_none_copies_nothing_into_the_decoder() -> None:
    encoder = tiny_encoder()
    model = SwcmForConditionalGeneration.from_encoder(encoder, sharing="none")
    values = [value for name, value in model.named_parameters() if name.startswith("decoder.") and value.dim() == 2]
    for value in values:
        assert not any(value.shape == other.shape and torch.equal(value, other) for other in encoder.parameters())


def test_tied_equals_init_until_training() -> None:
    source, mask = pad_batch(random_sources([6, 3]), 1)
    options = {"normal_layer_interval": 0}
    models = [SwcmForConditionalGeneration.from_encoder(tiny_encoder(), sharing=s, **options) for s in ("init", "tied")]
    target = torch.tensor([[0, 9, 8], [0, 7, 6]])
    first, second = (model.eval()(source, mask, target).logits for model in models)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "interval", "after_last", "expected"),
    [
        (12, 3, True, "cccncccncccncccn"),
        (12, 3, False, "cccncccncccnccc"),
        (4, 3, True, "cccnc"),
        (3, 0, True, "ccc"),
        (3, 1, False, "cncnc"),
        (3, 5, True, "ccc"),
    ],
)
def test_order_of_layers(layers: int, interval: int, after_last: bool, expected: str) -> None:
    config = SwcmConfig(
        encoder=tiny_encoder_config("xlm-roberta", layers), normal_layer_interval=interval, normal_after_last=after_last
    )
    assert "".join(kind[0] for kind in config.layer_kinds()) == expected


def parameter_count(**options: Any) -> int:
    encoder = XLMRobertaConfig(vocab_size=135359, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    with torch.device("meta"):
        model = SwcmForConditionalGeneration(SwcmConfig(encoder=encoder, **options))
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_of_the_published_sizes() -> None:
    d, f, vocabulary = 768, 3072, 135359
    attention, feed_forward, norm = 4 * (d * d + d), 2 * d * f + d + f, 2 * d
    encoder = (vocabulary + 514 + 1) * d + norm + 12 * (attention + feed_forward + 2 * norm)
    custom, head = 2 * attention + 2 * feed_forward + 4 * norm, vocabulary * (d + 1)
    published = parameter_count(
        norm_style="published", normal_after_last=False, tie_word_embeddings=False, output_bias=True
    )
    assert published == encoder + 12 * custom + 3 * (2 * attention + feed_forward + 2 * norm) + head
    assert published // 10**5 == 4919  # the paper's 492M
    tied = parameter_count(sharing="tied", normal_after_last=True)
    assert tied == encoder + 12 * 4 * norm + 4 * (2 * attention + feed_forward + 3 * norm)
    assert tied // 10**6 == 227


@pytest.mark.parametrize("kind", BERT_ENCODERS)
@pytest.mark.parametrize("norm_style", ["post", "published"])
@pytest.mark.parametrize("sharing", ["init", "tied"])
def test_logits_are_the_references(kind: str, norm_style: str, sharing: str) -> None:
    tied = sharing == "tied"
    model = tiny_swcm(
        kind,
        norm_style=norm_style,
        sharing=sharing,
        tie_word_embeddings=tied,
        output_bias=not tied,
        decoder_layer_norm_eps=1e-3,
    ).double()
    config = model.config
    sizes = reference.SwcmSizes(
        heads=3,
        encoder_layers=3,
        kinds=["custom", "custom", "normal", "custom"],
        norm_style=norm_style,
        tied=tied,
        encoder_eps=config.encoder.layer_norm_eps,
        decoder_eps=1e-3,
        position_offset=0 if kind == "bert" else 2,
    )
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    sources, targets = random_sources([7, 1, 4]), random_sources([5, 5, 5], seed=1)
    ids, mask = pad_batch(sources, model.config.encoder.pad_token_id)
    with torch.no_grad():
        found = model(ids, mask, torch.tensor(targets)).logits.numpy()
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        np.testing.assert_allclose(found[row], reference.logits(weights, sizes, source, target), rtol=0, atol=1e-10)


def test_labels_are_shifted_right_and_masked_ones_do_not_count() -> None:
    model = tiny_swcm()
    source, mask = pad_batch(random_sources([6, 3]), 1)
    labels = torch.tensor([[7, 8, 9, 2], [5, 2, -100, -100]])
    decoder_ids = torch.tensor([[0, 7, 8, 9], [0, 5, 2, 1]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), decoder_ids)
    output = model(source, mask, labels=labels)
    log_probabilities = model(source, mask, decoder_ids).logits.log_softmax(-1)
    kept = labels != -100
    expected = -log_probabilities[kept].gather(1, labels[kept][:, None])
    torch.testing.assert_close(output.loss, expected.mean())
    torch.testing.assert_close(model(source, mask, labels=labels, num_items_in_batch=24).loss, expected.sum() / 24)


def test_left_padded_targets_give_the_same_logits() -> None:
    model = tiny_swcm()
    source, mask = pad_batch(random_sources([6]), 1)
    target = torch.tensor([[0, 9, 8]])
    padded, target_mask = torch.tensor([[1, 1, 0, 9, 8]]), torch.tensor([[0, 0, 1, 1, 1]])
    expected = model(source, mask, target).logits
    found = model(source, mask, padded, decoder_attention_mask=target_mask).logits
    assert not found.isnan().any()
    torch.testing.assert_close(found[:, 2:], expected, rtol=0, atol=1e-5)


def test_a_masked_row_looks_at_itself() -> None:
    """Older torch gives NaN for a row that looks nowhere."""
    mask = _attention_mask(torch.tensor([[0, 0, 0, 1, 1]]), past=2, new=3, device=torch.device("cpu"))
    assert mask[0, 0].long().tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    mask = _attention_mask(torch.tensor([[0, 1]]), past=0, new=2, device=torch.device("cpu"))
    assert mask[0, 0].tolist() == [[True, False], [False, True]]


def test_gradient_checkpointing_changes_no_gradient() -> None:
    source, mask = pad_batch(random_sources([6, 3]), 1)
    labels = torch.tensor([[7, 8, 2], [5, 2, -100]])
    gradients = []
    for checkpointing in (False, True):
        model = tiny_swcm(sharing="tied")
        for module in model.modules():  # dropout would draw other masks
            for name in ("hidden_dropout", "attention_dropout", "dropout_prob", "p"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.decoder.gradient_checkpointing
        model(source, mask, labels=labels).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    model = tiny_swcm()
    states, target = (torch.randn(1, 5, 72),), torch.tensor([[0, 9, 8]])
    model.encoder.eval()
    one, two = (model(encoder_outputs=states, decoder_input_ids=target).logits for _ in range(2))
    assert torch.equal(one, two)
    model.decoder.train()
    one, two = (model(encoder_outputs=states, decoder_input_ids=target).logits for _ in range(2))
    assert not torch.allclose(one, two)


def test_from_encoder_takes_directories_and_models_that_hold_an_encoder(tmp_path: Any) -> None:
    masked_lm = randomise(AutoModelForMaskedLM.from_config(tiny_encoder_config("xlm-roberta")))
    masked_lm.save_pretrained(tmp_path)
    for source in (masked_lm, tmp_path, str(tmp_path)):
        model = SwcmForConditionalGeneration.from_encoder(source)
        assert misplaced(model, masked_lm.roberta) == []
    assert SwcmForConditionalGeneration.from_encoder(tmp_path, dtype="bfloat16").dtype == torch.bfloat16


def test_bert_needs_its_special_ids() -> None:
    with pytest.raises(ValueError, match="bos_token_id"):
        SwcmForConditionalGeneration.from_encoder(tiny_encoder("bert"))

    class Tokenizer:
        bos_token_id = eos_token_id = None
        cls_token_id, pad_token_id, sep_token_id = 3, 0, 4

    config = SwcmForConditionalGeneration.from_encoder(tiny_encoder("bert"), tokenizer=Tokenizer()).config
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (
        3,
        0,
        4,
        3,
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm_style": "pre"}, "norm_style"),
        ({"sharing": "some"}, "sharing"),
        ({"normal_layer_interval": -1}, "normal_layer_interval"),
        ({"vocab_size": 330}, "vocab_size"),
        ({"encoder": None}, "encoder"),
        ({"encoder": {"hidden_size": 5}}, "model_type"),
        ({"encoder": {"model_type": "mt5"}}, "BERT"),
    ],
)
def test_bad_configs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwcmConfig(**{"encoder": tiny_encoder_config("xlm-roberta"), **fields})


def test_a_target_beyond_the_position_table_is_refused() -> None:
    model = tiny_swcm()
    assert model.config.max_target_positions == 330
    states = (torch.randn(1, 2, 72),)
    model(encoder_outputs=states, decoder_input_ids=torch.full((1, 330), 9))
    with pytest.raises(ValueError, match="331 tokens"):
        model(encoder_outputs=states, decoder_input_ids=torch.full((1, 331), 9))
