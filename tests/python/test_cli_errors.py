"""How the command line ends when something outside it is wrong: a message and a status, never a traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrengine.cli import info, main
from tiny import tiny_swcm

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "examples/train/swcm_from_scratch.yaml")


HIDING = """
import sys

class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden)
"""


@pytest.mark.parametrize("arguments", [["demo"], ["convert", "a", "b"], ["train", EXAMPLE]])
def test_a_missing_package_is_named_with_the_remedy(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDING, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "lrengine", *arguments], env=environment, capture_output=True, timeout=60
    )
    text = done.stderr.decode()
    assert done.returncode == 2, text
    assert "needs torch: pip install 'lrengine[train]'" in text and "Traceback" not in text


def test_a_broken_build_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: Any) -> int:
        raise ModuleNotFoundError("No module named 'lrengine._engine'", name="lrengine._engine")

    monkeypatch.setattr(info, "run", run)
    with pytest.raises(ModuleNotFoundError):
        main(["info", "x"])


def raising(error: BaseException) -> Callable[[Any], int]:
    def run(args: Any) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "out.json"),
        IsADirectoryError(21, "Is a directory", "out.json"),
        OSError(28, "No space left on device", "out.json"),
    ],
)
def test_file_errors_say_what_and_where(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "run", raising(error))
    assert main(["info", "x"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("lrengine info: ") and str(error.strerror) in message and "out.json" in message


PRINTING = """
import sys
from lrengine.cli import info, main
info.run = lambda args: print("x") or 0
sys.exit(main(["info", "x"]))
"""


def printing_into(output: int) -> subprocess.CompletedProcess[bytes]:
    """A command whose output goes to a file descriptor."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", PRINTING], env=environment, stdout=output, stderr=subprocess.PIPE, timeout=60
    )


KILLED_BETWEEN_RENAMES = """
import os, signal, sys
from pathlib import Path

rename = Path.rename

def killed(self, target):
    result = rename(self, target)
    if str(target).endswith(".replaced"):
        os.kill(os.getpid(), signal.SIGTERM)
    return result

Path.rename = killed
from lrengine.cli import main
sys.exit(main(["quantize", sys.argv[1], sys.argv[2], "--force"]))
"""

TERMINATED = """
import os, signal, sys
import lrengine.quantize

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)

lrengine.quantize.copy_other_files = killed
from lrengine.cli import main
sys.exit(main(["quantize", sys.argv[1], sys.argv[2]]))
"""


def test_a_terminated_command_leaves_no_half_written_directory(tmp_path: Path) -> None:
    source, folder = tmp_path / "model", tmp_path / "out"
    tiny_swcm().save_pretrained(source)
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", TERMINATED, str(source), str(folder / "int8")], cwd=ROOT, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == []


def test_a_command_that_is_terminated_while_it_replaces_a_directory_puts_it_back(tmp_path: Path) -> None:
    source, folder = tmp_path / "model", tmp_path / "out"
    tiny_swcm().save_pretrained(source)
    shutil.copytree(source, folder / "model")
    before = (folder / "model" / "model.safetensors").read_bytes()
    command = [sys.executable, "-c", KILLED_BETWEEN_RENAMES, str(source), str(folder / "model")]
    done = subprocess.run(command, cwd=ROOT, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (folder / "model" / "model.safetensors").read_bytes() == before


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = printing_into(write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no always full device")
def test_a_full_disk_is_said_once() -> None:
    with Path("/dev/full").open("wb") as full:
        done = printing_into(full.fileno())
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1 and b"No space left" in done.stderr, done.stderr
