"""cuBLASLt is found in Python's packages, when there is a backend that wants it and nobody named another file."""

import subprocess
import sys
from pathlib import Path

import pytest

from lrengine import cuda_libraries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `nvidia` with two libraries and a damaged one, and a backend."""
    for folder, number in (("cublas", 12), ("cu13", 13)):
        library = tmp_path / "site" / "nvidia" / folder / "lib" / f"libcublasLt.so.{number}"
        library.parent.mkdir(parents=True)
        source = tmp_path / "empty.c"
        source.write_text("int lrengine_test_library(void) { return 1; }\n")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    backend = tmp_path / "liblrengine_cuda.so"
    backend.touch()
    monkeypatch.setattr(cuda_libraries, "BACKEND", backend)
    monkeypatch.delenv("LRENGINE_CUBLASLT", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    return tmp_path


def test_the_newest_library_is_loaded(package: Path) -> None:
    found = cuda_libraries.preload_cublaslt()
    assert found is not None and found.name == "libcublasLt.so.13" and found.is_relative_to(package)
    assert str(found) in Path("/proc/self/maps").read_text()


def test_a_damaged_library_is_passed_over(package: Path) -> None:
    (package / "site" / "nvidia" / "cu13" / "lib" / "libcublasLt.so.13").write_bytes(b"not a library")
    found = cuda_libraries.preload_cublaslt()
    assert found is not None and found.name == "libcublasLt.so.12"


def test_nothing_is_loaded_where_nobody_asks(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRENGINE_CUBLASLT", "/elsewhere/libcublasLt.so")
    assert cuda_libraries.preload_cublaslt() is None
    monkeypatch.delenv("LRENGINE_CUBLASLT")
    monkeypatch.setattr(cuda_libraries, "BACKEND", package / "none.so")
    assert cuda_libraries.preload_cublaslt() is None
