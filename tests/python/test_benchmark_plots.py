"""benchmarks/plot_runs.py: what runs leave, drawn; and few_shot_heads.py in miniature, whose file it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from training_support import classifier_document, write_lines

from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from lrengine.training import TrainConfig, train
from tiny import tiny_encoder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def words(path: Path) -> list[str]:
    return [str(text.text) for text in ElementTree.parse(path).iter(f"{SVG}text")]


@pytest.fixture
def charts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import charts

    return charts


def test_a_curve_goes_where_its_numbers_say(charts):
    points = [charts.Point(10, 0.0), charts.Point(100, 50.0, 40.0, 60.0), charts.Point(1000, 100.0)]
    drawn = ElementTree.fromstring(charts.curves({"a <b>": points, "none": []}, "t", "size", log_x=True))
    (line,) = drawn.iter(f"{SVG}polyline")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    strokes = [path.attrib["d"] for path in drawn.iter(f"{SVG}path") if "V" in path.attrib["d"]]
    (ends,) = [[float(end) for end in stroke.split(" ")[1].split("V")] for stroke in strokes]
    assert sum(ends) / 2 == pytest.approx(y1, abs=0.2) and ends[0] - ends[1] == pytest.approx((y0 - y2) / 5, abs=0.3)
    assert "a <b>" in [text.text for text in drawn.iter(f"{SVG}text")]


def test_bars_and_shares_are_to_scale(charts):
    values = {"one": charts.Point(0, 20.0, 15.0, 25.0), "two": charts.Point(0, 40.0)}
    _, one, two = ElementTree.fromstring(charts.bars(values, "t")).iter(f"{SVG}rect")
    assert float(two.attrib["width"]) == pytest.approx(2 * float(one.attrib["width"]), abs=0.2)
    grid = ElementTree.fromstring(charts.shares({"ug": [0.25, 0.75]}, ["1", "2"], "t"))
    assert [text.text for text in grid.iter(f"{SVG}text")] == ["t", "1", "2", "ug", "25", "75"]


def test_few_shot_curves_in_miniature(tmp_path):
    kinds = ("cell sheet", "page letter")
    rows = [
        {"text": f"{kinds[n % 2]} {'abcdefghijklmnopqrstuvwxyz'[n % 26]}{'xyz'[n // 26]}", "label": "cp"[n % 2],
         "split": "test" if n % 4 == 3 or n % 4 == 2 else "train"}
        for n in range(60)
    ]  # fmt: skip
    rows.append({"text": "Cell  sheet AX!", "label": "c", "split": "test"})  # a training string, nearly
    texts = tmp_path / "ug.jsonl"
    write_lines(texts, rows)
    tiny_encoder("bert", pad_token_id=1).save_pretrained(tmp_path / "encoder")
    save_tokenizer(train_tokenizer([row["text"] for row in rows], 120), tmp_path / "encoder")
    out = tmp_path / "few.json"
    run(
        "few_shot_heads.py",
        tmp_path / "encoder",
        texts,
        "--sizes",
        "8,all",
        "--seeds",
        2,
        "--mixers",
        "last",
        "--json",
        out,
    )
    found = json.loads(out.read_text())
    assert found["left_out"] == 1 and (found["train"], found["test"]) == (30, 30)
    for size in ("8", "30"):
        assert list(found["sizes"][size]["scores"]) == ["majority", "tfidf", "linear", "last"]
        assert found["sizes"][size]["lead_over_linear"]["linear"]["value"] == 0
    assert found["sizes"]["30"]["scores"]["tfidf"]["value"] > 90  # two words tell all
    run("plot_runs.py", tmp_path / "plots", "--few-shot", f"ug={out}")
    assert {"majority", "last", "8", "30"} <= set(words(tmp_path / "plots" / "few_shot_ug.svg"))


def test_the_other_plots_of_a_run(tmp_path):
    result = train(TrainConfig.from_dict(classifier_document(tmp_path / "model", max_steps=3)))
    scores = {"value": 30.0, "low": 25.0, "high": 35.0}
    for name, value in (("a", 30.0), ("b", 50.0)):
        document = {"scores": {"chrf": {"model": {"x": scores, "mean": {**scores, "value": value}},
                                        "copy": {"mean": {**scores, "value": 10.0}}}}}  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    texts = [tmp_path / "en.jsonl", tmp_path / "zh.jsonl"]
    for path in texts:
        write_lines(path, [{"text": "red car"}, {"text": "smile"}])
    out = tmp_path / "plots"
    run("plot_runs.py", out, "--losses", f"first={result.output_dir / 'train_log.jsonl'}", "--metric", "chrf",
        "--bars", f"init={tmp_path / 'a.json'}", f"none={tmp_path / 'b.json'}",
        "--weights", result.output_dir, "--texts", *texts)  # fmt: skip
    assert "first" in words(out / "losses.svg")
    assert words(out / "bars.svg")[-6:] == ["init", "30.0", "copy", "10.0", "none", "50.0"]
    assert {"en", "zh", "1", "2"} <= set(words(out / "weights.svg")) and len(words(out / "tokens.svg")) > 5
