"""Every kernel compiles ahead of time, without a GPU; in a process of its own, because here Triton may interpret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrengine.kernels import compile_all as module

pytest.importorskip("triton", reason="Triton has no build for this platform")

KERNELS = {
    "layer_mix", "layer_mix_backward", "attend_layers", "attend_layers_backward", "mix_mapper", "tied_linear",
    "tied_linear_backward_weight", "linear_cross_entropy", "linear_cross_entropy_probabilities",
    "linear_cross_entropy_product",
}  # fmt: skip


def compile_all(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder / "cache"), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "lrengine.kernels.compile_all", "--json", str(folder / "table.json"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("dtype", "target"), [("float32", 80), ("float16", 90), ("bfloat16", 100)])
def test_every_kernel_compiles(dtype: str, target: int, tmp_path: Path) -> None:
    """Few layers: the kernels are unrolled over them, and the code of each is the same."""
    run = compile_all(tmp_path, "--targets", str(target), "--dtypes", dtype, "--layers", "3", "--widths", "768")
    assert run.returncode == 0, run.stderr
    table: list[dict[str, Any]] = json.loads((tmp_path / "table.json").read_text())
    assert {row["kernel"] for row in table} == KERNELS
    for row in table:
        assert row["target"] == target and row["code_bytes"] > 0 and 0 < row["registers"] <= 255, row


def test_every_kernel_of_the_package_is_in_the_list() -> None:
    folder = Path(__file__).parents[2] / "kernels"
    sources = [file.read_text() for file in folder.glob("*.py")]
    found = sum(source.count("_kernel(\n") for source in sources)
    assert found == len(KERNELS)


def test_many_layers_fit_the_target_with_the_least_shared_memory(tmp_path: Path) -> None:
    options = ["--targets", "86", "--dtypes", "bfloat16", "--layers", "24", "--widths", "1024"]
    run = compile_all(tmp_path, *options, "--kernels", "mix_mapper")
    assert run.returncode == 0, run.stderr


def test_one_failure_is_named_and_fails_the_run_but_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compile_variant(variant: Any, dtype: Any, target: int) -> Any:
        if variant.name == "tied_linear" and target == 86:
            raise RuntimeError("too large")
        return module.Compiled(variant.name, str(dtype), target, 1, 0, 0, 4, 1)

    monkeypatch.setattr(module, "compile_variant", compile_variant)
    options = ["--targets", "80,86", "--dtypes", "bfloat16", "--layers", "3", "--widths", "8"]
    assert module.main(options) == 1
    printed = capsys.readouterr()
    assert printed.err == "tied_linear torch.bfloat16 L=3 D=8 sm_86: RuntimeError: too large\n"
    assert len(printed.out.splitlines()) == 2 * len(KERNELS) - 1
