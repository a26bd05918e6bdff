"""Hostile files for `lrengine convert` and `lrengine quantize`: a typed error that names the file, nothing executed,
nothing written, nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrengine.errors import LrengineError, ModelFileError, UnsupportedModelError
from lrengine.quantize import INT4_SCHEMES, quantize
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import SafetensorsFile


def safetensors(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    as_list = [list(value) if isinstance(value, tuple) else value for value in (shape, offsets)]
    return {"dtype": dtype, "shape": as_list[0], "data_offsets": as_list[1]}


GOOD = safetensors({"a.weight": entry(shape=(1, 2))}, b"\0" * 8)
TENSOR = b"\0" * 8
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "header length"),
    "length beyond the file": ((10**6).to_bytes(8, "little") + b"{}", "header length 1000000"),
    "length of 200 MB": ((2 * 10**8).to_bytes(8, "little") + b"{}", "header length"),
    "length below 2": ((1).to_bytes(8, "little") + b"{}", "header length 1 "),
    "length that wraps": ((2**64 - 4).to_bytes(8, "little") + b"{}", "header length"),
    "no object": (safetensors(b'["a"]'), "starts with"),
    "bad UTF-8": (safetensors(b'{"\xff": 1}'), "not valid JSON"),
    "not JSON": (safetensors(b'{"a": }'), "not valid JSON"),
    "twice the same name": (safetensors(b'{"a": 1, "a": 2}'), "twice"),
    "deep nesting": (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not valid JSON"),
    "number of 10,000 digits": (safetensors(b'{"a":' + b"9" * 10_000 + b"}"), "."),
    "no entry": (safetensors({"a": 3}), "tensor a"),
    "missing field": (safetensors({"a": {"dtype": "F32", "shape": [2]}}, TENSOR), "data_offsets"),
    "unknown dtype": (safetensors({"a": entry("F8_E4M3")}, TENSOR), "F8_E4M3"),
    "dtype no string": (safetensors({"a": entry(["F32"])}, TENSOR), "dtype"),
    "negative dimension": (safetensors({"a": entry(shape=(-2, -1))}, TENSOR), "shape"),
    "zero dimension": (safetensors({"a": entry(shape=(0, 2), offsets=(0, 0))}), "shape"),
    "wrapping product": (safetensors({"a": entry(shape=(2**33, 2**31), offsets=(0, 0))}), "takes"),
    "rank 9": (safetensors({"a": entry(shape=(1,) * 8 + (2,))}, TENSOR), "shape"),
    "fractional dimension": (safetensors({"a": entry(shape=(2.0,))}, TENSOR), "shape"),
    "boolean dimension": (safetensors({"a": entry(shape=(True, 2))}, TENSOR), "shape"),
    "one offset": (safetensors({"a": entry(offsets=(8,))}, TENSOR), "data_offsets"),
    "reversed offsets": (safetensors({"a": entry(offsets=(8, 0))}, TENSOR), "span"),
    "range of another size": (safetensors({"a": entry(shape=(3,))}, TENSOR), "takes 12"),
    "overlap": (safetensors({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12), "tensor b"),
    "hole": (safetensors({"a": entry(), "b": entry(offsets=(12, 20))}, b"\0" * 20), "tensor b"),
    "past the end": (safetensors({"a": entry()}, b"\0" * 4), "the file has 4"),
    "bytes left over": (safetensors({"a": entry()}, b"\0" * 12), "the file has 12"),
}


def model(folder: Path, weights: bytes = GOOD, config: Any = None) -> Path:
    folder.mkdir()
    fields = {"model_type": "swcm"} if config is None else config
    (folder / "config.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def refused(action: Callable[[], object], folder: Path, error: type[Exception], match: str) -> None:
    """`action` raises `error` soon, and leaves `folder` as it was."""
    before, started = sorted(folder.rglob("*")), time.monotonic()
    with pytest.raises(error, match=match):
        action()
    assert sorted(folder.rglob("*")) == before and time.monotonic() - started < 20


@pytest.mark.parametrize("name", BAD_FILES)
def test_malformed_safetensors(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    source = model(tmp_path / "src", content)
    refused(
        lambda: quantize(source, tmp_path / "dst", "int8"), tmp_path, ModelFileError, f"model.safetensors.*{message}"
    )


def test_safetensors_cut_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        with pytest.raises(ModelFileError):
            SafetensorsFile(path)
    path.write_bytes(GOOD)
    SafetensorsFile(path).close()


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a.weight": "../outside.safetensors"}, "outside"),
        ({"a.weight": "/etc/passwd"}, "outside"),
        ({"a.weight": "link.safetensors"}, "outside"),
        ({"a.weight": "absent.safetensors"}, "missing"),
        ({"a.weight": "."}, "outside|missing"),
        ({"a.weight": "one.safetensors", "b.weight": "one.safetensors"}, "b.weight"),
        ({}, "neither|no tensors"),
        ({"a.weight": 3}, "weight_map"),
        ([], "weight_map"),
        ({"a.weight": "one.safetensors", "c.weight": "two.safetensors"}, "tensor a.weight is in"),
    ],
)
def test_malformed_index(tmp_path: Path, weight_map: Any, message: str) -> None:
    (tmp_path / "outside.safetensors").write_bytes(GOOD)
    source = model(tmp_path / "src")
    (source / "model.safetensors").rename(source / "one.safetensors")
    two = {"a.weight": entry(shape=(1, 2)), "c.weight": entry(shape=(1, 2), offsets=(8, 16))}
    (source / "two.safetensors").write_bytes(safetensors(two, TENSOR * 2))
    (source / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(lambda: quantize(source, tmp_path / "dst", "int8"), tmp_path, ModelFileError, message)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ("{", ModelFileError, "not valid JSON"),
        ("[]", ModelFileError, "expected an object"),
        ({}, UnsupportedModelError, "model_type None"),
        ({"model_type": ["swcm"]}, UnsupportedModelError, "model_type"),
        ({"model_type": "gpt2"}, UnsupportedModelError, "gpt2"),
        ({"model_type": "swcm", "quantization": {"dtype": "int4"}}, UnsupportedModelError, "int4"),
        *(
            (
                {"model_type": "swcm", "quantization": {**INT4_SCHEMES[64], "group_size": size}},
                UnsupportedModelError,
                "32",
            )
            for size in (0, -64, 48, 64.0, True, "64", [64], 10**30, None)
        ),
    ],
)
def test_malformed_config(tmp_path: Path, config: Any, error: type[Exception], message: str) -> None:
    source = model(tmp_path / "src", config=config)
    refused(lambda: quantize(source, tmp_path / "dst", "int8"), tmp_path, error, f"config.json.*{message}")


def test_int8_without_its_scale(tmp_path: Path) -> None:
    weights = safetensors({"a.weight": entry("I8", (1, 2), (0, 2))}, b"\1\2")
    source = model(tmp_path / "src", weights, {"model_type": "swcm", "quantization": None})
    refused(lambda: quantize(source, tmp_path / "dst", "float32"), tmp_path, ModelFileError, "a.weight_scale")


def test_sources_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("file", "empty", "absent"):
        refused(lambda name=name: quantize(tmp_path / name, tmp_path / "dst", "int8"), tmp_path, ModelFileError, name)
    with pytest.raises(ModelFileError, match="does not exist"):
        SafetensorsDirectory(tmp_path / "absent")


def convert(*arguments: Any, **options: Any) -> str:
    from lrengine.convert.run import convert as run

    return run(*arguments, **options)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, form: str) -> None:
    state = {"decoder.last_linear.weight": torch.ones(2, 2), "bomb": Bomb(tmp_path / "executed")}
    path = tmp_path / "a.bin"
    if form == "plain":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    refused(lambda: convert(path, tmp_path / "dst"), tmp_path, ModelFileError, "a.bin")
    assert not (tmp_path / "executed").exists()


def test_torch_files_cut_short(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.bin", tmp_path / "cut.bin"
    torch.save({"decoder.last_linear.weight": torch.ones(9, 9)}, whole)
    content = whole.read_bytes()
    for length in range(0, len(content), 97):
        cut.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="cut.bin"):
            convert(cut, tmp_path / "dst")


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([1, 2], ModelFileError, "found a list"),
        ({"a": 3}, ModelFileError, "'a' is a int"),
        ({3: torch.ones(1)}, ModelFileError, "3 is a Tensor"),
        ({}, ModelFileError, "no tensors"),
        ({"a": torch.ones(2, 2).to_sparse()}, ModelFileError, "dense"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, ModelFileError, "complex64"),
        ({"module.a": torch.ones(1), "a": torch.ones(1)}, ModelFileError, "is in"),
        ({"unknown.weight": torch.ones(1)}, UnsupportedModelError, "unknown.weight"),
    ],
)
def test_torch_files_of_something_else(tmp_path: Path, state: Any, error: type[Exception], message: str) -> None:
    torch.save(state, tmp_path / "a.bin")
    refused(lambda: convert(tmp_path / "a.bin", tmp_path / "dst"), tmp_path, error, message)


def test_a_huge_tensor_of_one_number_is_not_unfolded(tmp_path: Path) -> None:
    """Stride 0: 4 bytes in the file, 4 exabytes in memory. Shapes are compared before anything is copied."""
    for name in ("decoder.last_linear.weight", "decoder.embed_layer.LayerNorm.weight"):
        torch.save(swcm() | {name: torch.ones(1).expand(2**30, 2**30)}, tmp_path / "a.bin")
        message = rf"{name}: found .*\[1073741824, 1073741824\]"
        refused(lambda: convert(tmp_path / "a.bin", tmp_path / "dst"), tmp_path, ModelFileError, message)


def llm_gguf(path: Path, **changes: Any) -> bytes:
    import gguf

    fields = {"block_count": 1, "embedding_length": 8, "attention.head_count": 2, "feed_forward_length": 8,
              "context_length": 16, "attention.layer_norm_rms_epsilon": 1e-5, **changes}  # fmt: skip
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        if value is not None:
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"llama.{name}", value)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    writer.add_tensor("token_embd.weight", np.ones((3, 8), np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path.read_bytes()


def test_gguf_cut_at_every_length_and_with_every_byte_changed(tmp_path: Path) -> None:
    """Never anything but a typed error: this file lacks layers, so no change makes a whole model of it."""
    from lrengine.convert.gguf import convert_gguf
    from lrengine.convert.gguf_file import read_gguf
    from lrengine.convert.options import ConvertOptions

    content = llm_gguf(tmp_path / "whole.gguf")
    path = tmp_path / "a.gguf"
    header = read_gguf(tmp_path / "whole.gguf").tensors["token_embd.weight"]
    assert header.shape == (3, 8)
    data_at = len(content) - 3 * 8 * 4
    for length in range(data_at + 90):
        path.write_bytes(content[:length])
        with pytest.raises(LrengineError):
            convert_gguf(path, ConvertOptions())
    for at in range(data_at):
        for value in (0, 255):
            path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            try:
                convert_gguf(path, ConvertOptions())
            except LrengineError as error:
                assert "a.gguf" in str(error)


def test_gguf_counts_and_lengths_that_no_file_holds(tmp_path: Path) -> None:
    def header(tensors: int, fields: int, rest: bytes) -> bytes:
        return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + rest

    key = struct.pack("<Q", 1) + b"k"
    huge = 2**60
    cases = {
        "tensors": header(huge, 0, b""),
        "fields": header(0, huge, b""),
        "key": header(0, 1, struct.pack("<Q", huge)),
        "string": header(0, 1, key + struct.pack("<IQ", 8, huge)),
        "array of bytes": header(0, 1, key + struct.pack("<IIQ", 9, 0, huge)),
        "array of strings": header(0, 1, key + struct.pack("<IIQ", 9, 8, huge)),
        "arrays in arrays": header(0, 1, key + struct.pack("<I", 9) + struct.pack("<IQ", 9, huge) * 50),
        "dimensions": header(1, 0, key + struct.pack("<I", 2**31)),
        "product": header(1, 0, key + struct.pack("<IQQIQ", 2, 2**33, 2**33, 0, 0)),
        "offset": header(1, 0, key + struct.pack("<IQIQ", 1, 4, 0, 2**63)),
        "version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    }
    for name, content in cases.items():
        (tmp_path / "a.gguf").write_bytes(content)
        refused(lambda: convert(tmp_path / "a.gguf", tmp_path / "dst"), tmp_path, LrengineError, "a.gguf"), name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_count", 10**9), ("block_count", None), ("embedding_length", 0), ("attention.head_count", 3),
        ("attention.head_count", 2.5), ("attention.layer_norm_rms_epsilon", float("nan")),
        ("attention.layer_norm_rms_epsilon", -1.0), ("rope.freq_base", 7), ("feed_forward_length", 2**32 - 1),
    ],
)  # fmt: skip
def test_gguf_metadata_that_makes_no_model(tmp_path: Path, field: str, value: Any) -> None:
    llm_gguf(tmp_path / "a.gguf", **{field: value})
    refused(lambda: convert(tmp_path / "a.gguf", tmp_path / "dst"), tmp_path, LrengineError, "a.gguf")


@pytest.mark.parametrize(
    "fields",
    [
        "{",
        {},
        {"model_type": 3},
        {"model_type": "no-such-model"},
        {"model_type": "xlm-roberta", "num_hidden_layers": 10**9},
        {"model_type": "xlm-roberta", "num_hidden_layers": "many"},
        {"model_type": "xlm-roberta", "num_attention_heads": 7},
        {"model_type": "xlm-roberta", "num_attention_heads": 0},
        {"model_type": "xlm-roberta", "vocab_size": -5},
        {"model_type": "xlm-roberta", "hidden_size": None},
        {"model_type": "mt5"},
    ],
)
def test_sub_configs_that_make_no_model(tmp_path: Path, fields: Any) -> None:
    from lrengine.convert.options import ConvertOptions

    torch.save(swcm(), tmp_path / "a.bin")
    path = tmp_path / "config.json"
    path.write_text(fields if isinstance(fields, str) else json.dumps(fields))
    options = ConvertOptions(encoder_config=path)
    action = lambda: convert(tmp_path / "a.bin", tmp_path / "dst", options=options)  # noqa: E731
    refused(action, tmp_path, LrengineError, "a.bin|config.json")


def swcm(width: int = 64) -> dict[str, Any]:
    """A whole published checkpoint of one layer, vocabulary 5."""

    def linear(name: str, rows: int = width) -> dict[str, Any]:
        return {f"{name}.weight": torch.ones(rows, width), f"{name}.bias": torch.ones(rows)}

    def norm(name: str) -> dict[str, Any]:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.ones(width)}

    layer = "decoder.layers.0"
    state = linear("decoder.last_linear", 5)
    for attention in (f"{layer}.self_attention", f"{layer}.cross_attention"):
        state |= {
            f"{attention}.in_proj_weight": torch.ones(3 * width, width),
            f"{attention}.in_proj_bias": torch.ones(3 * width),
        }
        state |= linear(f"{attention}.out_proj")
    for block in ("ffn1.0", "ffn1.2", "ffn2.0", "ffn2.2"):
        state |= linear(f"{layer}.{block}")
    for number in range(1, 5):
        state |= norm(f"{layer}.norm{number}")
    for table, rows in (("word", 5), ("position", 9), ("token_type", 1)):
        state[f"encoder.embeddings.{table}_embeddings.weight"] = torch.ones(rows, width)
    state |= norm("encoder.embeddings.LayerNorm")
    layer = "encoder.encoder.layer.0"
    for part in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ):
        state |= linear(f"{layer}.{part}")
    return state | norm(f"{layer}.attention.output.LayerNorm") | norm(f"{layer}.output.LayerNorm")


def test_the_undamaged_checkpoint_of_these_tests_is_converted(tmp_path: Path) -> None:
    torch.save(swcm(), tmp_path / "a.bin")
    assert convert(tmp_path / "a.bin", tmp_path / "dst") == "swcm"
