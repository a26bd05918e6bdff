"""`lrengine quantize`: the int8 scheme, what is left alone, memory, and that a failure costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lrengine.cli import main
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.quantize import INT8_SCHEME, quantize
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import SafetensorsFile, SafetensorsWriter, TensorSpec, to_bfloat16_bits, to_float32

Tensors = dict[str, np.ndarray]
CODES = {"f4": "F32", "f2": "F16", "u2": "BF16", "i1": "I8", "u1": "U8", "i8": "I64"}


def write_tensors(path: Path, tensors: Tensors) -> None:
    specs = [TensorSpec(name, CODES[array.dtype.str[1:]], array.shape) for name, array in tensors.items()]
    with SafetensorsWriter(path, specs) as writer:
        for spec in writer.order:
            writer.write(spec.name, [tensors[spec.name]])


def write_model(directory: Path, tensors: Tensors, **config: object) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "layer_fusion_classifier", **config}))
    write_tensors(directory / "model.safetensors", tensors)
    return directory


def read_model(directory: Path) -> Tensors:
    with SafetensorsDirectory(directory) as tensors:
        return {name: tensors.read(name) for name in tensors.specs}


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_every_value_comes_back_within_half_a_step_of_its_row(tmp_path: Path) -> None:
    weight = normal(331, 72) * np.exp(normal(331, 1, seed=1) * 4)
    quantize(write_model(tmp_path / "src", {"classifier.weight": weight}), tmp_path / "dst", "int8")
    result = read_model(tmp_path / "dst")
    values, scales = result["classifier.weight"], result["classifier.weight_scale"]
    assert values.dtype == np.int8 and scales.dtype == np.float32
    np.testing.assert_array_equal(scales, np.abs(weight).max(axis=1) / np.float32(127))
    np.testing.assert_array_equal(np.abs(values).max(axis=1), 127)
    error = np.abs(values.astype(np.float64) * scales[:, None] - weight)
    assert (error <= scales[:, None] * 0.5000001).all()
    assert json.loads((tmp_path / "dst/config.json").read_text())["quantization"] == INT8_SCHEME


def test_halves_round_to_even_and_extreme_rows_stay_finite(tmp_path: Path) -> None:
    weight = np.zeros((5, 4), np.float32)
    weight[1] = [127, 0.5, 1.5, -2.5]
    weight[2] = [3e38, -3e38, 1, 0]
    weight[3] = [1e-45, 0, 0, -1e-45]  # the scale underflows to 0
    weight[4] = [1e-38, -1e-38, 5e-39, 0]
    quantize(write_model(tmp_path / "src", {"classifier.weight": weight}), tmp_path / "dst", "int8")
    result = read_model(tmp_path / "dst")
    values, scales = result["classifier.weight"], result["classifier.weight_scale"]
    assert scales[0] == 0 and scales[3] == 0 and np.isfinite(scales).all()
    expected = [[0, 0, 0, 0], [127, 0, 2, -2], [127, -127, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(values[:4], expected)
    np.testing.assert_array_equal(values[4, [0, 1, 3]], [127, -127, 0])
    np.testing.assert_allclose(values[4, 2] * scales[4], 5e-39, rtol=2e-2)


KEPT = {
    "encoder.embeddings.position_embeddings.weight": (9, 6),
    "encoder.embeddings.token_type_embeddings.weight": (2, 6),
    "encoder.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 3),
    "encoder.embeddings.LayerNorm.weight": (6,),
    "mixer.attention.in_proj_weight": (18, 6),
    "mixer.attention.out_proj.weight": (6, 6),
    "mixer.position_embeddings": (3, 6),
    "mixer.cls": (6,),
    "mapper.latents": (4, 6),
    "end_boundary": (8,),
    "classifier.bias": (3,),
}
MATRICES = {
    "encoder.embeddings.word_embeddings.weight": (31, 6),
    "encoder.shared.weight": (31, 6),
    "mixer.linear1.weight": (12, 6),
    "mixer.output.weight": (3, 6),
    "mapper.layers.0.weight": (8, 6),
    "llm.model.layers.0.mlp.gate_proj.weight": (12, 8),
    "llm.lm_head.weight": (17, 8),
    "decoder.layers.0.ffn1.fc_in.weight": (12, 6),
    "classifier.weight": (3, 6),
}


def test_products_and_word_embeddings_become_int8_and_nothing_else(tmp_path: Path) -> None:
    source = {name: normal(*shape) for name, shape in {**KEPT, **MATRICES}.items()}
    quantize(write_model(tmp_path / "src", source), tmp_path / "dst", "int8")
    result = read_model(tmp_path / "dst")
    assert {name for name, array in result.items() if array.dtype == np.int8} == set(MATRICES)
    assert set(result) == {*KEPT, *MATRICES, *(f"{name}_scale" for name in MATRICES)}
    for name in KEPT:
        np.testing.assert_array_equal(result[name], source[name])


@pytest.mark.parametrize("stored", ["BF16", "F16"])
def test_narrow_sources_are_quantised_as_their_float32_values(tmp_path: Path, stored: str) -> None:
    exact = to_float32(to_bfloat16_bits(normal(7, 5)), "BF16")
    source = to_bfloat16_bits(exact) if stored == "BF16" else exact.astype(np.float16)
    write_model(tmp_path / "src", {"a.weight": source, "a.bias": source[0]})
    write_model(tmp_path / "wide", {"a.weight": to_float32(source, stored), "a.bias": source[0]})
    quantize(tmp_path / "src", tmp_path / "dst", "int8")
    quantize(tmp_path / "wide", tmp_path / "dst_wide", "int8")
    narrow, wide = read_model(tmp_path / "dst"), read_model(tmp_path / "dst_wide")
    for name in wide:
        np.testing.assert_array_equal(narrow[name], wide[name])
    assert narrow["a.bias"].dtype == source.dtype


def test_bfloat16_rounds_matrices_to_even_and_keeps_vectors(tmp_path: Path) -> None:
    weight = np.array([[1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8) - 2**-20, 0.1]], np.float32)
    source = write_model(tmp_path / "src", {"a.weight": weight, "a.bias": weight[0]}, dtype="float32")
    quantize(source, tmp_path / "dst", "bfloat16")
    result = read_model(tmp_path / "dst")
    expected = [[1, 1 + 2**-6, -(1 + 2**-7), 0.10009765625]]
    np.testing.assert_array_equal(to_float32(result["a.weight"], "BF16"), np.array(expected, np.float32))
    np.testing.assert_array_equal(result["a.bias"], weight[0])
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config["dtype"] == "bfloat16" and "quantization" not in config


def test_int8_widens_back_to_float32_and_is_not_quantised_twice(tmp_path: Path) -> None:
    quantize(write_model(tmp_path / "src", {"a.weight": normal(5, 7), "a.bias": normal(5)}), tmp_path / "int8", "int8")
    quantize(tmp_path / "int8", tmp_path / "wide", "float32")
    small, wide = read_model(tmp_path / "int8"), read_model(tmp_path / "wide")
    assert set(wide) == {"a.weight", "a.bias"}
    np.testing.assert_array_equal(wide["a.weight"], small["a.weight"] * small["a.weight_scale"][:, None])
    assert "quantization" not in json.loads((tmp_path / "wide/config.json").read_text())
    with pytest.raises(UnsupportedModelError, match="already"):
        quantize(tmp_path / "int8", tmp_path / "again", "int8")


def test_shards_are_joined_and_the_other_files_come_along(tmp_path: Path) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 4)})
    (source / "model.safetensors").rename(source / "one.safetensors")
    write_tensors(source / "two.safetensors", {"b.weight": normal(5, 4), "b.steps": np.arange(3)})
    weight_map = {"a.weight": "one.safetensors", "b.weight": "two.safetensors", "b.steps": "two.safetensors"}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (source / "tokenizer.json").write_text("{}")
    (source / "llm").mkdir()
    (source / "llm/tokenizer.json").write_text("[]")
    quantize(source, tmp_path / "dst", "int8")
    files = {str(path.relative_to(tmp_path / "dst")) for path in (tmp_path / "dst").rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "tokenizer.json", "llm/tokenizer.json"}
    assert set(read_model(tmp_path / "dst")) == {"a.weight", "a.weight_scale", "b.weight", "b.weight_scale", "b.steps"}


def test_tensors_lie_at_multiples_of_their_element_size(tmp_path: Path) -> None:
    tensors = {"a": np.ones(3, np.int8), "b": normal(3), "c": np.ones(5, np.uint16), "d": np.arange(2)}
    write_tensors(tmp_path / "x.safetensors", tensors)
    with SafetensorsFile(tmp_path / "x.safetensors") as file:
        for name, array in tensors.items():
            assert file._offsets[name] % array.itemsize == 0
            np.testing.assert_array_equal(file.read(name), array)


def test_what_is_written_is_what_the_safetensors_package_reads(tmp_path: Path) -> None:
    import safetensors.numpy as safetensors

    tensors = {"a.weight": normal(9, 5), "é": np.array(3, np.float32)}
    write_tensors(tmp_path / "ours.safetensors", tensors)
    for name, array in safetensors.load_file(tmp_path / "ours.safetensors").items():
        np.testing.assert_array_equal(array, tensors[name])
    safetensors.save_file(tensors, tmp_path / "theirs.safetensors")
    with SafetensorsFile(tmp_path / "theirs.safetensors") as file:
        np.testing.assert_array_equal(file.read("a.weight"), tensors["a.weight"])


def test_memory_stays_far_below_one_large_tensor(tmp_path: Path) -> None:
    rows, width = 60_000, 256  # 61 MB
    source = write_model(tmp_path / "src", {"a.weight": np.ones((rows, width), np.float32)})
    tracemalloc.start()
    quantize(source, tmp_path / "dst", "int8")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "dst/model.safetensors").stat().st_size < rows * (width + 4) + 4096
    assert peak < 20e6  # blocks of 4 MB and what is computed from one


def test_neither_torch_nor_safetensors_is_imported(tmp_path: Path) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 4)})
    code = (
        "import sys; from lrengine.cli import main; "
        f"assert main(['quantize', {str(source)!r}, {str(tmp_path / 'dst')!r}]) == 0; "
        "assert not {'torch', 'safetensors', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_nan_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source = write_model(tmp_path / "src", {"a.weight": np.array([[1, np.nan]], np.float32)})
    with pytest.raises(ModelFileError, match="a.weight.*NaN"):
        quantize(source, tmp_path / "dst", "int8")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_an_existing_directory_is_kept_unless_forced_and_when_forcing_fails(tmp_path: Path) -> None:
    good = write_model(tmp_path / "good", {"a.weight": normal(3, 4)})
    bad = write_model(tmp_path / "bad", {"a.weight": np.full((1, 2), np.inf, np.float32)})
    old = write_model(tmp_path / "dst", {"old.weight": normal(1, 1)})
    for source, force in ((good, False), (bad, True)):
        with pytest.raises(ModelFileError):
            quantize(source, old, "int8", force)
        assert set(read_model(old)) == {"old.weight"}
    quantize(good, old, "int8", force=True)
    assert "a.weight_scale" in read_model(old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "dst", "good"]


def test_the_old_directory_comes_back_when_the_last_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 4)})
    old = write_model(tmp_path / "dst", {"old.weight": normal(1, 1)})
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ModelFileError, match="Input/output error"):
        quantize(source, old, "int8", force=True)
    assert set(read_model(old)) == {"old.weight"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", "src"]


def test_force_does_not_delete_what_is_no_model(tmp_path: Path) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 4)})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").write_text("x")
    with pytest.raises(ModelFileError, match="not a model directory"):
        quantize(source, tmp_path / "photos", "int8", force=True)
    assert (tmp_path / "photos/1.jpg").exists()


def test_the_command_reports_errors_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", str(tmp_path / "absent"), str(tmp_path / "dst")]) == 2
    assert "absent" in capsys.readouterr().err


def test_the_engine_generates_from_the_quantised_model(tmp_path: Path) -> None:
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    import lrengine
    from lrengine.models import SwcmForConditionalGeneration

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=331, hidden_size=72, num_hidden_layers=2, num_attention_heads=3, intermediate_size=100,
        max_position_embeddings=64, type_vocab_size=1,
    )  # fmt: skip
    model = SwcmForConditionalGeneration.from_encoder(XLMRobertaModel(config, add_pooling_layer=False))
    model.save_pretrained(tmp_path / "src")
    quantize(tmp_path / "src", tmp_path / "int8", "int8")
    quantize(tmp_path / "int8", tmp_path / "wide", "float32")
    inputs = [[0, 17, 250, 99, 2]]
    small, wide = (lrengine.Engine.load(tmp_path / name, device="cpu") for name in ("int8", "wide"))
    assert small.memory_bytes < wide.memory_bytes
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    found, expected = small.generate(inputs, **options)[0], wide.generate(inputs, **options)[0]
    assert found.tokens == expected.tokens and found.score == pytest.approx(expected.score, abs=1e-3)

    declared, plain = ((tmp_path / name / "config.json").read_text() for name in ("int8", "wide"))
    (tmp_path / "int8" / "config.json").write_text(plain)
    with pytest.raises(ModelFileError, match="found int8, expected what config.json declares, no quantization"):
        lrengine.Engine.load(tmp_path / "int8", device="cpu")
    (tmp_path / "wide" / "config.json").write_text(declared)
    with pytest.raises(ModelFileError, match="found no int8 matrix, expected some"):
        lrengine.Engine.load(tmp_path / "wide", device="cpu")
