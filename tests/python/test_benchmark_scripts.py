"""Benchmarks in miniature, on the CPU: what they report must not fail at the end of a long run, or on a real GPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_decode_benchmark_in_miniature(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu_decode.py"),
        str(tmp_path),
        "--workload",
        "fusion",
        "--smoke",
    ]
    command += ["--rounds", "1", "--batches", "2", "--beams", "1", "--dtypes", "bfloat16", "int8", "int4", "--peers"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--json", str(report)], check=True, env=environment, capture_output=True)
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["smoke"] and found["check"] == {"largest_logprob_difference": 0.0, "distinct_answers": 1}
    assert [(row["name"], row["batch"]) for row in found["rows"]] == [
        (f"lrengine {dtype}", batch) for batch in (1, 2) for dtype in ("bfloat16", "int8", "int4")
    ]
    assert (
        found["step_bytes"]["int4"]
        < found["step_bytes"]["int8"]
        < found["step_bytes"]["bfloat16"]
        < found["weight_bytes"]["bfloat16"]
    )


def test_onnx_benchmark_in_miniature(tmp_path: Path) -> None:
    """Without its peer, which wants an environment of its own."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "onnx_decode.py"), str(tmp_path), "--smoke", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--json", str(report)], check=True, env=environment, capture_output=True)
    found = json.loads(report.read_text(encoding="utf-8"))
    assert [(row["batch"], row["beams"]) for row in found["rows"]] == [(1, 1), (2, 2)]
    # a difference of two times, so on a busy machine anything
    assert all(math.isfinite(row["tokens_per_s"]) for row in found["rows"]) and found["step_bytes"] > 0


def test_the_gpu_script_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "benchmarks" / "gpu_check.sh")], check=True)


def test_comparing_models_pairs_their_answers_and_takes_seeds_together(tmp_path: Path) -> None:
    rows = [{"id": str(k), "text": f"name {k}", "label": ("food", "drink")[k % 2]} for k in range(6)]
    (tmp_path / "en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = f"{{kind: pairs, path: {tmp_path}/en.jsonl, source: text, target: label, name: en, group: id}}"
    (tmp_path / "recipe.yaml").write_text(
        "model: {type: layer_fusion, encoder: e, llm: l}\nrun: {output_dir: none}\n"
        f"data: {{train: [{source}]}}\nevaluation: {{task: classification, data: [{source}]}}\n",
        encoding="utf-8",
    )

    def write(name: str, wrong: int) -> str:
        lines = [
            {"task": "en", "source": row["text"], "reference": row["label"], "majority": "drink"}
            | {name: "nothing" if k < wrong else row["label"]}
            for k, row in enumerate(rows)
        ]
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return str(tmp_path / name)

    models = [f"first={write('a', 3)},{write('b', 0)}", f"second={write('c', 0)}"]
    command = [sys.executable, str(ROOT / "benchmarks" / "compare_models.py"), str(tmp_path / "recipe.yaml")]
    found = subprocess.run([*command, *models, "--metric", "accuracy"], check=True, capture_output=True, text=True)
    first, second = map(json.loads, found.stdout.splitlines())
    assert first["seeds"] == [50.0, 100.0] and first["en"]["value"] == 75.0 and second["lead"]["value"] == 25.0
    assert second["lead"]["low"] >= 0.0 and first["lead"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert first["answers that are no label"] == [3, 0] and second["tasks"] == {"en": 100.0}
