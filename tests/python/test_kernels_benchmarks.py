"""The kernel benchmarks run through, on tiny sizes and without a GPU, and then claim no times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has no build for this platform")
FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"


@pytest.mark.parametrize("name", ["layer_mix", "linear_cross_entropy"])
def test_smoke(name: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, FOLDER / f"{name}.py", "--smoke", "--json", file]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(file.read_text())
    assert result["smoke"] is True and result["skipped"] == []
    assert {case["implementation"] for case in result["cases"]} >= {"triton"}
    for case in result["cases"]:
        assert case["times"] == {} and case["floor_us"] is None and case.get("difference", 0.0) < 4e-2
