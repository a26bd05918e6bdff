"""Layer fusion with an LLM: what the LLM gets to see, what is trained, what counts for the loss."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from reference import fusion as reference

from lrengine.models import LayerFusionConfig, LayerFusionForCausalLM
from lrengine.models.packing import pack_left
from tiny import ENCODERS, LLMS, pad_batch, random_sources, tiny_encoder, tiny_encoder_config, tiny_fusion, tiny_llm

SOURCES = random_sources([9, 1, 5])
PROMPTS = random_sources([2, 4, 3], seed=1, vocabulary=270)
LABELS = [[11, 12, 13, 2], [14, 2], [15, 16, 2]]
MAPPERS: list[dict[str, Any]] = [
    {"type": "linear"},
    {"type": "mlp", "hidden_dim": 35, "activation": "relu"},
    {"type": "mlp", "hidden_dim": 144, "activation": "gelu"},
    {"type": "latent", "num_latents": 5, "depth": 2, "heads": 3, "head_dim": 14, "ffn_dim": 50},
]


def padded_labels() -> torch.Tensor:
    ids, mask = pad_batch(LABELS, 0)
    return ids.masked_fill(mask == 0, -100)


def batch(pad: int = 0) -> tuple[torch.Tensor, ...]:
    return (*pad_batch(SOURCES, pad), *pad_batch(PROMPTS, 0))


def seen_by_llm(model: Any, *inputs: Any, **named: Any) -> dict[str, torch.Tensor]:
    """The keyword arguments of the LLM's body in one forward call."""
    seen: dict[str, torch.Tensor] = {}
    handle = model.llm.model.register_forward_pre_hook(lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True)
    model(*inputs, **named)
    handle.remove()
    return seen


@pytest.mark.parametrize("mapper", MAPPERS)
@pytest.mark.parametrize("bos", [1, None])
def test_the_llm_sees_the_references_rows(mapper: dict[str, Any], bos: int | None) -> None:
    model = tiny_fusion("mt5", "llama", mapper=mapper, bos_token_id=bos).double()
    with torch.no_grad():
        seen = seen_by_llm(model, *batch(), labels=padded_labels())
        weights = {name[7:]: value.numpy() for name, value in model.state_dict().items() if name.startswith("mapper.")}
        table = model.llm.get_input_embeddings().weight.numpy()
        for row, (source, prompt, labels) in enumerate(zip(SOURCES, PROMPTS, LABELS, strict=True)):
            fused = model.fused_states(torch.tensor([source]), None)[0][0].numpy()
            mapped = reference.map_tokens(weights, model.config.mapper, fused)
            expected = reference.llm_input(mapped, model.end_boundary.numpy(), table, bos, prompt, labels)
            length = len(expected)
            np.testing.assert_allclose(seen["inputs_embeds"][row, -length:], expected, rtol=0, atol=1e-10)
            assert seen["attention_mask"][row].sum() == length
            assert seen["attention_mask"][row, -length:].all()
            assert seen["position_ids"][row, -length:].tolist() == list(range(length))


@pytest.mark.parametrize(("encoder", "llm"), list(zip(ENCODERS, itertools.cycle(LLMS), strict=False)))
def test_a_row_alone_is_the_row_in_a_batch(encoder: str, llm: str) -> None:
    model = tiny_fusion(encoder, llm, mapper="mlp", mixer={"type": "transformer", "add_global": True})
    together = model(*batch(model.config.encoder.pad_token_id), labels=padded_labels())
    for row, (source, prompt, labels) in enumerate(zip(SOURCES, PROMPTS, LABELS, strict=True)):
        alone = model(torch.tensor([source]), prompt_ids=torch.tensor([prompt]), labels=torch.tensor([labels]))
        torch.testing.assert_close(together.logits[row, : len(labels)], alone.logits[0], rtol=0, atol=2e-4)
        torch.testing.assert_close(
            together.mixer_weights[row, : len(source)], alone.mixer_weights[0], rtol=0, atol=1e-4
        )
        assert together.mixer_weights[row, len(source) :].abs().sum() == 0


def test_the_loss_counts_label_tokens_only() -> None:
    model, labels = tiny_fusion(), padded_labels()
    output = model(*batch(), labels=labels)
    kept = labels != -100
    log_probabilities = output.logits.log_softmax(-1)[kept].gather(1, labels[kept][:, None])
    torch.testing.assert_close(output.loss, -log_probabilities.mean())
    torch.testing.assert_close(
        model(*batch(), labels=labels, num_items_in_batch=18).loss, -log_probabilities.sum() / 18
    )


def test_the_whole_llm_agrees_on_the_first_label() -> None:
    """Logits at label positions are those of the LLM's own forward over the packed rows."""
    model = tiny_fusion("bert", "qwen2")
    seen = seen_by_llm(model, *batch(), labels=padded_labels())
    whole = model.llm(
        inputs_embeds=seen["inputs_embeds"], attention_mask=seen["attention_mask"], position_ids=seen["position_ids"]
    ).logits
    found = model(*batch(), labels=padded_labels()).logits
    for row, labels in enumerate(LABELS):
        expected = whole[row, -len(labels) - 1 : -1]
        torch.testing.assert_close(found[row, : len(labels)], expected, rtol=0, atol=1e-5)


def test_only_mixer_mapper_and_boundary_are_trained() -> None:
    model = tiny_fusion()
    model.train()
    assert not any(module.training for part in (model.encoder, model.llm) for module in part.modules())
    assert model.mixer.dropout.training
    model(*batch(), labels=padded_labels()).loss.backward()
    for name, parameter in model.named_parameters():
        trained = name.startswith(("mixer.", "mapper.")) or name == "end_boundary"
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
    assert model.mixer.position_embeddings.grad.abs().sum() > 0


def test_parts_can_be_trained_too() -> None:
    model = tiny_fusion("m2m_100", freeze_encoder=False, freeze_llm=False).train()
    model(*batch(1), labels=padded_labels()).loss.backward()
    assert model.encoder.layers[0].fc1.weight.grad.abs().sum() > 0
    assert model.llm.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_parts_keep_their_weights_and_settings() -> None:
    encoder, llm = tiny_encoder("t5"), tiny_llm("qwen2")
    implementation = llm.config._attn_implementation
    model = LayerFusionForCausalLM.from_pretrained_parts(encoder, llm, mixer="global")
    for name, value in encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value)
    assert model.llm is llm and llm.config._attn_implementation == implementation is not None
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.end_boundary.abs().sum() == 0


def test_parts_come_from_directories(tmp_path: Any) -> None:
    tiny_encoder("mt5").save_pretrained(tmp_path / "encoder")
    tiny_llm("llama3").save_pretrained(tmp_path / "llm")
    model = LayerFusionForCausalLM.from_pretrained_parts(tmp_path / "encoder", tmp_path / "llm", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.encoder.shared.weight, tiny_encoder("mt5").shared.weight.bfloat16())
    assert model(*batch(), labels=padded_labels()).loss.isfinite()


def test_gradient_checkpointing_reaches_the_mapper() -> None:
    model = tiny_fusion().train()
    model.gradient_checkpointing_enable()
    model(*batch(), labels=padded_labels()).loss.backward()
    assert model.mapper.layers[0].weight.grad.abs().sum() > 0


def test_packing_squeezes_holes_out() -> None:
    values = torch.arange(1.0, 11.0).reshape(2, 5, 1)
    first, second = values[:, :3], values[:, 3:]
    packed = pack_left([(first, torch.tensor([[1, 0, 1], [0, 0, 1]])), (second, torch.tensor([[0, 1], [1, 1]]))])
    assert packed.embeddings[..., 0].tolist() == [[1, 3, 5], [8, 9, 10]]
    assert packed.mask.tolist() == [[1, 1, 1], [1, 1, 1]]
    packed = pack_left([(first, torch.tensor([[1, 0, 1], [0, 0, 1]])), (second, torch.zeros(2, 2))])
    assert packed.embeddings[..., 0].tolist() == [[1, 3], [0, 8]]
    assert packed.mask.tolist() == [[1, 1], [0, 1]]
    assert packed.position_ids.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"llm": {"model_type": "gpt2"}}, "gpt2"),
        ({"encoder": {"model_type": "llama"}}, "llama"),
        ({"mapper": "cubic"}, "mapper"),
        ({"mapper": {"type": "mlp", "activation": "tanh"}}, "tanh"),
        ({"mapper": {"type": "linear", "hidden_dim": 3}}, "hidden_dim"),
        ({"mixer": "mean"}, "mixer"),
        ({"prompt_template": "no place"}, "prompt_template"),
        ({"llm": None}, "llm"),
    ],
)
def test_bad_configs_are_refused(fields: dict[str, Any], message: str) -> None:
    good = {"encoder": tiny_encoder_config("mt5"), "llm": tiny_llm().config}
    with pytest.raises(ValueError, match=message):
        LayerFusionConfig(**{**good, **fields})
