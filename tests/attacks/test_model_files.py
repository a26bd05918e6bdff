"""BAD_INPUTS 1 to 4, 6 and 7 for Engine.load: malformed weights, indexes and directories. The files that are no
safetensors are those of test_checkpoints.py, around the config and the tokenizer of a model that works."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine import Engine
from lrengine.errors import ModelFileError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import small_tokenizers  # noqa: E402
from model_copies import SOURCE, Copies, Tensors, missing, write_tensors  # noqa: E402
from test_checkpoints import BAD_FILES, safetensors  # noqa: E402

from tiny import tiny_fusion, tiny_swcm  # noqa: E402

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def swcm(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    folder = tmp_path_factory.mktemp("swcm")
    tiny_swcm(layers=1, tie_word_embeddings=False).save_pretrained(folder / "good")
    small_tokenizers.save(small_tokenizers.unigram(), folder / "good")
    return Copies(folder / "good", folder)


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    """An encoder and an LLM that both have names for one table (mT5's `shared`, a tied output)."""
    folder = tmp_path_factory.mktemp("fusion")
    tiny_fusion(encoder="mt5", llm="qwen2").save_pretrained(folder / "good")
    return Copies(folder / "good", folder)


# 1 to 3: the safetensors file


@pytest.mark.parametrize("name", BAD_FILES)
def test_malformed_safetensors(swcm: Copies, name: str) -> None:
    content, _ = BAD_FILES[name]
    match = f"{WEIGHTS}: .*found .*expected|{WEIGHTS}: found"
    swcm.refused(lambda folder: (folder / WEIGHTS).write_bytes(content), ModelFileError, match)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b'{"\xc0\x80":1}', "UTF-8"),
        (b'{"a":' + b"9" * 100_000 + b"}", "number overflow"),
        (b'{"' + b"n" * 3_000_000 + b'":{}}', "n{50}.*dtype: found nothing"),
        (b"{" + b",".join(b'"%d":{}' % i for i in range(20_000)) + b"}", "dtype"),
    ],
)
def test_headers_made_to_exhaust_the_reader(swcm: Copies, header: bytes, match: str) -> None:
    """Soon refused, by a message that can be read: what is long in the file is cut in it."""
    started = time.monotonic()
    content = safetensors(header)
    swcm.refused(lambda folder: (folder / WEIGHTS).write_bytes(content), ModelFileError, f"{WEIGHTS}: .*{match}")
    assert time.monotonic() - started < 20


# 4: the index


def into_shards(folder: Path, tensors: Tensors) -> dict[str, str]:
    """The weights as a.safetensors and b.safetensors; gives the weight_map, which is not written."""
    (folder / WEIGHTS).unlink()
    half = len(tensors) // 2
    parts = {"a.safetensors": list(tensors)[:half], "b.safetensors": list(tensors)[half:]}
    for file, names in parts.items():
        write_tensors(folder / file, {name: tensors[name] for name in names})
    return {name: file for file, names in parts.items() for name in names}


def test_shards_are_read(swcm: Copies) -> None:
    with swcm.copy() as folder:
        weight_map = into_shards(folder, swcm.tensors)
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        engine = Engine.load(folder, device="cpu")
        assert engine.generate(SOURCE, max_new_tokens=3) == swcm.good.generate(SOURCE, max_new_tokens=3)


@pytest.mark.parametrize(
    ("shard", "match"),
    [
        ("../outside.safetensors", "weight_map.*outside.*expected"),
        ("/etc/passwd", "weight_map.*passwd.*expected"),
        ("link.safetensors", "link.safetensors.*link out of"),
        ("none.safetensors", "none.safetensors"),
        (".", "weight_map"),
        ("", "weight_map"),
        ("a\0b", "weight_map"),
        (3, "weight_map.*found 3"),
        (None, "weight_map.*found null"),
        ("a.safetensors", "expected this tensor, which|found nothing"),
    ],
)
def test_an_index_that_points_elsewhere(swcm: Copies, tmp_path: Path, shard: Any, match: str) -> None:
    write_tensors(tmp_path / "outside.safetensors", swcm.tensors)

    def damage(folder: Path) -> None:
        shutil.copy(tmp_path / "outside.safetensors", folder.parent / "outside.safetensors")
        weight_map = into_shards(folder, swcm.tensors)
        (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
        weight_map[list(weight_map)[-1]] = shard
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    swcm.refused(damage, ModelFileError, match)


def test_a_tensor_in_two_shards(swcm: Copies) -> None:
    name = "decoder.layers.0.norm1.bias"

    def damage(folder: Path) -> None:
        weight_map = into_shards(folder, swcm.tensors)
        last = {key: swcm.tensors[key] for key, file in weight_map.items() if file == "b.safetensors" or key == name}
        first = {key: swcm.tensors[key] for key, file in weight_map.items() if file == "a.safetensors" or key == name}
        write_tensors(folder / "a.safetensors", first)
        write_tensors(folder / "b.safetensors", last)
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    swcm.refused(damage, ModelFileError, f"{name}: found here and in .*expected in one file")


# 6: the tensors


def floats(values: Any) -> bytes:
    return np.asarray(values, np.float32).tobytes()


def test_a_tensor_that_is_missing_is_named(swcm: Copies, fusion: Copies) -> None:
    """Aliases too: of a tied table, the name that the config asks for must be there."""
    for copies, name in (
        (swcm, "decoder.layers.0.norm1.bias"),
        (swcm, "encoder.embeddings.word_embeddings.weight"),
        (swcm, "lm_head.weight"),
        (fusion, "encoder.shared.weight"),
        (fusion, "llm.model.embed_tokens.weight"),
    ):
        rest = {key: value for key, value in copies.tensors.items() if key != name}
        copies.refused(
            lambda folder, rest=rest: write_tensors(folder / WEIGHTS, rest),
            ModelFileError,
            f"{WEIGHTS}: found no tensor {name}.*expected",
        )


def test_tensors_that_nobody_asked_for(swcm: Copies) -> None:
    more = {**swcm.tensors, "extra.weight": ("F32", [2], floats([1, 2]))}
    swcm.refused(
        lambda folder: write_tensors(folder / WEIGHTS, more), ModelFileError, f"{WEIGHTS}: found 1 .*extra.weight"
    )


@pytest.mark.parametrize("name", ["decoder.layers.0.self_attention.q_proj.weight", "encoder.embeddings.LayerNorm.bias"])
@pytest.mark.parametrize("damage", ["shape", "I64", "BOOL", "I8", "NaN", "Inf", "-Inf"])
def test_a_tensor_of_another_kind(swcm: Copies, name: str, damage: str) -> None:
    dtype, shape, content = swcm.tensors[name]
    count = len(content) // 4
    values = np.frombuffer(content, np.float32).copy()
    if damage == "shape":
        changed = (dtype, [shape[0] + 1, *shape[1:]], content + content[: len(content) // shape[0]])
    elif damage in ("I64", "BOOL", "I8"):
        width = {"I64": 8, "BOOL": 1, "I8": 1}[damage]
        changed = (damage, shape, bytes(count * width))
    else:
        values[count - 1] = float(damage)
        changed = (dtype, shape, floats(values))
    swcm.refused(
        lambda folder: write_tensors(folder / WEIGHTS, {**swcm.tensors, name: changed}),
        ModelFileError,
        f"{WEIGHTS}: {name}.*found .*expected",
    )


def test_mixed_float_types_are_a_model(swcm: Copies) -> None:
    mixed = {
        name: ("F16", shape, np.frombuffer(content, np.float32).astype(np.float16).tobytes()) if number % 2 else kept
        for number, (name, kept) in enumerate(swcm.tensors.items())
        for _, shape, content in [kept]
    }
    with swcm.copy() as folder:
        write_tensors(folder / WEIGHTS, mixed)
        states = Engine.load(folder, device="cpu").encode(SOURCE)[0]
        assert np.abs(states - swcm.good.encode(SOURCE)[0]).max() < 0.05


# 7: the directory


def test_directories_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "empty", "absent", "loop", "n" * 300, "file/below"):
        with pytest.raises(ModelFileError, match=f"{name}.*found .*expected"):
            Engine.load(tmp_path / name, device="cpu")
    for odd in ("", "\0", "a\0b"):
        with pytest.raises(ModelFileError, match="found .*expected"):
            Engine.load(odd, device="cpu")


def replaced(file: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return damage


@pytest.mark.parametrize("file", ["config.json", WEIGHTS, "tokenizer.json"])
def test_things_in_the_place_of_a_file(swcm: Copies, file: str) -> None:
    """Nothing is waited for or read without end: pipes, devices, sockets, directories, links to nowhere, 40 GB."""
    started = time.monotonic()
    makers: dict[str, Callable[[Path], object]] = {
        "directory": Path.mkdir,
        "empty": Path.touch,
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "random": lambda path: path.symlink_to("/dev/urandom"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to nowhere": lambda path: path.symlink_to("nowhere"),
        "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
        "sparse": lambda path: (path.touch(), os.truncate(path, 40 << 30)),
        "zeros": lambda path: path.write_bytes(bytes(1000)),
    }
    for name, make in makers.items():
        if name == "socket" and len(str(swcm.original)) > 80:
            continue  # the system's limit on names of sockets
        swcm.refused(replaced(file, make), ModelFileError, f"{file}: .*found .*expected")
    assert time.monotonic() - started < 60


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_that_may_not_be_read(swcm: Copies) -> None:
    for file in ("config.json", WEIGHTS, "tokenizer.json"):
        swcm.refused(lambda folder, file=file: (folder / file).chmod(0), ModelFileError, f"{file}.*Permission denied")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 1_000_000, b'{"a":' * 300_000, b"\xff\xfe", b"null", b'{"eos_token_id": NaN}']
)
def test_a_generation_config_decides_nothing(swcm: Copies, content: bytes) -> None:
    """transformers' file: whatever is in it, the directory opens."""
    with swcm.copy() as folder:
        (folder / "generation_config.json").write_bytes(content)
        engine = Engine.load(folder, device="cpu")
        (folder / "generation_config.json").unlink()
        os.mkfifo(folder / "generation_config.json")
        Engine.load(folder, device="cpu")
        assert engine.generate(SOURCE, max_new_tokens=3) == swcm.good.generate(SOURCE, max_new_tokens=3)


# tokenizer.json: the core refuses these, so the `tokenizers` package gets them

SMALL_BPE = {"type": "BPE", "vocab": {"a": 0, "\u00e9": 1, "ab": 2, "b": 3}, "merges": ["a b"]}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("post_processor.single", [{"SpecialToken": {"id": "none", "type_id": 0}}]),
        ("post_processor.special_tokens.</s>.ids", [2**31]),
        ("model", missing),
        ("model", 3),
        # These two end the process in the package itself: they must not get there.
        ("model", {**SMALL_BPE, "continuing_subword_prefix": "xyz"}),
        ("model", {**SMALL_BPE, "merges": [["a", "\u00e9"]], "continuing_subword_prefix": "x"}),
    ],
)
def test_a_tokenizer_that_fails_is_a_bad_file(swcm: Copies, place: str, value: Any) -> None:
    """The package panics over some files only when they are used: that is no error of the caller's."""
    from model_copies import changed

    with swcm.copy() as folder:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
        with pytest.raises(ModelFileError, match="tokenizer.json: .*found .*expected"):
            Engine.load(folder, device="cpu").generate("the fox", max_new_tokens=2)
