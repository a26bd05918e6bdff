"""examples/onnx_cpp: a program on ONNX Runtime's C API alone that runs an export from its manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_tokenizers

from lrengine import Engine
from lrengine.export import Profile, export_onnx
from tiny import random_sources, save, tiny_fusion, tiny_swcm

ROOT = Path(__file__).parents[2]
HEADERS = Path(os.environ.get("ONNXRUNTIME_INCLUDE", Path(sys.prefix) / "onnxruntime-headers"))
pytestmark = pytest.mark.skipif(
    not (HEADERS / "onnxruntime_c_api.h").is_file() or shutil.which("cmake") is None,
    reason="no onnxruntime_c_api.h (Python's wheel has none): `make onnx-headers` fetches it, or ONNXRUNTIME_INCLUDE "
    "names the folder that has it",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnxruntime

    build = tmp_path_factory.mktemp("build")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*.*")
    options = [f"-DONNXRUNTIME_INCLUDE={HEADERS}", f"-DONNXRUNTIME_LIBRARY={library}", "-DCMAKE_CXX_FLAGS=-Werror"]
    if "LRENGINE_INSTALLED" in os.environ:
        options.append(f"-DCMAKE_PREFIX_PATH={os.environ['LRENGINE_INSTALLED']}")
    for command in (["-S", str(ROOT / "examples" / "onnx_cpp"), "-B", str(build), *options], ["--build", str(build)]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "onnx_generate"


def run(program: Path, *arguments: object, status: int = 0) -> str:
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.parametrize("static", [None, Profile(2, 20, 24, beams=2)], ids=["dynamic", "static"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ids_in_and_ids_out(program: Path, tmp_path: Path, static: Profile | None, dtype: str) -> None:
    for name, model in (("swcm", tiny_swcm()), ("fusion", tiny_fusion())):
        directory = save(model, tmp_path / name)
        exported = export_onnx(directory, tmp_path / f"{name}-onnx", static=static, dtype=dtype)
        engine = Engine.load(directory, device="cpu", threads=1)
        for source in random_sources([1, 13]):
            prompt = ["--prompt", 5, 6] if name == "fusion" else []
            given = {"prompts": [[5, 6]]} if prompt else {}
            expected = engine.generate([source], max_new_tokens=9, **given)[0]
            output = run(program, exported, "--ids", *source, *prompt, "--max", 9)
            assert [int(token) for token in output.split()] == expected.tokens


def test_a_static_export_ends_where_its_cache_does(program: Path, tmp_path: Path) -> None:
    exported = export_onnx(save(tiny_swcm(), tmp_path / "model"), tmp_path / "onnx", static=Profile(1, 8, 6))
    assert len(run(program, exported, "--ids", 5, 6, "--max", 50).split()) == 6, (
        "a start token, and the last is never fed"
    )


def test_what_is_wrong_is_told(program: Path, tmp_path: Path) -> None:
    exported = export_onnx(save(tiny_swcm(layers=1), tmp_path / "model"), tmp_path / "onnx")
    assert "lrengine export onnx" in run(program, tmp_path, "--ids", 5, status=1)
    assert "vocabulary" in run(program, exported, "--ids", 5, 70000, status=1)
    assert "331" in run(program, exported, "--ids", *[5] * 331, status=1)
    (exported / "lrengine_onnx.json").write_text('{"format_version": 1, "cache"')
    assert "JSON" in run(program, exported, "--ids", 5, status=1)


@pytest.mark.skipif(
    "LRENGINE_INSTALLED" not in os.environ, reason="without an installed lrengine there are no tokenizers in C++"
)
def test_text_in_and_text_out(program: Path, tmp_path: Path) -> None:
    directory = save(tiny_swcm(), tmp_path / "model")
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    exported = export_onnx(directory, tmp_path / "onnx")
    for text in small_tokenizers.TEXTS:
        expected = Engine.load(directory, device="cpu").generate(text, max_new_tokens=12)[0].text
        assert run(program, exported, "--model", directory, "--text", text, "--max", 12) == f"{expected}\n"
