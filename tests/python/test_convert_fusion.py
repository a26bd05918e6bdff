"""`lrengine convert` of LangBridge and published layer-fusion checkpoints: the converted model gives their logits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from published_fusion import FfnAlignment, LangBridge, LatentAlignment, LinearAlignment, PublishedFusion
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, XLMRobertaModel

from lrengine import Engine
from lrengine.cli import main
from lrengine.convert.options import ConvertOptions
from lrengine.convert.run import convert
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models import LayerFusionForCausalLM
from tiny import pad_batch, random_sources, tiny_encoder, tiny_encoder_config, tiny_llm

State = dict[str, torch.Tensor]
SOURCES = random_sources([5, 1, 11])
REST = [[9, 4, 270], [33, 20, 7], [5, 6, 100]]
BOS = 1
LLM_WIDTH = 60


def sub_configs(folder: Path, encoder: PreTrainedModel, llm: PreTrainedModel) -> ConvertOptions:
    """The configs alone, as a user has them from the sub-models' own directories."""
    for name, model in (("enc", encoder), ("llm", llm)):
        (folder / name).mkdir(parents=True)
        model.config.save_pretrained(folder / name)
    return ConvertOptions(encoder_config=folder / "enc", llm_config=folder / "llm/config.json")


def langbridge(kind: str, encoder: str = "mt5", llm: str = "llama") -> LangBridge:
    torch.manual_seed(3)
    alignments: dict[str, nn.Module] = {
        "linear": LinearAlignment(72, LLM_WIDTH),
        "ffn": FfnAlignment(72, LLM_WIDTH),
        "latent": LatentAlignment(72, LLM_WIDTH, latents=5, depth=2),
    }
    return LangBridge(tiny_encoder(encoder), tiny_llm(llm), alignments[kind]).eval()


def save_langbridge(model: LangBridge, folder: Path, kind: str, state: State | None = None, **fields: Any) -> Path:
    folder.mkdir()
    config = {"model_type": "langbridge", "enc": "some/mt5", "lm": "some/llm", "dim_enc": 72, "dim_lm": LLM_WIDTH}
    (folder / "config.json").write_text(json.dumps({**config, "alignments": kind, **fields}))
    torch.save(model.state_dict() if state is None else state, folder / "pytorch_model.bin")
    return folder


@torch.no_grad()
def assert_same_logits(model: nn.Module, directory: Path, bos: int = BOS) -> LayerFusionForCausalLM:
    """Ours in a padded batch against the published model row by row."""
    ours = LayerFusionForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    model.double()
    ids, mask = pad_batch(SOURCES, 1)
    found = ours(input_ids=ids, attention_mask=mask, labels=torch.tensor(REST)).logits
    for row, (source, rest) in enumerate(zip(SOURCES, REST, strict=True)):
        expected = model(source, rest, bos)[:-1]
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)
    return ours


@torch.no_grad()
def greedy(model: nn.Module, source: list[int], length: int) -> list[int]:
    tokens: list[int] = []
    for _ in range(length):
        tokens.append(int(model(source, tokens, BOS)[-1].argmax()))
    return tokens


@pytest.mark.parametrize("kind", ["linear", "ffn", "latent"])
def test_langbridge_logits_and_greedy_tokens(tmp_path: Path, kind: str) -> None:
    model = langbridge(kind)
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    convert(save_langbridge(model, tmp_path / "src", kind), tmp_path / "dst", options=replace(options, eos_id=[276]))
    ours = assert_same_logits(model, tmp_path / "dst")
    tokens = ours.generate(torch.tensor(SOURCES[:1]), max_new_tokens=6, min_new_tokens=6)[0].tolist()
    blocked = tokens.index(276) if 276 in tokens else 6
    assert tokens[:blocked] == greedy(model, SOURCES[0], 6)[:blocked]
    fields = json.loads((tmp_path / "dst/config.json").read_text())
    assert fields["mixer"]["type"] == "last" and fields["bos_token_id"] == BOS and fields["eos_token_id"] == 276


@pytest.mark.parametrize(("encoder", "llm"), [("umt5", "mistral"), ("xlm-roberta", "llama3")])
def test_langbridge_other_sub_models(tmp_path: Path, encoder: str, llm: str) -> None:
    model = langbridge("linear", encoder, llm)
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm(llm))
    convert(save_langbridge(model, tmp_path / "src", "linear"), tmp_path / "dst", options=options)
    assert_same_logits(model, tmp_path / "dst")


def test_a_null_head_dim_is_derived(tmp_path: Path) -> None:
    """As published Mistral configs have it."""
    model = langbridge("linear", llm="mistral")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("mistral"))
    file = tmp_path / "parts/llm/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "head_dim": None}))
    convert(save_langbridge(model, tmp_path / "src", "linear"), tmp_path / "dst", options=options)
    ours = assert_same_logits(model, tmp_path / "dst").float()
    expected = ours.generate(torch.tensor([SOURCES[0]]), max_new_tokens=6, do_sample=False)[0].tolist()
    (found,) = Engine.load(tmp_path / "dst", threads=1).generate([SOURCES[0]], max_new_tokens=6)
    assert found.tokens == [token for token in expected if token != 2]


@pytest.mark.parametrize("absent", ["lb.embeddings.weight", "lb.lm.embed_tokens.weight", "lb.enc.shared.weight"])
def test_either_name_of_an_aliased_tensor_is_enough(tmp_path: Path, absent: str) -> None:
    model = langbridge("linear")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items() if name != absent}
    source = save_langbridge(model, tmp_path / "src", "linear", state)
    (source / "pytorch_model.bin").unlink()
    save_file(state, source / "model.safetensors")
    convert(source, tmp_path / "dst", options=options)
    assert_same_logits(model, tmp_path / "dst")


def test_stop_ids_come_from_the_generation_config_beside_the_llm(tmp_path: Path) -> None:
    model = langbridge("linear")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    (tmp_path / "parts/llm/generation_config.json").write_text('{"eos_token_id": [2, 99], "pad_token_id": 44}')
    convert(save_langbridge(model, tmp_path / "src", "linear"), tmp_path / "dst", options=options)
    fields = json.loads((tmp_path / "dst/config.json").read_text())
    assert fields["eos_token_id"] == [2, 99] and fields["pad_token_id"] == 44


def test_tokenizers_of_both_sides_are_copied(tmp_path: Path) -> None:
    model = langbridge("linear")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    source = save_langbridge(model, tmp_path / "src", "linear")
    (source / "tokenizer.json").write_text('"encoder"')
    (tmp_path / "parts/tokenizer.json").write_text('"llm"')
    convert(source, tmp_path / "dst", options=replace(options, llm_tokenizer=tmp_path / "parts"))
    assert (tmp_path / "dst/tokenizer.json").read_text() == '"encoder"'
    assert (tmp_path / "dst/llm/tokenizer.json").read_text() == '"llm"'


@pytest.mark.parametrize("ends", [[276], [276, 99]])
def test_the_command_line_says_what_the_checkpoint_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: list[int]
) -> None:
    model = langbridge("linear")
    sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    source = save_langbridge(model, tmp_path / "src", "linear")
    for name in ("tokenizer", "llm-tokenizer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(f'"{name}"')
    target = tmp_path / "dst"
    command = ["convert", str(source), str(target), "--encoder-config", str(tmp_path / "parts/enc/config.json")]
    assert main(command) == 2 and "--llm-config" in capsys.readouterr().err
    command += ["--llm-config", str(tmp_path / "parts/llm"), "--bos-id", "3", "--pad-id", "4"]
    command += [word for end in ends for word in ("--eos-id", str(end))]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{target}: converted from langbridge"
    assert [line.partition(":")[0] for line in printed[1:]] == [str(target), str(target / "llm")], "no tokenizers yet"
    command += ["--llm-tokenizer", str(tmp_path / "llm-tokenizer"), "--tokenizer", str(tmp_path / "tokenizer")]
    assert main(command) == 2 and "--force" in capsys.readouterr().err
    assert main([*command, "--force", "--type", "langbridge"]) == 0
    assert capsys.readouterr().out == f"{target}: converted from langbridge\n"
    fields = json.loads((target / "config.json").read_text())
    assert fields["eos_token_id"] == (ends if len(ends) > 1 else ends[0])
    assert (fields["bos_token_id"], fields["pad_token_id"]) == (3, 4)
    assert (target / "tokenizer.json").read_text() == '"tokenizer"'
    assert (target / "llm/tokenizer.json").read_text() == '"llm-tokenizer"'
    assert_same_logits(model, target, bos=3)


def published_encoder(kind: str) -> PreTrainedModel:
    """As the published code holds it: with pooler; of T5 the bare stack."""
    if kind == "xlm-roberta":
        encoder = XLMRobertaModel(tiny_encoder_config(kind))
        encoder.load_state_dict(tiny_encoder(kind).state_dict(), strict=False)
        return encoder
    return tiny_encoder(kind).encoder if kind == "mt5" else tiny_encoder(kind)


@pytest.mark.parametrize(
    ("encoder", "mixer", "mapper", "llm"),
    [
        ("mt5", "global", ("fc",), "llama3"),
        ("mt5", "transformer", ("fc",), "llama"),
        ("xlm-roberta", "transformer", ("fc1", "fc2"), "qwen2"),
        ("m2m_100", "global", ("linear1", "linear2"), "llama"),
        ("xlm-roberta", "last", ("fc",), "llama"),
    ],
)
def test_layer_fusion_logits(tmp_path: Path, encoder: str, mixer: str, mapper: tuple[str, ...], llm: str) -> None:
    torch.manual_seed(5)
    model = PublishedFusion(published_encoder(encoder), tiny_llm(llm), mixer, mapper).eval()
    options = sub_configs(tmp_path / "parts", tiny_encoder(encoder), tiny_llm(llm))
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "best.pt")
    convert(tmp_path / "best.pt", tmp_path / "dst", options=options)
    ours = assert_same_logits(model, tmp_path / "dst")
    assert (ours.config.mixer["type"], ours.config.mapper["type"]) == (mixer, "linear" if mapper == ("fc",) else "mlp")


def fusion_state(mixer: str = "transformer") -> State:
    torch.manual_seed(5)
    return PublishedFusion(published_encoder("mt5"), tiny_llm("llama"), mixer, ("fc",)).state_dict()


DAMAGES: dict[str, tuple[str, torch.Tensor | None, type[Exception], str]] = {
    "missing mapper": ("mapping.mlp.fc.bias", None, ModelFileError, "mapping.mlp.fc.bias is missing"),
    "missing mixer part": (
        "encoder_mt.layer_weights.transformerEncoder.layers.0.norm1.bias", None, ModelFileError, "mixer.norm1.bias"),
    "missing llm part": ("model_llm.model.norm.weight", None, ModelFileError, "llm.model.norm.weight"),
    "extra": ("model_llm.model.layers.7.mlp.up_proj.weight", torch.ones(2, 2), ModelFileError, "layers.7"),
    "unequal alias": ("llm_embedding_layer.weight", torch.zeros(277, 60), ModelFileError, "llm_embedding.*differs"),
    "wrong boundary": ("mapping.end_boundary", torch.ones(1, 1, 61), ModelFileError, r"found shape \[61\]"),
    "two mixer layers": (
        "encoder_mt.layer_weights.transformerEncoder.layers.1.norm1.bias", torch.ones(72), UnsupportedModelError,
        "several Transformer layers"),
    "unknown mapper": ("mapping.mlp.fc.weight", None, UnsupportedModelError, "mapping.mlp"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_fusion_checkpoints_are_named(tmp_path: Path, damage: str) -> None:
    name, value, error, message = DAMAGES[damage]
    state = {key: tensor for key, tensor in fusion_state().items() if key != name}
    torch.save(state if value is None else {**state, name: value}, tmp_path / "a.pt")
    options = sub_configs(tmp_path / "parts", tiny_encoder("mt5"), tiny_llm("llama"))
    with pytest.raises(error, match=message):
        convert(tmp_path / "a.pt", tmp_path / "dst", options=options)
    assert not (tmp_path / "dst").exists()


def test_sub_configs_are_asked_for_and_must_fit(tmp_path: Path) -> None:
    model = langbridge("linear")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    source = save_langbridge(model, tmp_path / "src", "linear")
    with pytest.raises(ModelFileError, match="--llm-config"):
        convert(source, tmp_path / "dst", options=replace(options, llm_config=None))
    wrong = sub_configs(tmp_path / "wrong", tiny_encoder("mt5", d_model=60), tiny_llm("llama"))
    with pytest.raises(ModelFileError, match="dim_enc: found 72, expected the sub-config's 60"):
        convert(source, tmp_path / "dst", options=wrong)
    longer = sub_configs(tmp_path / "longer", tiny_encoder("mt5", layers=4), tiny_llm("llama"))
    with pytest.raises(ModelFileError, match=r"0 tensors for encoder.encoder.block.3"):
        convert(source, tmp_path / "dst", options=longer)
    with pytest.raises(UnsupportedModelError, match="found model_type 'llama', expected one of bert"):
        convert(source, tmp_path / "dst", options=replace(options, encoder_config=options.llm_config))
    with pytest.raises(ModelFileError, match="--eos-id"):
        fields = json.loads((tmp_path / "parts/llm/config.json").read_text())
        (tmp_path / "parts/llm/config.json").write_text(json.dumps({**fields, "eos_token_id": None}))
        convert(source, tmp_path / "dst", options=options)


def test_nothing_is_looked_up_by_the_names_in_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", no_network)
    model = langbridge("linear")
    options = sub_configs(tmp_path / "parts", model.lb.enc, tiny_llm("llama"))
    convert(save_langbridge(model, tmp_path / "src", "linear"), tmp_path / "dst", options=options)
