"""float16, bfloat16 and int8 exports: near the float32 model, sensitive parts still float32, weights stored once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_support import LEVELS, Exported, weight_regions
from test_export_swcm import TARGETS, encode, expected, first_step

from lrengine.errors import InvalidRequestError
from lrengine.export import Profile, export_onnx
from lrengine.export.checks import operators, tensorrt_refuses, unknown_ranks
from tiny import pad_batch, random_sources, save, tiny_classifier, tiny_fusion, tiny_swcm

CALIBRATION = random_sources([9, 14, 20, 30], seed=5)
FORMS: dict[str, dict[str, Any]] = {
    "float16": {"dtype": "float16"},
    "int8": {"dtype": "int8"},
    "int8 calibrated": {"dtype": "int8", "calibration": CALIBRATION, "optimize": "tensorrt"},
}
TOLERANCE = {"float16": 0.03, "int8": 0.5, "int8 calibrated": 1.0}  # logits have a standard deviation of 4


@pytest.mark.parametrize("form", FORMS)
def test_swcm_is_near_the_float32_model_and_agrees_on_the_likeliest_tokens(tmp_path: Path, form: str) -> None:
    model = tiny_swcm()
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", **FORMS[form]))
    wanted = expected(model).logits.numpy()
    logits = first_step(exported, encode(exported), TARGETS)["logits"].reshape(wanted.shape)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, wanted, atol=TOLERANCE[form])
    assert (logits.argmax(-1) == wanted.argmax(-1)).mean() >= 0.9
    assert abs(logits - wanted).max() > 1e-5  # the narrow type is really used


@pytest.mark.parametrize("level", LEVELS)
def test_int8_is_the_same_at_every_optimisation_level(tmp_path: Path, level: str) -> None:
    model = tiny_swcm(tie_word_embeddings=False, output_bias=True)
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", dtype="int8"), level)
    wanted = expected(model).logits.numpy()
    logits = first_step(exported, encode(exported), TARGETS)["logits"].reshape(wanted.shape)
    np.testing.assert_allclose(logits, wanted, atol=TOLERANCE["int8"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [tiny_swcm, tiny_fusion, tiny_classifier], ids=lambda make: make.__name__)
def test_weights_are_stored_once_and_smaller(tmp_path: Path, make: Any, form: str) -> None:
    model = make()
    out = export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", **FORMS[form])
    regions = weight_regions(out)
    assert len(set(regions.values())) == len(regions)
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "position" not in n)
    others = sum(p.numel() for p in model.parameters()) - matrices
    size = {"float16": 2, "int8": 1, "int8 calibrated": 3}[form]  # a table of embeddings may be both float16 and int8
    # Scales, blocks that the odd widths fill by halves, mT5's wo in float32 and tables of positions are the rest.
    assert sum(length for _, length in regions) < matrices * size * 1.5 + others * 4 + 40000


def test_float16_survives_inner_states_beyond_its_range(tmp_path: Path) -> None:
    model: Any = tiny_classifier("mt5")
    with torch.no_grad():
        dense = model.encoder.encoder.block[1].layer[1].DenseReluDense
        dense.wi_0.weight.mul_(300.0)
        dense.wi_1.weight.mul_(300.0)
        dense.wo.weight.mul_(0.001)
        ids, mask = pad_batch(random_sources([9, 5]), 1)
        wanted = model(input_ids=ids, attention_mask=mask).logits
    out = export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", dtype="float16")
    logits = Exported(out).run("classifier", {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})["logits"]
    np.testing.assert_allclose(logits, wanted, atol=0.1)
    # On a CPU, ONNX Runtime computes much of a float16 graph in float32, so the graph itself has to show it.
    graph = onnx.shape_inference.infer_shapes(onnx.load(out / "classifier.onnx", load_external_data=False)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    outer = [node for node in graph.node if any(".wo.weight" in name for name in node.input)]
    assert len(outer) == model.config.encoder.num_layers
    for node in outer:
        inner = next(other for other in graph.node if node.input[0] in other.output)
        assert {types[node.input[0]], stored[node.input[1]], *(types[name] for name in inner.input)} == {1}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_norms_softmax_and_residuals_of_half_exports_are_float32(tmp_path: Path, dtype: str) -> None:
    out = export_onnx(save(tiny_fusion(llm="qwen3"), tmp_path / "model"), tmp_path / "onnx", dtype=dtype)
    for path in out.glob("*.onnx"):
        model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
        graph = model.graph
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
        kinds = {
            kind: {types[node.output[0]] for node in graph.node if node.op_type == kind}
            for kind in ("Softmax", "ReduceMean", "LayerNormalization", "MatMul")
        }
        assert kinds["Softmax"] == kinds["ReduceMean"] == {onnx.TensorProto.FLOAT}
        assert kinds["LayerNormalization"] <= {onnx.TensorProto.FLOAT}
        assert getattr(onnx.TensorProto, dtype.upper()) in kinds["MatMul"]


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "float16"), ("bfloat16", "bfloat16"), ("int8", "float32")])
def test_the_cache_has_the_type_of_the_products(tmp_path: Path, dtype: str, kind: str) -> None:
    out = export_onnx(save(tiny_swcm(), tmp_path / "model"), tmp_path / "onnx", dtype=dtype)
    manifest = json.loads((out / "lrengine_onnx.json").read_text())
    assert manifest["cache"]["type"] == kind
    assert {port["type"] for port in manifest["graphs"]["decoder_with_past"]["outputs"]} == {"float32", kind}


MODELS = {
    "swcm": lambda: tiny_swcm(sharing="tied"),
    "fusion": lambda: tiny_fusion("umt5", "qwen3", mapper={"type": "latent", "num_latents": 5, "ffn_dim": 50}),
    "classifier": lambda: tiny_classifier("m2m_100"),
}
TENSORRT_FORMS: dict[str, dict[str, Any]] = {
    **{dtype: {"dtype": dtype} for dtype in ("float32", "float16", "bfloat16")},
    "int8": {"dtype": "int8", "calibration": CALIBRATION},
    "static": {"static": Profile(1, 32, 8), "dtype": "float16"},
}


@pytest.mark.parametrize("form", TENSORRT_FORMS)
@pytest.mark.parametrize("kind", MODELS)
def test_graphs_hold_nothing_that_tensorrt_lacks_and_no_unknown_rank(tmp_path: Path, kind: str, form: str) -> None:
    """Operators and the types that flow into them, against onnx-tensorrt's docs/operators.md (TENSORRT_OPERATORS)."""
    directory = save(MODELS[kind](), tmp_path / "model")
    out = export_onnx(directory, tmp_path / "onnx", optimize="tensorrt", **TENSORRT_FORMS[form])
    for path in out.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert tensorrt_refuses(model) == []
        assert not {"If", "Loop", "Scan"} & operators(model)
        assert {each.domain for each in model.opset_import} == {""}
        if form == "int8":
            assert {"QuantizeLinear", "DequantizeLinear"} <= operators(model)
        assert not unknown_ranks(model)
        onnx.checker.check_model(path, full_check=True)


def test_what_tensorrt_does_not_document_is_refused() -> None:
    def refused(node: onnx.NodeProto, kind: int, *constants: onnx.TensorProto) -> list[str]:
        value = onnx.helper.make_tensor_value_info
        ports = ([value("x", kind, [2, 3])], [onnx.ValueInfoProto(name="y")])
        graph = onnx.helper.make_graph([node], "graph", *ports, list(constants))
        return tensorrt_refuses(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))

    node, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    ids, scale = array(np.array([0]), "ids"), array(np.float32(1), "scale")
    assert refused(node("Gather", ["x", "ids"], ["y"]), onnx.TensorProto.FLOAT16, ids) == []
    assert refused(node("Gather", ["x", "ids"], ["y"]), onnx.TensorProto.INT8, ids) == ["Gather of INT8"]
    assert refused(node("Cast", ["x"], ["y"], to=1), onnx.TensorProto.INT8) == ["Cast of INT8"]
    assert refused(node("NonZero", ["x"], ["y"]), onnx.TensorProto.FLOAT) == ["NonZero"]
    for level, found in ((0, []), (3, ["QuantizeLinear with a zero point"])):
        zero = array(np.array(level, np.int8), "zero")
        assert refused(node("QuantizeLinear", ["x", "scale", "zero"], ["y"]), 1, scale, zero) == found


def test_calibration_is_for_int8_and_tensorrt_asks_for_it(tmp_path: Path) -> None:
    directory = save(tiny_classifier(), tmp_path / "model")
    for options in ({"dtype": "float16", "calibration": CALIBRATION}, {"dtype": "int8", "optimize": "tensorrt"},
                    {"dtype": "int8", "calibration": []}, {"dtype": "int8", "calibration": ["text"]}):  # fmt: skip
        with pytest.raises(InvalidRequestError, match="calibration"):
            export_onnx(directory, tmp_path / "onnx", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_calibrated_ranges_are_those_of_the_sources(tmp_path: Path) -> None:
    """Twice the sources: the same ranges. A source that is like nothing seen before widens some."""
    directory = save(tiny_classifier(), tmp_path / "model")
    one, same, more = (
        export_onnx(directory, tmp_path / name, dtype="int8", calibration=rows)
        for name, rows in (("one", CALIBRATION[:1]), ("same", CALIBRATION[:1] * 2), ("more", CALIBRATION))
    )
    read = (one / "classifier.onnx").read_bytes()
    assert read == (same / "classifier.onnx").read_bytes()
    assert read != (more / "classifier.onnx").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_onnxruntimes_own_operators_are_written_when_asked_for(tmp_path: Path, dtype: str) -> None:
    model = tiny_swcm(sharing="tied")
    directory = save(model, tmp_path / "model")
    plain, fused = (export_onnx(directory, tmp_path / name, dtype=dtype, optimize=name) for name in ("none", "ort"))
    used = operators(onnx.load(fused / "decoder_with_past.onnx", load_external_data=False))
    assert any(name.startswith("com.microsoft::") for name in used)
    wanted, exported = expected(model).logits.numpy(), Exported(fused)
    logits = first_step(exported, encode(exported), TARGETS)["logits"].reshape(wanted.shape)
    np.testing.assert_allclose(logits, wanted, atol=1e-4 if dtype == "float32" else TOLERANCE["int8"])
    regions = weight_regions(fused)
    assert len(set(regions.values())) == len(regions)
    assert (fused / "weights.bin").stat().st_size < 1.02 * (plain / "weights.bin").stat().st_size
    assert {path.name for path in fused.iterdir()} == {path.name for path in plain.iterdir()}
