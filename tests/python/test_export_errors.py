"""What an export refuses, and that a refused or failed one leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lrengine.cli import main
from lrengine.errors import InvalidRequestError, LrengineError, ModelFileError, UnsupportedModelError
from lrengine.export import Profile, export_onnx
from lrengine.export.checks import check_graph
from lrengine.quantize import quantize
from tiny import save, tiny_classifier, tiny_fusion, tiny_swcm


@pytest.fixture(scope="module")
def swcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_swcm(), tmp_path_factory.mktemp("swcm") / "model")


def copy_with(source: Path, destination: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    destination.mkdir()
    for path in source.iterdir():
        (destination / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / "config.json").read_text())
    change(config)
    (destination / "config.json").write_text(json.dumps(config))
    return destination


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float8"}, {"opset": 12}, {"opset": True}, {"optimize": "more"}, {"static": Profile(1, 400, 8)},
        {"static": Profile(1, 8, 400)},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_be_met_are_refused(swcm: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        export_onnx(swcm, tmp_path / "onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x", "1,2,3,4,5", "0,1,1", "-1,2,3"])
def test_static_sizes_are_positive_numbers(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="static"):
        Profile.parse(text)


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "no such model_type": lambda config: config.update(model_type="t5"),
    "no such encoder": lambda config: config["encoder"].update(model_type="albert"),
    "a field is missing": lambda config: config["encoder"].pop("num_attention_heads"),
    "an activation": lambda config: config["encoder"].update(hidden_act="mish"),
    "more layers than weights": lambda config: config["encoder"].update(num_hidden_layers=4),
    "another width": lambda config: config["encoder"].update(hidden_size=96),
    "a width in words": lambda config: config["encoder"].update(hidden_size="wide"),
    "no heads": lambda config: config["encoder"].update(num_attention_heads=0),
    "no encoder": lambda config: config.update(encoder=None),
    "relative positions": lambda config: config["encoder"].update(position_embedding_type="relative_key"),
    "another vocabulary": lambda config: config.update(vocab_size=330),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_config_that_the_weights_do_not_fit_leaves_nothing(swcm: Path, tmp_path: Path, change: str) -> None:
    broken = copy_with(swcm, tmp_path / "model", CHANGES[change])
    with pytest.raises((ModelFileError, UnsupportedModelError)):
        export_onnx(broken, tmp_path / "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_truncated_weights_leave_nothing(swcm: Path, tmp_path: Path) -> None:
    broken = copy_with(swcm, tmp_path / "model", lambda config: None)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ModelFileError):
        export_onnx(broken, tmp_path / "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny_classifier()
    model.classifier.bias.data[1] = float("nan")
    with pytest.raises(ModelFileError, match=r"classifier\.bias: found NaN"):
        export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx")


def test_weights_beyond_float16_are_refused_in_float16_alone(tmp_path: Path) -> None:
    model = tiny_classifier()
    model.encoder.encoder.layer[0].intermediate.dense.weight.data[0, 0] = 1e6
    directory = save(model, tmp_path / "model")
    with pytest.raises(UnsupportedModelError, match="beyond float16"):
        export_onnx(directory, tmp_path / "half", dtype="float16")
    export_onnx(directory, tmp_path / "onnx")


def test_a_quantised_directory_is_refused_with_what_to_do(swcm: Path, tmp_path: Path) -> None:
    quantize(swcm, tmp_path / "int8", "int8")
    with pytest.raises(UnsupportedModelError, match="quantize DIR NEW --dtype float32"):
        export_onnx(tmp_path / "int8", tmp_path / "onnx")


def test_a_rope_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    directory = save(tiny_fusion(), tmp_path / "model")

    def yarn(config: dict[str, Any]) -> None:
        config["llm"]["rope_scaling"] = {"rope_type": "yarn", "factor": 2.0}

    with pytest.raises(UnsupportedModelError, match="yarn"):
        export_onnx(copy_with(directory, tmp_path / "yarn", yarn), tmp_path / "onnx")


def test_only_an_export_is_replaced_and_only_when_asked(swcm: Path, tmp_path: Path) -> None:
    out = export_onnx(swcm, tmp_path / "onnx")
    with pytest.raises(ModelFileError, match="exists already"):
        export_onnx(swcm, out)
    export_onnx(swcm, out, dtype="float16", force=True)
    assert json.loads((out / "lrengine_onnx.json").read_text())["dtype"] == "float16"
    with pytest.raises(ModelFileError, match="is not an export"):
        export_onnx(swcm, swcm, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx"]


def test_the_command_writes_graphs_and_tells_of_errors(
    swcm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "onnx", str(swcm), str(tmp_path / "onnx"), "--static", "1,8,8,2"]) == 0
    assert "decoder_with_past.onnx, encoder.onnx and" in capsys.readouterr().out
    assert main(["export", "onnx", str(swcm), str(tmp_path / "onnx")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_graphs_with_branches_or_unknown_shapes_do_not_pass_the_check(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    shape = onnx.helper.make_node("NonZero", ["x"], ["y"])
    graph = onnx.helper.make_graph(
        [shape], "bad", [value("x", 1, ["n"])], [value("y", onnx.TensorProto.INT64, [1, "m"])]
    )
    path = tmp_path / "bad.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), path)
    with pytest.raises(LrengineError, match="TensorRT does not read NonZero"):
        check_graph(path, for_tensorrt=True)


def test_a_failure_while_graphs_are_written_leaves_nothing(
    swcm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(ModelFileError, match="No space left"):
        export_onnx(swcm, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_equal_models_give_equal_bytes(swcm: Path, tmp_path: Path) -> None:
    first, second = (export_onnx(swcm, tmp_path / name) for name in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert np.fromfile(first / "weights.bin", np.uint8).size > 0
