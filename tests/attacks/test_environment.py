"""BAD_INPUTS 10 and 11 for Python: devices that are absent, memory that runs out. (C++: cuda_open_test, device_test,
cuda_faults_test, allocation_failure_test. Line 12: test_threads.py.)"""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lrengine import Engine
from lrengine.errors import DeviceError

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

import small_tokenizers  # noqa: E402

from tiny import tiny_swcm  # noqa: E402

GOOD = [[0, 7, 8, 9, 2]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swcm")
    tiny_swcm(layers=1, tie_word_embeddings=False).save_pretrained(folder)
    small_tokenizers.save(small_tokenizers.unigram(), folder)
    return folder


# 10


@pytest.mark.parametrize("library", ["missing", "text"])
def test_a_cuda_library_that_cannot_be_used(
    directory: Path, tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "liblrengine_cuda.so"
    if library == "text":
        file.write_text("no library")
    monkeypatch.setenv("LRENGINE_CUDA_LIBRARY", str(file))
    for device in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=r"liblrengine_cuda\.so.*device \"cpu\""):
            Engine.load(directory, device=device)
    with caplog.at_level(logging.INFO, logger="lrengine"):
        engine = Engine.load(directory, device="auto")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "is the CPU" in said and "liblrengine_cuda.so" in said
    assert engine.device == "cpu" and engine.generate(GOOD, max_new_tokens=2)


# 11


def test_memory_that_runs_out_is_an_error_and_a_smaller_request_is_answered(directory: Path) -> None:
    """In a process of its own, which may take little more than it has."""
    script = f"""
        import resource
        from lrengine import Engine
        from lrengine.errors import InvalidRequestError, OutOfMemoryError
        engine = Engine.load({str(directory)!r}, device="cpu", threads=1)
        before = engine.generate({GOOD!r}, max_new_tokens=4)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for call in (
            lambda: engine.generate({GOOD!r}, max_new_tokens=300, do_sample=True, num_return_sequences=20_000),
            lambda: engine.generate({GOOD!r} * 20_000, max_new_tokens=300),
            lambda: engine.generate({GOOD!r}, do_sample=True, num_return_sequences=2**40),
            lambda: engine.generate({GOOD!r}, do_sample=True, num_return_sequences=2**62),
        ):
            try:
                call()
                print("answered")
            except (OutOfMemoryError, InvalidRequestError) as error:
                print(type(error).__name__, error)
            assert engine.generate({GOOD!r}, max_new_tokens=4) == before
        print("still answers")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1:] == ["still answers"], done.stderr[-2000:]
    assert lines[0].startswith("OutOfMemoryError") and "answered" not in lines
