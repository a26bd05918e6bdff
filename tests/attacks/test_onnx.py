"""Exports that are broken or hostile, and providers that are not there (BAD_INPUTS: ONNX): a typed error that names the
file, says what was found and what to do, before ONNX Runtime opens anything."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from lrengine.errors import (
    DeviceError,
    InvalidRequestError,
    LrengineError,
    ModelFileError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from lrengine.export import OnnxEngine, export_onnx
from lrengine.export.onnx_file import read_onnx_file
from lrengine.export.sessions import open_session
from tiny import random_sources, save, tiny_swcm  # noqa: E402

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    return export_onnx(save(tiny_swcm(layers=1), folder / "model"), folder / "export")


@pytest.fixture
def export(good: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(good, tmp_path / "export"))


def load(directory: Path) -> OnnxEngine:
    return OnnxEngine.load(directory, provider="cpu", threads=1)


def change_manifest(directory: Path, change: Change) -> None:
    path = directory / "lrengine_onnx.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def change_graph(path: Path, change: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def point_to(model: onnx.ModelProto, location: str) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def test_the_copy_itself_is_fine(export: Path) -> None:
    assert len(load(export).generate(random_sources([4]), max_new_tokens=3, min_new_tokens=3)[0].tokens) == 3


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin", "", "weights.bin\0"])
def test_external_data_does_not_leave_the_directory(export: Path, location: str) -> None:
    (export.parent / "outside.bin").write_bytes((export / "weights.bin").read_bytes())
    change_graph(export / "encoder.onnx", lambda model: point_to(model, location))
    with pytest.raises(ModelFileError, match=r"encoder\.onnx.*leads out of the directory"):
        load(export)


def test_external_data_is_no_link_out_of_the_directory(export: Path) -> None:
    shutil.move(export / "weights.bin", export.parent / "outside.bin")
    (export / "weights.bin").symlink_to(export.parent / "outside.bin")
    with pytest.raises(ModelFileError, match="link out of the directory"):
        load(export)


def test_external_data_inside_of_a_nested_graph_is_found(export: Path) -> None:
    """A tensor of a branch of an If, which no list of initializers shows."""

    def hide(model: onnx.ModelProto) -> None:
        tensor = onnx.helper.make_tensor("hidden", onnx.TensorProto.FLOAT, [1], [0.0])
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../outside.bin")
        constant = onnx.helper.make_node("Constant", [], ["x"], value=tensor)
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))

    change_graph(export / "decoder.onnx", hide)
    with pytest.raises(ModelFileError, match=r"decoder\.onnx.*outside\.bin"):
        load(export)


def test_missing_files_are_named(export: Path) -> None:
    for name in ("weights.bin", "decoder_with_past.onnx", "lrengine_onnx.json"):
        (export / name).rename(export / "away")
        with pytest.raises(ModelFileError, match=name):
            load(export)
        (export / "away").rename(export / name)


@pytest.mark.parametrize("kept", [0, 1000])
def test_weights_that_are_cut_off(export: Path, kept: int) -> None:
    (export / "weights.bin").write_bytes((export / "weights.bin").read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"weights\.bin.*export the model again"):
        load(export)


def test_a_graph_cut_at_any_length_is_refused(export: Path) -> None:
    path = export / "decoder_with_past.onnx"
    data = path.read_bytes()
    for kept in (*range(0, 200), *range(200, len(data) - 1, 61)):
        path.write_bytes(data[:kept])
        with pytest.raises(ModelFileError, match=r"decoder_with_past\.onnx|decoder_with_past"):
            load(export)


def test_a_graph_with_any_byte_changed_is_refused_or_opened(export: Path) -> None:
    """Every answer but a typed error or a model is a bug."""
    path = export / "encoder.onnx"
    data = bytearray(path.read_bytes())
    for index in range(0, len(data), 37):
        changed = bytearray(data)
        changed[index] ^= 0xFF
        path.write_bytes(changed)
        try:
            read_onnx_file(path)
            load(export)
        except (ModelFileError, UnsupportedModelError):
            pass


def test_graphs_nested_without_end(tmp_path: Path) -> None:
    inner = b""
    for _ in range(2000):  # GraphProto.node.attribute.g
        for tag in (6, 5, 1):
            size, length = len(inner), b""
            while size >= 0x80:
                length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
            inner = bytes([tag << 3 | 2]) + length + bytes([size]) + inner
    model = onnx.ModelProto()
    path = tmp_path / "deep.onnx"
    graph = bytearray(inner)
    header, size = b"", len(graph)
    while size >= 0x80:
        header, size = header + bytes([size & 0x7F | 0x80]), size >> 7
    path.write_bytes(model.SerializeToString() + bytes([7 << 3 | 2]) + header + bytes([size]) + bytes(graph))
    with pytest.raises(ModelFileError, match="nested"):
        read_onnx_file(path)


def test_an_operator_set_that_the_runtime_does_not_know(export: Path) -> None:
    for path in export.glob("*.onnx"):
        change_graph(path, lambda model: setattr(model.opset_import[0], "version", 999))
    with pytest.raises(ModelFileError, match="operator set 999.*says"):
        load(export)
    change_manifest(export, lambda manifest: manifest.update(opset=999))
    with pytest.raises(UnsupportedModelError, match="lower --opset"):
        load(export)


WRONG: dict[str, tuple[Change, str]] = {
    "a version of tomorrow": (lambda m: m.update(format_version=2), "format_version"),
    "a kind of model of nobody": (lambda m: m.update(model_type="gpt"), "model_type"),
    "a graph less": (lambda m: m["graphs"].pop("decoder_with_past"), "decoder_with_past"),
    "a graph elsewhere": (lambda m: m["graphs"]["encoder"].update(file="../encoder.onnx"), "leads out"),
    "a graph that is a number": (lambda m: m["graphs"]["encoder"].update(file=7), "file"),
    "two graphs changed about": (lambda m: m["graphs"]["encoder"].update(file="decoder.onnx"), "different exports"),
    "an input more": (
        lambda m: m["graphs"]["encoder"]["inputs"].append({"name": "x", "type": "int64", "shape": []}),
        "x is not in the graph",
    ),
    "an input less": (lambda m: m["graphs"]["encoder"]["inputs"].pop(), "attention_mask: found nothing"),
    "another type": (lambda m: m["graphs"]["encoder"]["inputs"][0].update(type="int32"), "input_ids"),
    "another shape": (lambda m: m["graphs"]["encoder"]["outputs"][0]["shape"].append(1), "encoder_states"),
    "a fixed size that varies": (lambda m: m["graphs"]["encoder"]["inputs"][0].update(shape=[1, 2]), "input_ids"),
    "a layer more": (lambda m: m["cache"].update(layers=9), "past_key_"),
    "a million layers": (lambda m: m["cache"].update(layers=10**6), "layers"),
    "another head": (lambda m: m["cache"].update(head_dim=25), "past_key_0"),
    "another cache type": (lambda m: m["cache"].update(type="float16"), "past_key_0"),
    "other cross heads": (lambda m: m["cache"]["cross"].update(heads=5), "cross_key_0"),
    "no cache": (lambda m: m.update(cache=None), "cache"),
    "another vocabulary": (lambda m: m.update(vocab_size=77), "logits"),
    "a vocabulary below 0": (lambda m: m.update(vocab_size=-1), "vocab_size"),
    "end tokens as text": (lambda m: m["special_ids"].update(eos=["2"]), "eos"),
    "no start": (lambda m: m["special_ids"].update(decoder_start=None), "decoder_start"),
    "a tokenizer elsewhere": (lambda m: m["tokenizer"].update(source="/etc/hostname"), "leads out"),
    "a tokenizer that is missing": (lambda m: m["tokenizer"].update(source="tokenizer.json"), "tokenizer.json"),
    "a template without a place": (lambda m: m.update(prompt_template="hello"), "prompt_template"),
}


@pytest.mark.parametrize("case", WRONG)
def test_manifests_that_do_not_fit(export: Path, case: str) -> None:
    change, names = WRONG[case]
    change_manifest(export, change)
    with pytest.raises((ModelFileError, UnsupportedModelError), match=names):
        load(export)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format_version": true}', "\udcff"])
def test_manifests_that_are_none(export: Path, text: str) -> None:
    (export / "lrengine_onnx.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelFileError, match=r"lrengine_onnx\.json"):
        load(export)


def test_a_type_that_the_provider_has_no_kernels_for(good: Path, tmp_path: Path) -> None:
    narrow = export_onnx(good.parent / "model", tmp_path / "narrow", dtype="bfloat16")
    with pytest.raises(UnsupportedModelError, match="another --dtype"):
        load(narrow)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_providers_that_this_build_does_not_have(export: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        OnnxEngine.load(export, provider=provider)
    assert OnnxEngine.load(export, provider="auto").device == "cpu"


def test_a_provider_that_does_not_start(
    export: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The build has it, the machine lacks its libraries: ONNX Runtime alone would go on with the CPU in silence."""
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: there)
    monkeypatch.setattr("lrengine.export.engine.open_session", _session_of_the_cpu)
    with pytest.raises(DeviceError, match="did not start"):
        OnnxEngine.load(export, provider="cuda")
    with caplog.at_level("INFO", "lrengine"):
        assert OnnxEngine.load(export, provider="auto").device == "cpu"
    assert sum("cuda does not work here" in record.getMessage() for record in caplog.records) == 1


def _session_of_the_cpu(file: Any, providers: Any, threads: Any, opset: int) -> Any:
    import onnxruntime

    class Fallen(onnxruntime.InferenceSession):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "providers": ["CPUExecutionProvider"]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxruntime.InferenceSession", Fallen)
        return open_session(file, providers, threads, opset)


def test_without_onnx_runtime(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match="pip install onnxruntime"):
        load(export)


@pytest.mark.parametrize("wrong", ["gpu", "", None, 3, "CPU"])
def test_providers_of_nobody(export: Path, wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="provider"):
        OnnxEngine.load(export, provider=wrong)


@pytest.mark.parametrize("path", ["missing", "lrengine_onnx.json"])
def test_directories_that_are_none(export: Path, path: str) -> None:
    with pytest.raises(ModelFileError, match="lrengine export onnx"):
        load(export / path)


def test_requests_that_are_refused_leave_the_engine_usable(export: Path) -> None:
    engine = load(export)
    for wrong in ([[400]], [[-1]], [[5] * 400]):
        for call in (engine.generate, engine.encode, lambda rows: engine.score(rows, [[5]])):
            with pytest.raises(InvalidRequestError, match="source 0"):
                call(wrong)
    for options in ({"num_beams": 0}, {"max_new_tokens": 0}, {"prefix": [[999]]}, {"temperature": float("nan")}):
        with pytest.raises(InvalidRequestError):
            engine.generate([[5]], **options)
    with pytest.raises(LrengineError):
        engine.generate("text")
    assert len(engine.generate([[5]], max_new_tokens=2, min_new_tokens=2)[0].tokens) == 2


def test_logits_that_are_not_finite(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What weights that overflow in a narrow type give is never an answer."""
    engine = load(export)
    with monkeypatch.context() as patch:
        patch.setattr("lrengine.export.decoders.Decoder.feed", lambda *_: np.full((1, 331), np.nan, np.float32))
        for call in (engine.generate, lambda rows: engine.score(rows, [[6]])):
            with pytest.raises(ModelFileError, match="not finite"):
                call([[5]])
    assert len(engine.generate([[5]], max_new_tokens=2, min_new_tokens=2)[0].tokens) == 2


def test_memory_that_is_not_there(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory:
        def zeros(self, *_: Any) -> None:
            raise MemoryError("none")

        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

    engine = load(export)
    with monkeypatch.context() as patch:
        patch.setattr("lrengine.export.sessions.np", NoMemory())
        with pytest.raises(OutOfMemoryError, match="no memory"):
            engine.generate([[5]])
    assert np.isfinite(engine.generate([[5]], max_new_tokens=2)[0].score)
