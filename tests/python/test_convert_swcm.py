"""`lrengine convert` of the published SWCM checkpoint: the converted model gives the published one's logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from published_swcm import PublishedSwcm
from safetensors.torch import save_file
from transformers import XLMRobertaConfig

from lrengine.cli import main
from lrengine.convert.options import ConvertOptions
from lrengine.convert.run import convert
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models import SwcmForConditionalGeneration
from tiny import tiny_encoder

State = dict[str, torch.Tensor]
HEADS = ConvertOptions(encoder_heads=3)


def config(layers: int = 4, **changes: int) -> XLMRobertaConfig:
    fields = {"vocab_size": 331, "hidden_size": 72, "num_attention_heads": 3, "intermediate_size": 100,
              "max_position_embeddings": 40, "type_vocab_size": 1, "num_hidden_layers": layers}  # fmt: skip
    return XLMRobertaConfig(**{**fields, "layer_norm_eps": 1e-5, **changes})


def published(kinds: str = "ccncc", dtype: torch.dtype = torch.float64) -> PublishedSwcm:
    torch.manual_seed(len(kinds))
    return PublishedSwcm(config(kinds.count("c")), kinds).to(dtype).eval()


def save(state: State, path: Path) -> Path:
    torch.save(state, path)
    return path


@torch.no_grad()
def logits_of_both(model: PublishedSwcm, directory: Path) -> tuple[torch.Tensor, torch.Tensor]:
    ours = SwcmForConditionalGeneration.from_pretrained(directory, dtype=torch.float64).eval()
    source = torch.tensor([[0, 17, 300, 5, 99, 2], [0, 8, 2, 1, 1, 1]])
    mask = (source != 1).long()
    target = torch.tensor([[0, 41, 7, 300], [0, 12, 13, 14]])
    expected = model.double()(source, mask, target)
    return expected, ours(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits


@pytest.mark.parametrize(
    ("kinds", "interval", "after_last"),
    [("ccncc", 2, False), ("ccnccn", 2, True), ("cnc", 1, False), ("ccc", 0, False), ("cccnc", 3, False)],
)
def test_logits_and_layer_order(tmp_path: Path, kinds: str, interval: int, after_last: bool) -> None:
    model = published(kinds, torch.float32)
    convert(save(model.state_dict(), tmp_path / "xlm-swcm.bin"), tmp_path / "dst", options=HEADS)
    expected, found = logits_of_both(model, tmp_path / "dst")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    fields = json.loads((tmp_path / "dst/config.json").read_text())
    assert (fields["normal_layer_interval"], fields["normal_after_last"]) == (interval, after_last)
    assert (fields["norm_style"], fields["sharing"], fields["output_bias"]) == ("published", "init", True)
    assert fields["encoder"]["num_attention_heads"] == 3 and fields["decoder_layer_norm_eps"] == 1e-5


@pytest.mark.parametrize("wrapper", ["model_state_dict", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_and_prefixed_state_dicts(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    model = published("cnc")
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    path = save({wrapper: state, "epoch": 7} if wrapper else state, tmp_path / "pytorch_model.bin")
    convert(path, tmp_path / "dst", options=HEADS)
    expected, found = logits_of_both(model, tmp_path / "dst")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "sharded-safetensors", "sharded-torch", "legacy-torch"])
def test_every_file_form(tmp_path: Path, form: str) -> None:
    model = published("cnc")
    state = {name: tensor.float().clone() for name, tensor in model.state_dict().items()}
    source = tmp_path / "src"
    source.mkdir()
    if form == "safetensors":
        save_file(state, source / "model.safetensors")
    elif form == "legacy-torch":
        torch.save(state, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        stem, end, write = (
            ("model", "safetensors", save_file) if "safe" in form else ("pytorch_model", "bin", torch.save)
        )
        names = sorted(state)
        parts = {f"{stem}-{number}-of-2.{end}": names[number - 1 :: 2] for number in (1, 2)}
        for file, held in parts.items():
            write({name: state[name] for name in held}, source / file)
        weight_map = {name: file for file, held in parts.items() for name in held}
        (source / f"{stem}.{end}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    convert(source, tmp_path / "dst", options=HEADS)
    expected, found = logits_of_both(model, tmp_path / "dst")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_weights_stay_bfloat16(tmp_path: Path) -> None:
    model = published("cnc", torch.bfloat16)
    convert(save(model.state_dict(), tmp_path / "a.bin"), tmp_path / "dst", options=HEADS)
    ours = SwcmForConditionalGeneration.from_pretrained(tmp_path / "dst", dtype=torch.bfloat16)
    layer = model.state_dict()["decoder.layers.0.self_attention.in_proj_weight"]
    assert torch.equal(ours.decoder.layers[0].self_attention.k_proj.weight, layer[72:144])
    assert json.loads((tmp_path / "dst/config.json").read_text())["dtype"] == "bfloat16"


def test_a_given_encoder_config_decides_and_its_tokenizer_comes_along(tmp_path: Path) -> None:
    model = published("cnc")
    encoder = config(2)
    encoder.eos_token_id, encoder.hidden_dropout_prob = 17, 0.25
    encoder.save_pretrained(tmp_path / "base")
    (tmp_path / "base/tokenizer.json").write_text("{}")
    options = ConvertOptions(encoder_config=tmp_path / "base")
    convert(save(model.state_dict(), tmp_path / "a.pt"), tmp_path / "dst", options=options)
    expected, found = logits_of_both(model, tmp_path / "dst")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    fields = json.loads((tmp_path / "dst/config.json").read_text())
    assert fields["eos_token_id"] == 17 and fields["encoder"]["hidden_dropout_prob"] == 0.25
    assert (tmp_path / "dst/tokenizer.json").is_file()


def change(state: State, name: str, value: torch.Tensor | None) -> State:
    changed = {key: tensor for key, tensor in state.items() if key != name or value is not None}
    return changed if value is None else {**changed, name: value}


IN_PROJ = "decoder.layers.0.self_attention.in_proj_weight"
DAMAGES = {
    "missing": ("decoder.layers.2.norm4.bias", None, "decoder.layers.2.norm4.bias is missing"),
    "missing encoder part": ("encoder.encoder.layer.1.output.dense.bias", None, "encoder.encoder.layer.1.output.dense"),
    "extra": ("decoder.layers.0.norm5.weight", torch.ones(72), "no place in this model: decoder.layers.0.norm5"),
    "extra encoder part": ("encoder.adapter.weight", torch.ones(72), "has no encoder.adapter.weight"),
    "wrong shape": ("decoder.layers.1.ffn.0.weight", torch.ones(101, 72), r"found shape \[101, 72\], expected \[100"),
    "indivisible": (IN_PROJ, torch.ones(217, 72), r"found shape \[217, 72\]"),
    "unequal copy": ("decoder.embed_layer.LayerNorm.bias", torch.zeros(72), "decoder.embed_layer.*differs"),
    "nan": ("decoder.last_linear.bias", torch.full((331,), torch.nan), "last_linear.bias: found NaN"),
    "not a tensor of floats": ("decoder.last_linear.bias", torch.ones(331, dtype=torch.int64), "found type I64"),
    "gap": ("decoder.layers.9.norm1.bias", torch.ones(72), "expected 0, 1, 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoints_are_named_and_leave_nothing(tmp_path: Path, damage: str) -> None:
    name, value, message = DAMAGES[damage]
    path = save(change(published("cnc", torch.float32).state_dict(), name, value), tmp_path / "a.bin")
    with pytest.raises(ModelFileError, match=message) as caught:
        convert(path, tmp_path / "dst", options=HEADS)
    assert "a.bin" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_layer_orders_without_an_interval_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="cnccc"):
        convert(save(published("cnccc").state_dict(), tmp_path / "a.bin"), tmp_path / "dst", options=HEADS)


def test_heads_that_cannot_be_inferred_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(published("cnc").state_dict(), tmp_path / "a.bin")
    assert main(["convert", str(path), str(tmp_path / "dst")]) == 2
    assert "--encoder-heads" in capsys.readouterr().err
    assert main(["convert", str(path), str(tmp_path / "dst"), "--encoder-heads", "3", "--type", "swcm"]) == 0
    assert "tokenizer" in capsys.readouterr().out


def test_a_new_model_from_an_encoder_directory(tmp_path: Path) -> None:
    encoder = tiny_encoder("xlm-roberta")
    encoder.save_pretrained(tmp_path / "encoder")
    assert main(["convert", str(tmp_path / "encoder"), str(tmp_path / "dst"), "--type", "swcm-from-encoder"]) == 0
    model = SwcmForConditionalGeneration.from_pretrained(tmp_path / "dst")
    query = encoder.encoder.layer[1].attention.self.query.weight
    assert torch.equal(model.decoder.custom_layers()[1].cross_attention.q_proj.weight, query)
    assert main(["convert", str(tmp_path / "absent"), str(tmp_path / "d"), "--type", "swcm-from-encoder"]) == 2


def test_an_existing_directory_is_replaced_only_when_forced(tmp_path: Path) -> None:
    path = save(published("cnc").state_dict(), tmp_path / "a.bin")
    old = tmp_path / "dst"
    old.mkdir()
    (old / "config.json").write_text("old")
    with pytest.raises(ModelFileError, match="--force"):
        convert(path, old, options=HEADS)
    damaged = save({"decoder.last_linear.weight": torch.ones(3, 3)}, tmp_path / "bad.bin")
    with pytest.raises(ModelFileError):
        convert(damaged, old, options=HEADS, force=True)
    assert (old / "config.json").read_text() == "old"
    convert(path, old, options=HEADS, force=True)
    assert (old / "model.safetensors").is_file()


def test_a_full_disk_leaves_the_old_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(published("cnc").state_dict(), tmp_path / "a.bin")
    old = tmp_path / "dst"
    old.mkdir()
    (old / "config.json").write_text("old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lrengine.safetensors_io.SafetensorsWriter.write", no_space)
    with pytest.raises(ModelFileError, match="No space left"):
        convert(path, old, options=HEADS, force=True)
    assert (old / "config.json").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bin", "dst"]
