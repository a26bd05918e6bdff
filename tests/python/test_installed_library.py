"""The C and C++ library as its users get it: installed, found by CMake and pkg-config, and run by the examples."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small_tokenizers

from lrengine import Engine
from tiny import random_sources, save, tiny_classifier, tiny_fusion, tiny_swcm

ROOT = Path(__file__).parents[2]
INSTALLED, EXAMPLES = (Path(os.environ.get(name, "")) for name in ("LRENGINE_INSTALLED", "LRENGINE_EXAMPLES"))
pytestmark = pytest.mark.skipif(
    "LRENGINE_INSTALLED" not in os.environ or "LRENGINE_EXAMPLES" not in os.environ,
    reason="nothing was installed; `make test-install` installs the library, builds the examples and runs these",
)
TEXTS = small_tokenizers.TEXTS
shared_only = pytest.mark.skipif(
    "LRENGINE_INSTALLED" in os.environ and not any(INSTALLED.glob("lib*/liblrengine.so")),
    reason="a static library has no soname and exports nothing; `make test-install` installs a shared one",
)


@pytest.fixture(scope="module")
def ids_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_swcm(), tmp_path_factory.mktemp("ids") / "model")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save(tiny_swcm(), tmp_path_factory.mktemp("text") / "model")
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return directory


@pytest.fixture(scope="module")
def fusion_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save(tiny_fusion(), tmp_path_factory.mktemp("fusion") / "model")
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    small_tokenizers.save(small_tokenizers.byte_level(), directory / "llm")
    return directory


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save(tiny_classifier(), tmp_path_factory.mktemp("classifier") / "model")
    small_tokenizers.save(small_tokenizers.unigram(), directory)
    return directory


def run(example: str, *arguments: object, lines: list[str] | None = None, status: int = 0) -> tuple[str, str]:
    """Standard output and standard error of an example."""
    done = subprocess.run(
        [EXAMPLES / example, *map(str, arguments)],
        input="".join(line + "\n" for line in lines or []).encode(),
        capture_output=True,
        timeout=120,
    )
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, errors
    return output, errors


def library() -> Path:
    found, *_ = [*INSTALLED.glob("lib*/liblrengine.so"), *INSTALLED.glob("lib*/liblrengine.a")]
    return found


def declared_functions() -> set[str]:
    header = (INSTALLED / "include" / "lrengine" / "lrengine.h").read_text(encoding="utf-8")
    return set(re.findall(r"^LRENGINE_API [^;(]*?(lrengine_\w+)\(", header, re.MULTILINE))


@shared_only
def test_exactly_the_functions_of_the_header_are_exported() -> None:
    symbols = subprocess.run(["nm", "-D", "--defined-only", library()], capture_output=True, check=True, text=True)
    exported = {line.split()[-1].split("@")[0] for line in symbols.stdout.splitlines()}
    assert len(exported) > 20
    assert exported == declared_functions()


@shared_only
def test_the_soname_is_the_abis_and_the_version_is_the_packages() -> None:
    header = (INSTALLED / "include" / "lrengine" / "lrengine.h").read_text(encoding="utf-8")
    abi = re.search(r"LRENGINE_ABI_VERSION (\d+)", header)
    version = ".".join(re.findall(r"LRENGINE_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))
    assert abi is not None
    assert library().readlink().name == f"liblrengine.so.{abi[1]}"
    assert library().resolve().name == f"liblrengine.so.{version}"
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("standard", ["c99", "c11", "c++17", "c++20"])
@pytest.mark.parametrize("without", ["", "-fno-exceptions", "-fno-rtti", "-fno-exceptions -fno-rtti"])
def test_the_headers_are_clean_and_stand_alone(standard: str, without: str) -> None:
    cpp = standard.startswith("c++")
    compiler = os.environ.get("CXX", "c++") if cpp else os.environ.get("CC", "cc")
    language = ["-xc++", *without.split()] if cpp else ["-xc"]
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"]
    text = f"#include <lrengine/{'lrengine.hpp' if cpp else 'lrengine.h'}>\n"
    command = [compiler, f"-std={standard}", *language, *flags, f"-I{INSTALLED / 'include'}", "-"]
    subprocess.run(command, input=text, text=True, check=True)


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="pkg-config is not on this machine")
def test_pkg_config_knows_how_to_build_with_it(ids_model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PKG_CONFIG_PATH": str(library().parent / "pkgconfig")}
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "lrengine"], env=environment, capture_output=True, check=True, text=True
    )
    program = tmp_path / "generate"
    source = ROOT / "examples" / "c" / "generate.c"
    subprocess.run(["cc", source, "-o", program, *found.stdout.split(), f"-Wl,-rpath,{library().parent}"], check=True)
    done = subprocess.run([program, ids_model, "--ids", "5", "6"], capture_output=True, check=True, text=True)
    assert "log-probability" in done.stdout


def test_a_project_in_c_alone_finds_it(ids_model: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\n"
        "project(c_alone LANGUAGES C)\n"
        "find_package(lrengine REQUIRED)\n"
        f'add_executable(generate "{ROOT}/examples/c/generate.c")\n'
        "target_compile_options(generate PRIVATE -std=c11 -Wall -Wextra -Wpedantic -Werror)\n"
        "target_link_libraries(generate PRIVATE lrengine::lrengine)\n",
        encoding="utf-8",
    )
    for step in (["-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={INSTALLED}"], ["--build", "build"]):
        subprocess.run(["cmake", *step], cwd=tmp_path, check=True)
    program = tmp_path / "build" / "generate"
    done = subprocess.run([program, ids_model, "--ids", "5", "6"], capture_output=True, check=True, text=True)
    assert "log-probability" in done.stdout


def test_the_c_program_generates(ids_model: Path, text_model: Path) -> None:
    (source,) = random_sources([7])
    expected = Engine.load(ids_model, device="cpu").generate([source], max_new_tokens=64)[0]
    output, _ = run("generate", ids_model, "--ids", *source)
    assert output.splitlines()[0].split() == [str(token) for token in expected.tokens]
    assert f"{len(expected.tokens)} tokens, log-probability {expected.score:.3f}" in output
    answer = Engine.load(text_model, device="cpu").generate(TEXTS[0], max_new_tokens=64)[0]
    output, _ = run("generate", text_model, TEXTS[0])
    assert output.startswith(f"{answer.text}\n")


def test_a_failure_is_told(tmp_path: Path) -> None:
    _, errors = run("generate", tmp_path, "text", status=1)
    assert "model file" in errors
    assert "config.json" in errors


@pytest.mark.parametrize("beams", [1, 3])
def test_the_translator(text_model: Path, fusion_model: Path, beams: int) -> None:
    for model in (text_model, fusion_model):
        expected = Engine.load(model, device="cpu").generate(TEXTS, max_new_tokens=128, num_beams=beams)
        output, errors = run("translate", model, "--beams", beams, lines=TEXTS)
        assert output == "".join(f"{answer.text}\n" for answer in expected)
        assert "on cpu" in errors


def test_the_classifier_answers_every_line(classifier: Path) -> None:
    expected = Engine.load(classifier, device="cpu").classify(TEXTS)
    output, _ = run("classify_lines", classifier, lines=[TEXTS[0], "x " * 500, *TEXTS[1:]])
    rows = output.splitlines()
    assert rows[1].startswith("! ")
    for row, answer in zip([rows[0], *rows[2:]], expected, strict=True):
        label, probability, microseconds = row.split("\t")
        assert label == answer.label
        assert float(probability) == pytest.approx(answer.scores[label], abs=1e-4)
        assert int(microseconds) > 0


def test_labels_of_a_model_that_generates(text_model: Path) -> None:
    expected = Engine.load(text_model, device="cpu").classify(TEXTS[:2], ["the fox", "dog"])
    output, _ = run("classify_lines", text_model, "the fox", "dog", lines=TEXTS[:2])
    assert [row.split("\t")[0] for row in output.splitlines()] == [answer.label for answer in expected]


def test_the_readmes_program(text_model: Path, classifier: Path, tmp_path: Path) -> None:
    program = (ROOT / "examples" / "cpp" / "quickstart.cpp").read_text(encoding="utf-8")
    assert len(program.splitlines()) <= 30
    shown = re.search(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert program.endswith(shown[1])
    (tmp_path / "swcm").symlink_to(text_model)
    (tmp_path / "classifier").symlink_to(classifier)
    sources = re.findall(r'"([^"]*[^\x00-\x7f][^"]*)"', program)
    translator = Engine.load(text_model, device="cpu")
    translated = translator.generate(sources[0], max_new_tokens=32, num_beams=4)[0].text
    label = Engine.load(classifier, device="cpu").classify(sources[1])[0].label
    streamed = translator.generate(sources[2], max_new_tokens=32)[0].text
    output, _ = run("quickstart", tmp_path)
    first, second, third = output.split("\n")[:3]
    assert (first, second.split()[0], third) == (translated, label, streamed)


def test_without_exceptions(ids_model: Path) -> None:
    expected = Engine.load(ids_model, device="cpu").score([[5, 6, 7]], [[8, 9]])[0]
    output, _ = run("no_exceptions", ids_model, "5 6 7", "8 9")
    assert float(output) == pytest.approx(expected.logprob, abs=1e-3)
    _, errors = run("no_exceptions", ids_model, "5 6 700000", "8 9", status=1)
    assert "700000" in errors


@pytest.fixture
def server(text_model: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Its port and its process; it must end by itself when told to."""
    process = subprocess.Popen([EXAMPLES / "server", text_model, "0", "2"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2]), process
        process.terminate()
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "stopped" in output
    finally:
        process.kill()
        process.wait()


def ask(port: int, lines: list[str]) -> list[str]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall("".join(line + "\n" for line in lines).encode())
        answers = connection.makefile(encoding="utf-8")
        return [answers.readline().rstrip("\n") for _ in lines]


def test_the_server_answers_several_clients_at_once(
    text_model: Path, server: tuple[int, subprocess.Popen[str]]
) -> None:
    port, _ = server
    expected = [answer.text for answer in Engine.load(text_model, device="cpu").generate(TEXTS, max_new_tokens=64)]
    with ThreadPoolExecutor(4) as clients:
        for answers in clients.map(lambda _: ask(port, TEXTS), range(4)):
            assert answers == expected
    assert ask(port, ["x " * 500])[0].startswith("! ")
