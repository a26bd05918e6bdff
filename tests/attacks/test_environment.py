"""BAD_INPUTS 10 to 12 for Python: devices that are absent, memory that runs out, threads, forks, callers that go away.
(C++: cuda_open_test, cuda_faults_test, allocation_failure_test, threads_test, thread_pool_test.)"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from lrengine import Engine
from lrengine.errors import DeviceError, InvalidRequestError

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


@pytest.fixture
def engine(directory: Path) -> Engine:
    return Engine.load(directory, device="cpu", threads=2)


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


# 12


def test_threads_share_an_engine_while_others_load_and_drop(directory: Path) -> None:
    engine = Engine.load(directory, device="cpu", threads=2)
    expected = engine.generate(GOOD, max_new_tokens=6)
    wrong: list[object] = []

    def ask() -> None:
        wrong.extend(answer for _ in range(20) if (answer := engine.generate(GOOD, max_new_tokens=6)) != expected)

    def load_and_drop() -> None:
        for _ in range(8):
            other = Engine.load(directory, device="cpu", threads=2)
            stream = other.stream(GOOD, max_new_tokens=6)
            next(stream)
            del other, stream

    threads = [threading.Thread(target=target) for target in (ask, ask, ask, load_and_drop, load_and_drop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and engine.generate(GOOD, max_new_tokens=6) == expected


def test_an_engine_dropped_with_a_stream_open(directory: Path) -> None:
    engine = Engine.load(directory, device="cpu", threads=1)
    expected = [token.token for token in engine.stream(GOOD, max_new_tokens=6)]
    stream = engine.stream(GOOD, max_new_tokens=6)
    first = next(stream)
    del engine
    gc.collect()
    assert [first.token, *(token.token for token in stream)] == expected


def test_a_stream_closed_before_it_starts_in_a_step_and_twice(engine: Engine) -> None:
    for steps in (0, 1, 3):
        stream = engine.stream(GOOD, max_new_tokens=6)
        for _ in range(steps):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        stream.close()  # type: ignore[attr-defined]
        assert list(stream) == []
    assert len(engine.generate(GOOD, max_new_tokens=3)) == 1


def test_an_exception_in_the_callers_loop_ends_that_request_alone(engine: Engine) -> None:
    other = engine.stream(GOOD, max_new_tokens=6)
    next(other)
    with pytest.raises(ZeroDivisionError):
        for token in engine.stream(GOOD, max_new_tokens=6):
            token.token / 0  # noqa: B018
    assert len(list(other)) > 0 and engine.generate(GOOD, max_new_tokens=3)


def test_an_exception_in_an_inputs_own_code_reaches_the_caller(engine: Engine) -> None:
    class Odd(list):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            raise KeyError("mine")

    with pytest.raises((KeyError, InvalidRequestError)):
        engine.generate(Odd([[5]]))
    assert engine.generate(GOOD, max_new_tokens=3)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_answers_and_so_does_its_parent(engine: Engine) -> None:
    expected = engine.generate(GOOD, max_new_tokens=4)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if engine.generate(GOOD, max_new_tokens=4) == expected else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert status == 0 and engine.generate(GOOD, max_new_tokens=4) == expected
