"""benchmarks/plot_runs.py and plot_layer_weights.py: what runs leave, drawn; and few_shot_heads.py in miniature, whose
file the first reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from training_support import classifier_document, write_lines

from lrengine import Engine
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
    _, quarter, most = grid.iter(f"{SVG}rect")
    assert float(quarter.attrib["fill-opacity"]) < float(most.attrib["fill-opacity"]) == 1
    both = ElementTree.fromstring(charts.shares({"ug": [0.25, 0.75]}, ["1", "2"], "t", {"ug": [0.1, 0.2]}))
    assert [text.text for text in both.iter(f"{SVG}text")][3:] == ["ug", "25", "±10", "75", "±20"]


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
    log = tmp_path / "log.jsonl"
    write_lines(log, [{"step": step, "loss": 3.0 / step} for step in (1, 2, 3)])
    scores = {"value": 30.0, "low": 25.0, "high": 35.0}
    for name, value in (("a", 30.0), ("b", 50.0)):
        document = {"scores": {"chrf": {"model": {"x": scores, "mean": {**scores, "value": value}},
                                        "copy": {"mean": {**scores, "value": 10.0}}}}}  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    out = tmp_path / "plots"
    run("plot_runs.py", out, "--losses", f"first={log}", "--metric", "chrf",
        "--bars", f"init={tmp_path / 'a.json'}", f"none={tmp_path / 'b.json'}")  # fmt: skip
    assert "first" in words(out / "losses.svg")
    assert words(out / "bars.svg")[-6:] == ["init", "30.0", "copy", "10.0", "none", "50.0"]


@pytest.fixture
def layer_weights(charts):
    import plot_layer_weights

    return plot_layer_weights


def tokens_of(layer_weights, *weights: list[float]):
    """Two tokens a text."""
    rows = np.array(weights)
    return layer_weights.Tokens(rows, np.arange(len(rows)) // 2, {"<s>": rows[:1]})


def test_languages_and_tokens_are_as_far_apart_as_their_weights(layer_weights):
    first, third, even = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]
    one, two = (tokens_of(layer_weights, *rows) for rows in ([first] * 4, [even, even, third, third]))
    found = layer_weights.languages_apart({"one": one, "two": two, "same as one": one})
    assert found["largest"] == pytest.approx(0.75) and found["between"] == ("one", "two")  # means: 1 0 0, .25 0 .75
    assert found["mean"] == pytest.approx(0.5)  # .75, 0 and .75
    assert found["halves_largest"] == pytest.approx(0.5) and found["halves_mean"] == pytest.approx(0.5 / 3)
    assert layer_weights.described(two.inner) == {
        "tokens": 4, "mean": [0.25, 0, 0.75], "deviation": [0.25, 0, 0.25], "spread": 0.25
    }  # fmt: skip


def test_models_agree_where_their_tokens_move_together(layer_weights):
    low, high, mean = [0.2, 0.5, 0.3], [0.4, 0.3, 0.3], [0.3, 0.4, 0.3]
    one, turned, still = (
        layer_weights.Model({"en": tokens_of(layer_weights, *rows)}, [])
        for rows in ([low, high], [high, low], [mean, mean])
    )
    same = {"means": 0, "tokens": 0, "correlation_of_means": 1, "correlation_of_tokens": 1}
    assert layer_weights.models_apart(one, one) == pytest.approx(same)
    assert layer_weights.models_apart(one, turned) == pytest.approx(
        {**same, "tokens": 0.2, "correlation_of_tokens": -1}
    )
    assert layer_weights.models_apart(one, still)["correlation_of_tokens"] is None


def test_layer_weights_of_a_trained_mixer(tmp_path):
    document = classifier_document(tmp_path / "model", max_steps=3)
    document["model"]["options"] = {"mixer": {"type": "transformer", "ffn_dim": 8}}
    model = train(TrainConfig.from_dict(document)).output_dir
    names = {"en": ["red car", "smile"], "zh": ["green tea"]}
    for language, texts in names.items():
        rows = [{"text": text, "split": "test"} for text in texts] + [{"text": "left out", "split": "train"}]
        write_lines(tmp_path / f"{language}.jsonl", rows)
    out = tmp_path / "plots"
    run("plot_layer_weights.py", out, "--models", f"a={model}", f"b={model}", "--splits", "dev", "test",
        "--texts", tmp_path / "en.jsonl", tmp_path / "zh.jsonl", "--strings", "red car")  # fmt: skip
    found = json.loads((out / "layer_weights.json").read_text(encoding="utf-8"))
    engine = Engine.load(model)
    weights = engine.encode(names["en"], "weights")
    english = found["models"]["a"]["languages"]["en"]
    inner = np.concatenate([rows[1:-1] for rows in weights])  # <s> and </s> around each text
    assert english["tokens"] == len(inner) and english["mean"] == pytest.approx(inner.mean(0), abs=1e-4)
    special = found["models"]["a"]["special"]
    assert {piece: group["tokens"] for piece, group in special.items()} == {"<s>": 3, "</s>": 3}
    (string,) = found["models"]["a"]["strings"]
    assert string["tokens"] == engine.pieces("red car") and string["weights"][1] == pytest.approx(
        weights[0][1], abs=1e-4
    )
    (apart,) = found["models_apart"]
    assert apart["models"] == ["a", "b"] and apart["tokens"] == 0
    assert words(out / "a.svg")[3] == "en" and {"zh", "<s>", "</s>", "1", "2"} <= set(words(out / "b.svg"))
    assert {"1.1 <s>", f"1.2 {string['tokens'][1]}"} <= set(words(out / "a-strings.svg"))
