"""BAD_INPUTS 5 for Engine.load: a config.json that is broken or lies. (In C++: attack_config_test.cpp, which goes
through every field of every model type.)"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lrengine import Engine
from lrengine.errors import LrengineError, ModelFileError, UnsupportedModelError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from model_copies import SOURCE, Copies, changed, missing  # noqa: E402

from tiny import tiny_classifier, tiny_fusion, tiny_swcm  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Copies]:
    made = {"swcm": tiny_swcm(layers=1), "fusion": tiny_fusion(encoder="xlm-roberta"), "classifier": tiny_classifier()}
    folder = tmp_path_factory.mktemp("models")
    for name, model in made.items():
        model.save_pretrained(folder / name / "good")
    return {name: Copies(folder / name / "good", folder / name) for name in made}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty file"),
        (b"{", "not JSON"),
        (b"[]", "a list"),
        (b"null", "null"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (b'{"model_type": "swcm", "model_type": "swcm"}', "twice"),
        (b"[" * 200_000, "nesting"),
        (b'{"a":' * 200_000, "nesting"),
        (b" " * 20_000_000, "20000000 bytes"),
        (b'{"model_type": "swcm", "vocab_size": ' + b"9" * 100_000 + b"}", "number overflow"),
        (b'{"model_type": "' + b"x" * 1_000_000 + b'"}', "model_type: found"),
        (b"{}", "model_type: found nothing"),
    ],
)
def test_a_config_that_is_none(models: dict[str, Copies], content: bytes, match: str) -> None:
    for copies in models.values():
        error = UnsupportedModelError if b"xxx" in content else ModelFileError
        copies.refused(lambda folder: (folder / "config.json").write_bytes(content), error, f"config.json: .*{match}")


def test_no_config(models: dict[str, Copies]) -> None:
    match = "config.json: found No such file.*expected"
    models["swcm"].refused(lambda folder: (folder / "config.json").unlink(), ModelFileError, match)


NOT_JSON = "config.json: found not JSON"
LIES: list[tuple[str, str, Any, type[LrengineError], str]] = [
    ("swcm", "model_type", "gpt2", UnsupportedModelError, "model_type: found .gpt2., expected"),
    ("swcm", "model_type", ["swcm"], ModelFileError, "model_type: found a list"),
    ("swcm", "encoder", None, ModelFileError, "encoder: found null"),
    ("swcm", "encoder.hidden_size", "72", ModelFileError, "encoder.hidden_size: found .72., expected an integer"),
    ("swcm", "encoder.hidden_size", 72.0, ModelFileError, "encoder.hidden_size: found 72.0"),
    ("swcm", "encoder.hidden_size", True, ModelFileError, "encoder.hidden_size: found true"),
    ("swcm", "encoder.hidden_size", 71, ModelFileError, "a divisor of the width 71"),
    ("swcm", "encoder.hidden_size", 75, ModelFileError, "found shape.*expected"),
    ("swcm", "encoder.num_attention_heads", 5, ModelFileError, "num_attention_heads: found 5, expected a divisor"),
    ("swcm", "encoder.num_hidden_layers", 10**9, ModelFileError, "num_hidden_layers: found 1000000000"),
    ("swcm", "encoder.num_hidden_layers", 900, ModelFileError, "found no tensor"),
    ("swcm", "encoder.num_hidden_layers", 0, ModelFileError, "num_hidden_layers: found 0"),
    ("swcm", "encoder.max_position_embeddings", 10**12, ModelFileError, "max_position_embeddings: found"),
    ("swcm", "encoder.max_position_embeddings", 100_000, ModelFileError, "position_embeddings.*found"),
    ("fusion", "llm.max_position_embeddings", 10**12, ModelFileError, "max_position_embeddings: found"),
    ("swcm", "encoder.vocab_size", 330, ModelFileError, "vocab_size"),
    ("classifier", "encoder.vocab_size", 330, ModelFileError, "word_embeddings.weight: found .*330"),
    ("fusion", "llm.vocab_size", 276, ModelFileError, "embed_tokens.weight: found .*276"),
    ("swcm", "vocab_size", 330, ModelFileError, "vocab_size: found 330, expected .*331"),
    ("swcm", "decoder_layer_norm_eps", -1e-5, ModelFileError, "decoder_layer_norm_eps: found -1e-05"),
    ("swcm", "decoder_layer_norm_eps", 0, ModelFileError, "decoder_layer_norm_eps: found 0"),
    ("swcm", "decoder_layer_norm_eps", float("nan"), ModelFileError, NOT_JSON),
    ("fusion", "llm.rms_norm_eps", float("inf"), ModelFileError, NOT_JSON),
    ("swcm", "eos_token_id", None, ModelFileError, "eos_token_id: found null"),
    ("swcm", "eos_token_id", [], ModelFileError, "eos_token_id: found a list of 0"),
    ("swcm", "eos_token_id", 331, ModelFileError, "eos_token_id: found 331"),
    ("swcm", "decoder_start_token_id", -1, ModelFileError, "decoder_start_token_id: found -1"),
    ("swcm", "bos_token_id", missing, ModelFileError, "bos_token_id: found nothing"),
    ("fusion", "eos_token_id", missing, ModelFileError, "eos_token_id: found nothing"),
    ("fusion", "llm.num_key_value_heads", 4, ModelFileError, "num_key_value_heads: found 4"),
    ("fusion", "llm.rope_parameters", {"rope_type": "linear"}, LrengineError, "rope"),
    ("fusion", "mixer.type", "mean", UnsupportedModelError, "mixer.type: found"),
    ("fusion", "mapper", {"type": "mlp", "hidden_dim": 10**9, "activation": "relu"}, ModelFileError, "hidden_dim"),
    ("fusion", "prompt_template", "no place", ModelFileError, "prompt_template.*prompt"),
    ("fusion", "prompt_template", 3, ModelFileError, "prompt_template.*3"),
    ("classifier", "id2label", {}, ModelFileError, "id2label: found an object of 0"),
    ("classifier", "id2label", {"0": "a", "1": "a", "2": "b"}, ModelFileError, "id2label.1"),
    ("classifier", "id2label", {"0": "a", "2": "b"}, ModelFileError, "id2label.1"),
    ("classifier", "quantization", {"dtype": "int2", "scheme": "x"}, UnsupportedModelError, "quantization.dtype"),
    ("classifier", "quantization", {"dtype": "int8", "scheme": "per-row-symmetric"}, ModelFileError, "quantization"),
]


@pytest.mark.parametrize("model,place,value,error,match", LIES)
def test_a_field_that_lies(
    models: dict[str, Copies], model: str, place: str, value: Any, error: type[LrengineError], match: str
) -> None:
    copies = models[model]
    fields = json.dumps(changed(copies.config, place, value))
    copies.refused(lambda folder: (folder / "config.json").write_text(fields), error, match)


def test_the_undamaged_models_of_these_tests_answer(models: dict[str, Copies]) -> None:
    for copies in models.values():
        with copies.copy() as folder:
            assert len(Engine.load(folder, device="cpu").encode(SOURCE)) == 1
