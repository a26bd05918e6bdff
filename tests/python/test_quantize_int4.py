"""`lrengine quantize --dtype int4`: the format against NumPy in float64, what stays int8, and the engine on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_quantize import KEPT, normal, read_model, write_model
from transformers import PreTrainedModel

import lrengine
from lrengine.cli import main
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.int4_groups import GROUP_SIZES, group_scales, pack_levels, unpack
from lrengine.quantize import INT4_SCHEMES, quantize
from tiny import int4_fusion, int4_swcm, random_sources, save


def decoded(packed: np.ndarray, scales: np.ndarray, group_size: int) -> np.ndarray:
    """The format's own words, in float64: column j of a block of 32 is the low half of byte j, column 16 + j the high
    half; value = scale * (level - 8)."""
    rows, cols = len(packed), packed.shape[1] * 2
    widths = (scales.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    values = np.empty((rows, cols))
    for col in range(cols):
        byte = packed[:, col // 32 * 16 + col % 16].astype(np.int64)
        level = byte % 16 if col % 32 < 16 else byte // 16
        values[:, col] = widths[:, col // group_size] * (level - 8)
    return values


def by_largest(weight: np.ndarray, group_size: int) -> np.ndarray:
    """Levels -8 to 7 of scales max / 7, in float64."""
    rows, cols = weight.shape
    values = np.empty(weight.shape)
    for first in range(0, cols, group_size):
        group = weight[:, first : first + group_size].astype(np.float64)
        scale = np.abs(group).max(axis=1, keepdims=True) / 7
        values[:, first : first + group_size] = np.rint(group / scale) * scale
    return values


@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_the_search_beats_the_largest_value_and_the_file_is_what_the_format_says(
    tmp_path: Path, group_size: int
) -> None:
    weight = normal(90, 224) * np.exp(normal(90, 1, seed=1) * 4)  # 224 is no multiple of 64 or 128
    source = write_model(tmp_path / "src", {"mapper.layers.0.weight": weight})
    quantize(source, tmp_path / "dst", "int4", group_size=group_size)
    result = read_model(tmp_path / "dst")
    packed, scales = result["mapper.layers.0.weight"], result["mapper.layers.0.weight_scale"]
    assert packed.dtype == np.uint8 and packed.shape == (90, 112)
    assert scales.dtype == np.uint16 and scales.shape == (90, -(-224 // group_size))
    values = decoded(packed, scales, group_size)
    relative = np.linalg.norm(values - weight, axis=1) / np.linalg.norm(weight, axis=1)
    plain = np.linalg.norm(by_largest(weight, group_size) - weight, axis=1) / np.linalg.norm(weight, axis=1)
    assert relative.mean() < 0.9 * plain.mean() and (relative < 0.13).all()
    config = json.loads((tmp_path / "dst/config.json").read_text())
    assert config["quantization"] == INT4_SCHEMES[group_size] == {
        "dtype": "int4", "scheme": "group-symmetric", "group_size": group_size,
    }  # fmt: skip
    quantize(tmp_path / "dst", tmp_path / "wide", "float32")
    wide = read_model(tmp_path / "wide")
    assert set(wide) == {"mapper.layers.0.weight"}
    np.testing.assert_array_equal(wide["mapper.layers.0.weight"], values)
    assert "quantization" not in json.loads((tmp_path / "wide/config.json").read_text())


def test_no_scale_of_a_fine_grid_is_much_better() -> None:
    weight = normal(50, 64, seed=3)
    found = unpack(pack_levels(weight, group_scales(weight, 64), 64), group_scales(weight, 64), 64)
    errors = ((found - weight) ** 2).sum(axis=1)
    best = np.full(50, np.inf)
    for steps in np.linspace(4, 10, 400):
        for sign in (-1, 1):
            scale = sign * np.abs(weight).max(axis=1, keepdims=True) / steps
            best = np.minimum(best, ((np.clip(np.rint(weight / scale), -8, 7) * scale - weight) ** 2).sum(axis=1))
    assert (errors >= best * 0.98).all()  # the grid is nearly as good as it gets
    assert errors.sum() < 1.06 * best.sum()


def test_levels_come_back_exactly_and_extremes_stay_finite() -> None:
    rows = np.zeros((5, 32), np.float32)
    rows[1] = (np.arange(32) % 16 - 8) * 0.375
    rows[2, :3] = [3e34, -3e34, 1e34]
    rows[3, :2] = [1e-45, -1e-45]  # the scale underflows to 0
    rows[4, :2] = [1e-37, -5e-38]
    scales = group_scales(rows, 32)
    values = unpack(pack_levels(rows, scales, 32), scales, 32)
    np.testing.assert_array_equal(values[[0, 1]], rows[[0, 1]])
    assert np.isfinite(values).all() and scales[0, 0] == 0 and scales[3, 0] == 0
    np.testing.assert_allclose(values[2, :3], rows[2, :3], rtol=0.1)
    np.testing.assert_allclose(values[4, :2], rows[4, :2], rtol=0.1)


MATRICES = {
    "mixer.linear1.weight": (12, 64),
    "mapper.layers.0.weight": (8, 32),
    "llm.model.layers.0.mlp.gate_proj.weight": (12, 96),
    "decoder.layers.0.ffn1.fc_in.weight": (12, 32),
}
INT8 = {
    "encoder.embeddings.word_embeddings.weight": (31, 64),
    "encoder.shared.weight": (31, 32),
    "llm.model.embed_tokens.weight": (17, 32),
    "llm.lm_head.weight": (17, 32),
    "classifier.weight": (3, 24),  # not whole blocks of 32
}


def test_products_become_int4_embeddings_int8_and_nothing_else_changes(tmp_path: Path) -> None:
    source = {name: normal(*shape) for name, shape in {**KEPT, **MATRICES, **INT8}.items()}
    quantize(write_model(tmp_path / "src", source), tmp_path / "dst", "int4")
    result = read_model(tmp_path / "dst")
    assert {name for name, array in result.items() if array.dtype == np.uint8} == set(MATRICES)
    assert {name for name, array in result.items() if array.dtype == np.int8} == set(INT8)
    assert set(result) == {*KEPT, *MATRICES, *INT8, *(f"{name}_scale" for name in (*MATRICES, *INT8))}
    for name in KEPT:
        np.testing.assert_array_equal(result[name], source[name])


def test_embeddings_and_output_projections_become_int4_where_that_is_asked_for(tmp_path: Path) -> None:
    source = {name: normal(*shape) for name, shape in {**KEPT, **MATRICES, **INT8}.items()}
    quantize(write_model(tmp_path / "src", source), tmp_path / "dst", "int4", embeddings="int4")
    result = read_model(tmp_path / "dst")
    assert {name for name, array in result.items() if array.dtype == np.int8} == {"classifier.weight"}
    assert {name for name, array in result.items() if array.dtype == np.uint8} == {*MATRICES, *INT8} - {
        "classifier.weight"
    }


@pytest.mark.parametrize(("dtype", "embeddings"), [("int4", "bfloat16"), ("int8", "int4"), ("bfloat16", "int4")])
def test_embeddings_of_a_type_that_does_not_go_with_the_rest_are_refused(
    tmp_path: Path, dtype: str, embeddings: str
) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 32)})
    message = f"embeddings '{embeddings}': (expected int8 or int4|weights of {dtype} have no choice)"
    with pytest.raises(UnsupportedModelError, match=message):
        quantize(source, tmp_path / "dst", dtype, embeddings=embeddings)
    assert not (tmp_path / "dst").exists()


def test_what_is_quantised_is_not_quantised_again_and_other_groups_are_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 32)})
    quantize(source, tmp_path / "int4", "int4")
    for dtype in ("int4", "int8"):
        with pytest.raises(UnsupportedModelError, match="already"):
            quantize(tmp_path / "int4", tmp_path / "again", dtype)
    with pytest.raises(UnsupportedModelError, match="group size 48: expected one of 32, 64, 128"):
        quantize(source, tmp_path / "again", "int4", group_size=48)
    with pytest.raises(SystemExit):
        main(["quantize", str(source), str(tmp_path / "again"), "--dtype", "int4", "--group-size", "48"])
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (None, "found no such tensor for U8"),
        (np.ones((3, 2), np.uint16), r"found BF16 \[3, 2\]"),
        (np.ones(3, np.uint16), r"found BF16 \[3\]"),
        (np.ones((3, 1), np.float32), r"found F32 \[3, 1\] .*expected BF16"),
        (np.full((3, 1), 0x7F80, np.uint16), "NaN or Inf"),
    ],
)
def test_a_directory_of_int4_with_bad_scales_is_refused(tmp_path: Path, scale: np.ndarray | None, message: str) -> None:
    source = write_model(tmp_path / "src", {"a.weight": normal(3, 64)})
    quantize(source, tmp_path / "int4", "int4")
    tensors = read_model(tmp_path / "int4")
    del tensors["a.weight_scale"]
    if scale is not None:
        tensors["a.weight_scale"] = scale
    bad = write_model(tmp_path / "bad", tensors, quantization=INT4_SCHEMES[64])
    with pytest.raises(ModelFileError, match=message):
        quantize(bad, tmp_path / "wide", "float32")
    assert not (tmp_path / "wide").exists()


@pytest.mark.parametrize("embeddings", ["int8", "int4"])
@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize("build", [int4_swcm, int4_fusion])
def test_the_engine_computes_with_what_the_file_stands_for(
    tmp_path: Path, build: Callable[[], PreTrainedModel], group_size: int, embeddings: str
) -> None:
    source = save(build(), tmp_path / "src")
    arguments = ["--dtype", "int4", "--group-size", str(group_size), "--embeddings", embeddings]
    assert main(["quantize", str(source), str(tmp_path / "int4"), *arguments]) == 0
    tables = {name: array for name, array in read_model(tmp_path / "int4").items() if "embed" in name}
    found = {tables[name].dtype for name in tables if f"{name}_scale" in tables}
    assert found == {np.dtype("uint8" if embeddings == "int4" else "int8")}
    quantize(tmp_path / "int4", tmp_path / "wide", "float32")
    small, wide = (lrengine.Engine.load(tmp_path / name, device="cpu") for name in ("int4", "wide"))
    assert small.dtype == "int4" and small.memory_bytes < 0.45 * wide.memory_bytes
    sources, targets = random_sources([5, 1, 30], seed=2), random_sources([4, 9, 2], seed=3, vocabulary=270)
    widened = lrengine.Engine.load(tmp_path / "int4", device="cpu", dtype="float32")
    for found, expected in zip(widened.score(sources, targets), wide.score(sources, targets), strict=True):
        np.testing.assert_array_equal(found.token_logprobs, expected.token_logprobs)
    # A CPU rounds what it multiplies int4 and int8 by; op_linear_rounded_test.cpp looks at the products themselves.
    for found, expected in zip(small.score(sources, targets), wide.score(sources, targets), strict=True):
        np.testing.assert_allclose(found.token_logprobs, expected.token_logprobs, rtol=0.02, atol=0.08)
    answers = small.generate(sources, max_new_tokens=6, min_new_tokens=6)
    for found, expected in zip(answers, small.score(sources, [answer.tokens for answer in answers]), strict=True):
        assert found.score == pytest.approx(sum(expected.token_logprobs), rel=1e-5)
    exact, same = (each.generate(sources, max_new_tokens=6, min_new_tokens=6) for each in (widened, wide))
    for found, expected in zip(exact, same, strict=True):
        assert found.tokens == expected.tokens and found.score == expected.score


def test_quantised_while_loading_is_what_the_quantised_directory_holds(tmp_path: Path) -> None:
    source = save(int4_swcm(), tmp_path / "src")
    quantize(source, tmp_path / "int4", "int4")
    inputs = [[0, 17, 250, 99, 2]]
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    stored = lrengine.Engine.load(tmp_path / "int4", device="cpu").generate(inputs, **options)[0]
    loaded = lrengine.Engine.load(source, device="cpu", dtype="int4")
    found = loaded.generate(inputs, **options)[0]
    assert loaded.dtype == "int4" and found.tokens == stored.tokens and found.score == stored.score


@pytest.mark.parametrize("dtype", ["int4", "int8"])
@pytest.mark.parametrize("build", [int4_swcm, int4_fusion])
def test_pytorch_does_not_take_levels_for_numbers(
    tmp_path: Path, build: Callable[[], PreTrainedModel], dtype: str
) -> None:
    model = build()
    quantize(save(model, tmp_path / "src"), tmp_path / "small", dtype)
    with pytest.raises(UnsupportedModelError, match=f"quantised .*{dtype}.*lrengine quantize"):
        type(model).from_pretrained(tmp_path / "small")
    quantize(tmp_path / "small", tmp_path / "wide", "float32")
    type(model).from_pretrained(tmp_path / "wide")


def test_config_and_weights_must_agree(tmp_path: Path) -> None:
    quantize(save(int4_swcm(), tmp_path / "src"), tmp_path / "int4", "int4")
    path = tmp_path / "int4/config.json"
    config = json.loads(path.read_text())

    def refused(quantization: object, message: str, error: type[Exception] = ModelFileError) -> None:
        path.write_text(json.dumps({**config, "quantization": quantization}))
        with pytest.raises(error, match=message):
            lrengine.Engine.load(tmp_path / "int4", device="cpu")

    refused(None, "config.json declares, no quantization")
    refused({"dtype": "int8", "scheme": "per-row-symmetric"}, "found int4, expected what config.json declares, int8")
    refused(INT4_SCHEMES[64], "found shape .* expected")
    refused({**INT4_SCHEMES[64], "group_size": 16}, "group_size", UnsupportedModelError)
    refused({**INT4_SCHEMES[64], "group_size": 0}, "group_size")
