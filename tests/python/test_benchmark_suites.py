"""The suites against peers: who takes part, what the peers' processes answer, what is made of the results.

LRENGINE_PEERS names the folder of benchmarks/install_peers.py; without it only the peers of this environment are tried.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrengine.bench.compare import compare
from lrengine.bench.contestant import Contestant, ContestantError, Entry
from lrengine.bench.figures import figures_of
from lrengine.bench.report import parts_of, put_part
from lrengine.bench.workload import Workload
from tiny import tiny_classifier, tiny_fusion, tiny_swcm

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # its scripts import each other

import latency  # noqa: E402
import peer_models  # noqa: E402
import plot_suites  # noqa: E402
import quality  # noqa: E402
from install_peers import environment_python  # noqa: E402
from suites import PEERS  # noqa: E402

WORKERS = os.pathsep.join([str(ROOT / "lrengine" / "bench"), str(ROOT)])
FAMILIES = {
    "ctranslate2": {"m2m100": "int8", "xlmr": "float32", "llama": "int8"},
    "onnxruntime": {"m2m100": "int8", "xlmr": "float32"},
    "llama_cpp": {"llama": "q8_0"},
}


def test_peers_take_turns_with_the_engine_in_miniature(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two parts of two suites, with the peer that is always installed."""
    common = [
        "--small",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--peers",
        "transformers",
        "llama_cpp",
        "--out",
        str(tmp_path),
    ]
    with caplog.at_level("WARNING"):
        latency.main([str(tmp_path), "encoder", "--parts", "float", "--ours", "float32", *common])
        latency.main([str(tmp_path), "llm", "--ours", "bfloat16", *common])
    assert "llama_cpp is not installed" in caplog.text
    assert "## encoder, float" in capsys.readouterr().out
    for suite, part, ours, peer in (
        ("encoder", "float", "lrengine float32", "transformers float32"),
        ("llm", "bfloat16", "lrengine bfloat16", "transformers bfloat16"),
    ):
        parts = parts_of(json.loads((tmp_path / f"{suite}.json").read_text(encoding="utf-8")))
        assert list(parts) == [part]
        names = {row["name"] for row in parts[part]["rows"] if "failed" not in row}
        assert names == {ours, peer}


@pytest.fixture(scope="module")
def peer_sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hugging Face directories in miniature."""
    work = tmp_path_factory.mktemp("peers")
    folders = {name: work / name for name in ("m2m100", "xlmr", "llama")}
    peer_models.build_m2m100(folders["m2m100"], small=True)
    peer_models.build_xlm_roberta(folders["xlmr"], work / "ours-xlmr", small=True)
    peer_models.build_llama(folders["llama"], work / "ours-llama", small=True)
    return folders


@pytest.mark.parametrize(
    ("peer", "family"), [(peer, family) for peer, families in FAMILIES.items() for family in families]
)
def test_a_peers_process_answers_on_its_own_form_of_the_model(
    peer: str, family: str, peer_sources: dict[str, Path], tmp_path: Path
) -> None:
    """ONNX Runtime's needs optimum, which `make test-transformers-4` has."""
    installed = Path(sys.executable) if peer == "onnxruntime" and importlib.util.find_spec("optimum") else None
    python = installed or environment_python(Path(os.environ.get("LRENGINE_PEERS", "/nowhere")), peer)
    if not python.exists():
        pytest.skip(f"{peer} is not installed (benchmarks/install_peers.py WORK; LRENGINE_PEERS=WORK)")
    dtype, model, script = FAMILIES[peer][family], tmp_path / "model.gguf", str(PEERS / f"{peer}_worker.py")
    environment = {"PYTHONPATH": os.pathsep.join([WORKERS, os.environ.get("PYTHONPATH", "")])}
    command = [str(python), script, "--convert", str(peer_sources[family]), str(model), dtype]
    subprocess.run(command, check=True, env=os.environ | environment, capture_output=True)
    workload = Workload("encode", 2, 9, 0) if family == "xlmr" else Workload(batch=1, source=9, new_tokens=4)
    with Contestant(Entry(peer, [str(python), script], model, dtype, None, environment), 1, "cpu") as contestant:
        assert contestant.versions and contestant.seconds(workload, workload.new_tokens) > 0
        if family == "llama" and peer == "llama_cpp":
            with pytest.raises(ContestantError, match="one row, greedy"):
                contestant.seconds(Workload(batch=2, source=9), 2)


def test_a_real_text_is_what_sources_are(tmp_path: Path) -> None:
    """Rows of the file, not ids made up: a source that is too long shows which were used."""
    tiny_swcm().save_pretrained(tmp_path)
    command = [sys.executable, "-m", "lrengine.bench.engine_worker"]
    with Contestant(Entry("lrengine", command, tmp_path), threads=1, device="cpu") as contestant:
        for rows, fits in (([[5, 6, 7], [8] * 12], True), ([[5] * 10_000, [6]], False)):
            (tmp_path / "text.json").write_text(json.dumps(rows), encoding="utf-8")
            workload = Workload(batch=2, source=64, new_tokens=2, text="text.json")
            if fits:
                assert contestant.seconds(workload, 2) > 0
            else:
                with pytest.raises(ContestantError, match="10000|10,000|position"):
                    contestant.seconds(workload, 2)
    assert "real text" in workload.name and "source" not in workload.name


def report(ours: float, bandwidth: float = 1e9) -> dict[str, Any]:
    """Two contestants on workloads that the pictures want; times in seconds a token."""
    rows = []
    for workload in (Workload(new_tokens=11), Workload(source=16, new_tokens=11), Workload(batch=4, new_tokens=11)):
        for name, token in (("lrengine int8", ours), ("ctranslate2 int8", 3 * ours)):
            times = {"first_s": [0.1] * 3, "request_s": [0.1 + 10 * token] * 3}
            rows.append({"name": name, "workload": workload.message(), "step_bytes": 10_000_000, **times})
    machine = {"date": "2026-01-02 03:04", "cpu": "a processor", "instruction_sets": ["avx2"], "commit": "c0ffee" * 6}
    contestants = [
        {"name": "lrengine int8", "versions": {"lrengine": "9.9"}},
        {"name": "absent", "failed": "absent: no"},
    ]
    found = {"schema": 1, "rows": rows, "read_bandwidth_bytes_s": [bandwidth], "machine": machine}
    return found | {"contestants": contestants, "threads": 2, "rounds": 3}


def test_a_suites_file_keeps_each_parts_own_bandwidth_and_replaces_a_part() -> None:
    document = put_part(put_part(None, "a", report(0.02)), "b", report(0.04, 2e9))
    document = put_part(document, "a", report(0.05, 4e9))
    found = {(f.token_us, f.floor_us) for f in figures_of(document) if f.name == "lrengine int8"}
    assert {(round(t or 0), round(f or 0)) for t, f in found} == {(50_000, 2_500), (40_000, 5_000)}


def test_comparing_suites_sets_a_part_against_the_same_part() -> None:
    before = put_part(put_part(None, "a", report(0.02)), "b", report(0.04))
    after = put_part(put_part(None, "b", report(0.02)), "a", report(0.02))
    ratios = [round(change.ratio, 2) for change in compare(before, after)]
    assert len(ratios) == 12 and ratios[:6] == [1.0] * 6 and set(ratios[6:]) == {0.6, 0.54}


def test_pictures_of_a_small_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seq2seq.json").write_text(json.dumps(put_part(None, "int", report(0.02))), encoding="utf-8")
    (tmp_path / "work.json").write_text("{}", encoding="utf-8")  # a result of another kind
    plot_suites.main([str(tmp_path), str(tmp_path / "images")])
    for name in ("latency", "throughput", "roofline"):
        text = (tmp_path / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<svg" in text and "lrengine int8" in text and len(text) < 100_000
    page = (tmp_path / "images" / "README.md").read_text(encoding="utf-8")
    assert "## seq2seq, int" in page and "| ctranslate2 int8 | 60,000 |" in page
    assert "a processor (avx2), 2 threads, 3 rounds, 1.0 GB/s read, commit c0ffeec0f; lrengine 9.9." in page
    assert "- left out: absent: absent: no" in page
    (tmp_path / "seq2seq.json").unlink()
    capsys.readouterr()
    plot_suites.main([str(tmp_path), str(tmp_path / "none")])
    assert capsys.readouterr().out.count("left out") == 3


def quality_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, Any]]:
    out = Path(arguments[1]) / "quality.json"
    quality.main([*arguments, "--threads", "1", "--json", str(out)])
    return capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))


def test_quality_of_labels_counts_right_ones_and_equal_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_classifier()
    model.save_pretrained(tmp_path)
    data = tmp_path / "rows.jsonl"
    sources = [[5 + i, 9, 40 + 3 * i] for i in range(8)]
    answers = [found.label for found in quality.Engine.load(tmp_path, device="cpu", threads=1).classify(sources)]
    wrong = {answers[0]: "none of them"}
    labels = [wrong.get(answer, answer) if index == 0 else answer for index, answer in enumerate(answers)]
    rows = [{"id": str(i), "text": str(i), "label": label, "split": "test"} for i, label in enumerate(labels)]
    rows.append({"id": "8", "text": "8", "label": labels[0], "split": "train"})
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    classify = quality.Engine.classify
    # the model has no tokenizer: a text stands for its row
    monkeypatch.setattr(
        quality.Engine, "classify", lambda self, texts: classify(self, [sources[int(text)] for text in texts])
    )
    shown, found = quality_of(capsys, "labels", str(tmp_path), str(data), "--split", "test", "--dtypes", "int8")
    assert [row["dtype"] for row in found["rows"]] == ["float32", "int8"] and found["examples"] == 8
    assert found["rows"][0]["values"]["accuracy"]["value"] == pytest.approx(100 * 7 / 8)
    assert found["rows"][0]["equal"] == 100 and found["rows"][0]["against"]["accuracy"]["value"] == 0
    assert "| float32 |" in shown and "| int8 |" in shown


def test_a_source_gets_the_tag_of_its_target_language(tmp_path: Path) -> None:
    document = {"model_type": "swcm", "source_prefixes": {"kk": "<2kk> ", "zh": "<2zh> "}}
    (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"zh": "打开", "kk": "Ашу", "en": "Open"}), encoding="utf-8")
    for source, target, wanted in (("zh", "kk", "<2kk> 打开"), ("kk", "zh", "<2zh> Ашу"), ("zh", "en", "打开")):
        chosen = argparse.Namespace(
            directory=tmp_path, data=[data], source=source, target=target, split=None, limit=None
        )
        assert [example.source for example in quality.pairs(chosen)] == [wanted]


def test_perplexity_is_that_of_the_engines_log_probabilities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tiny_fusion().save_pretrained(tmp_path)
    (tmp_path / "llm").mkdir()
    words = {f"w{i}": i for i in range(40)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "llm" / "tokenizer.json"))
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"en": ["w5 w6 w7", "w8 w9"]}) + "\n" + json.dumps({"en": "w10"}), encoding="utf-8")
    _, found = quality_of(
        capsys, "language", str(tmp_path), str(data), "--target", "en", "--length", "4", "--dtypes", "bfloat16"
    )
    engine = quality.Engine.load(tmp_path, device="cpu", threads=1)
    scores = engine.score([[0], [0]], [[5, 6, 7, 8], [9, 10]])
    expected = np.exp(-sum(score.logprob for score in scores) / 6)
    first, second = (row["values"]["perplexity"]["value"] for row in found["rows"])
    assert first == pytest.approx(expected, rel=1e-6)
    assert second == pytest.approx(expected, rel=0.02) and second != first
