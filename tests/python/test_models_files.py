"""Model directories: they round-trip, hold every field and tensor of docs/MODEL_DIRECTORY.md, and either supported line
of transformers reads what the other wrote."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from tiny import pad_batch, random_sources, save, tiny_classifier, tiny_fusion, tiny_swcm

ROOT = Path(__file__).parents[2]
LABELS = torch.tensor([[7, 8, 2], [9, 2, -100]])

MODELS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "swcm-init": (AutoModelForSeq2SeqLM, lambda: tiny_swcm(tie_word_embeddings=False, output_bias=True)),
    "swcm-tied": (AutoModelForSeq2SeqLM, lambda: tiny_swcm("bert", sharing="tied")),
    "swcm-published": (AutoModelForSeq2SeqLM, lambda: tiny_swcm("roberta", norm_style="published")),
    "fusion-mt5": (AutoModelForCausalLM, lambda: tiny_fusion("mt5", "llama3")),
    "fusion-umt5": (AutoModelForCausalLM, lambda: tiny_fusion("umt5", "qwen2", mixer="global", mapper="mlp")),
    "fusion-nllb": (AutoModelForCausalLM, lambda: tiny_fusion("m2m_100", "qwen3", mixer="last")),
    "fusion-bert": (AutoModelForCausalLM, lambda: tiny_fusion("bert", "mistral", mapper="latent")),
    "classifier-t5": (AutoModelForSequenceClassification, lambda: tiny_classifier("t5")),
    "classifier-xlmr": (AutoModelForSequenceClassification, lambda: tiny_classifier("xlm-roberta", "global")),
}


def logits_of(model: Any) -> torch.Tensor:
    ids, mask = pad_batch(random_sources([6, 3]), model.config.encoder.pad_token_id)
    labels = torch.tensor([0, 1]) if model.config.model_type == "layer_fusion_classifier" else LABELS
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, labels=labels).logits


def tensor_names(directory: Path) -> set[str]:
    from safetensors import safe_open

    names: set[str] = set()
    for file in directory.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names |= set(tensors.keys())
    return names


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    auto, make = MODELS[name]
    model = make()
    save(model, tmp_path)
    transformers.utils.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    transformers.utils.logging.disable_propagation()
    assert type(loaded) is type(model)
    assert not any(info.values()), info
    assert not [record.message for record in caplog.records if "weights" in record.message]
    torch.testing.assert_close(logits_of(loaded), logits_of(model), rtol=0, atol=1e-5)
    trained = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    assert {key: parameter.requires_grad for key, parameter in loaded.named_parameters()} == trained
    assert loaded.config.to_dict() == {
        **model.config.to_dict(),
        "dtype": "float32",
        "architectures": [type(model).__name__],
    }


@pytest.mark.parametrize("name", ["swcm-tied", "fusion-mt5", "classifier-t5"])
def test_sharded_and_bfloat16(name: str, tmp_path: Path) -> None:
    auto, make = MODELS[name]
    model = make()
    save(model, tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(logits_of(auto.from_pretrained(tmp_path)), logits_of(model), rtol=0, atol=1e-5)
    half = auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert logits_of(half).isfinite().all()


def test_tensor_names_of_the_contract(tmp_path: Path) -> None:
    names = tensor_names(save(tiny_swcm(sharing="tied"), tmp_path / "swcm"))  # layer 2 is the normal one
    assert not any("pooler" in name for name in names)
    assert {name for name in names if name.startswith("lm_head")} == set()
    assert {"encoder.embeddings.word_embeddings.weight", "encoder.encoder.layer.2.output.dense.bias"} <= names
    assert {
        "decoder.layers.2.self_attention.q_proj.weight",
        "decoder.layers.2.ffn.fc_out.bias",
    } <= names
    assert "decoder.layers.0.ffn1.fc_in.weight" not in names

    published = {"norm_style": "published", "tie_word_embeddings": False, "output_bias": True}
    names = tensor_names(save(tiny_swcm(**published), tmp_path / "published"))
    assert {
        "lm_head.weight",
        "lm_head.bias",
        "decoder.layers.0.ffn2.fc_in.weight",
        "decoder.layers.3.norm4.bias",
    } <= names
    assert "decoder.layers.2.norm3.weight" not in names

    names = tensor_names(save(tiny_fusion("mt5", "qwen2"), tmp_path / "mt5"))
    assert {"encoder.shared.weight", "encoder.encoder.final_layer_norm.weight", "end_boundary"} <= names
    assert {"mixer.attention.in_proj_weight", "mixer.output.bias", "mapper.layers.0.weight"} <= names
    assert not {"encoder.encoder.embed_tokens.weight", "llm.lm_head.weight", "mixer.layer_logits"} & names  # aliases
    mixer = {"type": "transformer", "add_global": True}
    names = tensor_names(save(tiny_fusion("m2m_100", "llama", mixer), tmp_path / "nllb"))
    assert {
        "encoder.embed_tokens.weight",
        "encoder.layers.0.self_attn.q_proj.weight",
        "encoder.layer_norm.bias",
    } <= names
    assert {"llm.lm_head.weight", "llm.model.norm.weight", "mixer.layer_logits", "mixer.temperature"} <= names


def test_configs_are_complete(tmp_path: Path) -> None:
    save(tiny_fusion("xlm-roberta", "llama3"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "layer_fusion"
    encoder, llm = config["encoder"], config["llm"]
    assert encoder["model_type"] == "xlm-roberta" and encoder["hidden_act"] == "gelu" and encoder["pad_token_id"] == 1
    assert llm["model_type"] == "llama" and llm["rms_norm_eps"] == 1e-6 and llm["hidden_act"] == "silu"
    assert llm["tie_word_embeddings"] is True and llm["mlp_bias"] is False
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    assert llm["rope_theta"] == 500000.0
    assert llm["rope_scaling"] == {"rope_type": "llama3", **scaling}
    assert llm["rope_parameters"] == {"rope_type": "llama3", "rope_theta": 500000.0, **scaling}
    assert config["mixer"] == {
        "type": "transformer", "temperature_base": 100.0, "temperature_factor": 1e5, "ffn_dim": 88,
        "layer_norm_eps": 1e-5, "dropout": 0.1, "add_global": False,
    }  # fmt: skip
    assert not {"max_length", "num_beams", "do_sample"} & (set(config) | set(encoder) | set(llm))
    assert {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}.items() <= config.items()

    save(tiny_swcm("roberta"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    expected = {
        "vocab_size": 331, "normal_layer_interval": 2, "normal_after_last": True, "norm_style": "post",
        "sharing": "init", "tie_word_embeddings": True, "output_bias": False, "decoder_layer_norm_eps": 1e-5,
        "decoder_start_token_id": 0, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
    }  # fmt: skip
    assert expected.items() <= config.items()

    save(tiny_classifier(labels=("a", "b")), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b"} and config["pooling"] == "mean"


@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0}])
def test_rope_in_either_spelling_is_the_same_model(scaling: dict[str, Any] | None, tmp_path: Path) -> None:
    model = tiny_fusion("mt5", "llama")
    if scaling:
        model.config.llm = AutoConfig.for_model(**{**model.config.to_dict()["llm"], "rope_scaling": dict(scaling)})
    written = model.config.to_dict()["llm"]
    assert written["rope_scaling"] == scaling and written["rope_theta"] == 10000.0
    old = {name: value for name, value in written.items() if name != "rope_parameters"}
    new = {name: value for name, value in written.items() if name not in ("rope_theta", "rope_scaling")}
    readable = [old, written] + ([new] if transformers.__version__ > "5" else [])
    for fields in readable:
        config = type(model.config)(encoder=model.config.encoder, llm=fields)
        assert config.to_dict()["llm"]["rope_parameters"] == written["rope_parameters"]


def other_transformers() -> dict[str, str]:
    """The environment in which `import transformers` gives the other supported line than here: 4.x lies over the
    installed 5.x in a folder (LRENGINE_TF4, or where `make test` puts it)."""
    overlay = os.environ.get("LRENGINE_TF4") or str(Path(sys.prefix) / "transformers-4")
    if not (Path(overlay) / "transformers").is_dir():
        pytest.skip("no second transformers: set LRENGINE_TF4 to a folder that holds one")
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if transformers.__version__ < "5":
        paths = [path for path in paths if not (Path(path) / "transformers").is_dir()]
    else:
        paths = [overlay, *paths]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT), str(Path(__file__).parent)])}


READER = """
import sys, torch, transformers
from test_models_files import MODELS, logits_of
version, names = transformers.__version__, sys.argv[2].split(",")
for name in names:
    model, info = MODELS[name][0].from_pretrained(f"{sys.argv[1]}/{name}", output_loading_info=True)
    assert not any(info.values()), (name, info)
    expected = torch.load(f"{sys.argv[1]}/{name}/logits.pt")
    torch.testing.assert_close(logits_of(model), expected, rtol=0, atol=2e-5)
    model.save_pretrained(f"{sys.argv[1]}/{name}-back")
print(version)
"""


def test_the_other_transformers_reads_and_writes_the_same_models(tmp_path: Path) -> None:
    environment = other_transformers()
    for name, (_, make) in MODELS.items():
        model = make()
        torch.save(logits_of(model), save(model, tmp_path / name) / "logits.pt")
    command = [sys.executable, "-W", "ignore", "-c", READER, str(tmp_path), ",".join(MODELS)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split()[-1].split(".")[0] != transformers.__version__.split(".")[0]
    for name, (auto, _) in MODELS.items():
        model, info = auto.from_pretrained(tmp_path / f"{name}-back", output_loading_info=True)
        assert not any(info.values()), (name, info)
        torch.testing.assert_close(logits_of(model), torch.load(tmp_path / name / "logits.pt"), rtol=0, atol=2e-5)


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "accelerate", "datasets"):
    sys.modules[name] = None  # importing it is an error, as where it is not installed
import lrengine, lrengine.cli
(answer,) = lrengine.Engine.load(sys.argv[1], threads=1).generate([[7, 8, 9]], max_new_tokens=4)
print(*answer.tokens)
status = lrengine.cli.main(["generate", sys.argv[1], "hello", "--max-new-tokens", "4", "--threads", "1"])
sys.exit(status or lrengine.cli.main(["info", sys.argv[1]]))
"""


def test_the_engine_and_its_commands_need_no_torch(tmp_path: Path) -> None:
    model = tiny_swcm(tie_word_embeddings=False)
    save(model, tmp_path)
    save_tokenizer(train_tokenizer(["hello, these are a few words of text"] * 3, 60), tmp_path)
    expected = model.generate(torch.tensor([[7, 8, 9]]), max_new_tokens=4, do_sample=False)[0, 1:].tolist()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    tokens = [int(token) for token in result.stdout.splitlines()[0].split()]
    assert tokens == [token for token in expected if token != 2]
    assert "swcm" in result.stdout, "what `lrengine info` says"
