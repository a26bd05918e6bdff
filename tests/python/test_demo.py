"""The demo from end to end in a few steps, and the parts that its honesty rests on."""

from __future__ import annotations

import io
import json
import os
import random
import re
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lrengine.cli import main
from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from lrengine.demo.align import AlignmentBatches, AlignmentModel, SpecialIds, small_encoder
from lrengine.demo.languages import name_of
from lrengine.demo.measure import Job, run_side
from lrengine.demo.pretrain import Budget, pretrain
from lrengine.demo.progress import Progress
from lrengine.demo.recipe import Recipe
from lrengine.demo.report import write_report
from lrengine.demo.results import (
    Agreement,
    DemoResults,
    HeatMap,
    Latency,
    Stage,
    TranslationSample,
    TranslationScore,
    ZeroShotScore,
)
from lrengine.demo.sample import EMOJI_LANGUAGES, Sample, find_sample
from lrengine.demo.stages import MODELS, Places
from lrengine.demo.svg import Bar, BarGroup, bar_chart, heat_map, line_chart, nice_ticks
from lrengine.demo.tracks import _gather, _run, _workers, train_all
from lrengine.errors import DataError
from lrengine.models.losses import IGNORED_LABEL
from tiny import tiny_encoder, tiny_encoder_config, tiny_llm

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
SHOWN = "🐱"  # the demo shows its mixer weights


@pytest.fixture(scope="module")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the bundled sample."""
    directory = tmp_path_factory.mktemp("sample")
    (directory / "emoji").mkdir()
    for name in ("ui.jsonl", "udhr.jsonl", *(f"emoji/{code}.jsonl" for code in EMOJI_LANGUAGES)):
        lines = (SAMPLE / name).read_text(encoding="utf-8").splitlines()
        kept = []
        for line in lines:
            row = json.loads(line)
            key = str(row.get("id") or row.get("en"))  # the same rows in every language
            if zlib.crc32(key.encode()) % 10 == 0 or key == SHOWN:
                kept.append(line)
        (directory / name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return directory


def test_quick_demo_trains_runs_compares_and_reports(
    small_sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--data", str(small_sample), "--out", str(out)]) == 0

    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [stage["key"] for stage in sorted(found["stages"], key=lambda stage: stage["begun"])] == [
        "encoder",
        "llm",
        "swcm",
        "fusion",
        "classifier",
    ]
    assert all(stage["steps"] == 3 and stage["trained_parameters"] > 0 for stage in found["stages"])
    trained = {stage["key"]: stage["trained_parameters"] for stage in found["stages"]}
    assert trained["classifier"] > trained["encoder"]  # which is trained on with it
    assert len(found["translation"]) == 6 and len(found["samples"]) == 6
    assert [score["language"] for score in found["zero_shot"]] == list(EMOJI_LANGUAGES)
    for row in found["agreement"]:
        assert row["equal"] == row["count"] > 0, row
        assert row["difference"] < 1e-4, row
    for latency in found["latency"]:
        assert 0 < latency["engine_p50"] <= latency["engine_p95"], latency
        assert 0 < latency["torch_p50"] <= latency["torch_p95"], latency
    for item in found["heat_maps"]:
        assert len(item["tokens"]) == len(item["weights"]) > 0
        assert all(abs(sum(row) - 1.0) < 1e-3 for row in item["weights"])

    page = (out / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "mean nothing" in page  # a quick run says so
    printed = capsys.readouterr().out
    assert "outputs identical to PyTorch's" in printed and "majority" in printed and "reference" in printed


def test_quick_demo_from_given_models(small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six processes that import PyTorch, and the report about them: the test above has waited for those already.
    for name in ("compare_all", "write_report"):
        monkeypatch.setattr(f"lrengine.demo.run.{name}", lambda *arguments: None)
    texts = [group.texts["en"] for group in Sample(small_sample).groups("train") if "en" in group.texts]
    tokenizer = train_tokenizer(texts, 230)
    for name, model in (("encoder", tiny_encoder()), ("llm", tiny_llm())):
        model.save_pretrained(tmp_path / name)
        save_tokenizer(tokenizer, tmp_path / name)
    given = ["--encoder", str(tmp_path / "encoder"), "--llm", str(tmp_path / "llm")]
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--data", str(small_sample), "--out", str(out), *given]) == 0
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {stage["key"] for stage in found["stages"]} == {"swcm", "fusion", "classifier"}
    assert (found["encoder"], found["llm"]) == (given[1], given[3])
    assert len(found["translation"]) == 6 and len(found["zero_shot"]) == len(EMOJI_LANGUAGES)
    assert sorted(path.name for path in (out / "models").iterdir()) == ["classifier", "fusion", "swcm"]


def test_measuring_uses_the_lrengine_that_its_caller_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "added" / "lrengine" / "demo"
    package.mkdir(parents=True)
    for directory in (package.parent, package):
        (directory / "__init__.py").touch()
    (package / "measure.py").write_text("print('{\"milliseconds\": [1.5]}')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "added")
    job = Job("swcm", "model", "engine", threads=1, texts=[], timed=[], calls=1, new_tokens=0, limit=1)
    assert run_side(job).milliseconds == [1.5]


SMALL = Recipe(seconds=2.0, encoder_width=32, encoder_layers=1, llm_width=64, llm_layers=1)


def test_workers_are_two_processes() -> None:
    with _workers(SMALL) as (executor, reports):
        waiting = executor.submit(reports.get, True, 60)
        executor.submit(reports.put, "from the other worker").result(timeout=60)
        assert waiting.result() == "from the other worker"
        assert executor.submit(os.getpid).result() != os.getpid()


def test_every_stage_trains_in_a_process_of_its_own(
    small_sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrengine.demo.tracks.Workshop", None)  # of this process: nothing is to be trained here
    reported: list[str] = []
    progress = Progress(io.StringIO())
    monkeypatch.setattr(progress, "tick", reported.append)
    places = Places(small_sample, tmp_path / "demo")
    places.clear()
    stages = train_all(places, SMALL, progress)

    assert {stage.key for stage in stages[:2]} == {"encoder", "llm"}
    assert {stage.key for stage in stages[2:]} == {"swcm", "fusion", "classifier"}
    begun = [stage.begun for stage in stages]
    assert begun == sorted(begun)
    assert max(stage.begun + stage.seconds for stage in stages[:2]) <= begun[2], "what is needed first is made first"
    assert all(stage.steps > 0 for stage in stages)
    assert sorted(path.name for path in places.models.iterdir()) == sorted(MODELS)
    assert all((places.models / name / "model.safetensors").is_file() for name in MODELS)
    assert any("   " in text for text in reported), "two stages side by side"
    written = progress.stream.getvalue()  # type: ignore[attr-defined]
    assert all(f"{stage.title}: {stage.objective}, {stage.steps:,} steps" in written for stage in stages)


def test_an_error_in_a_process_of_training_arrives_whole(small_sample: Path, tmp_path: Path) -> None:
    places = Places(small_sample, tmp_path / "demo")
    places.clear()
    recipe = replace(SMALL, encoder=str(tmp_path / "no-encoder"))
    with _workers(recipe) as (executor, reports), pytest.raises(DataError, match="no-encoder"):
        _gather([executor.submit(_run, places, recipe, "train_classifier", 0.0, reports)], reports, Progress())


@pytest.mark.parametrize("kind", ["mt5", "m2m_100"])
def test_an_encoder_that_swcm_cannot_use_is_refused_first(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_encoder_config(kind).save_pretrained(tmp_path / "encoder")
    save_tokenizer(train_tokenizer(["a few words of text, to begin with"], 40), tmp_path / "encoder")
    out = tmp_path / "demo"
    assert main(["demo", "--quick", "--encoder", str(tmp_path / "encoder"), "--out", str(out)]) == 2
    assert f"a {kind} model" in capsys.readouterr().err
    assert not out.exists()


def assert_self_contained(page: str) -> None:
    assert not re.search(r"<(script|link|iframe|img)\b|@import|url\(|\b(src|href)=", page)
    assert "http://" not in page and "https://" not in page
    assert page.count("<section>") == page.count("</section>") >= 6
    assert page.count("<svg") == page.count("</svg>") >= 5


def test_missing_sample_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "no sample" in message and "--data" in message and str(tmp_path) in message


def test_nothing_of_dev_or_test_is_trained_on() -> None:
    sample = Sample(find_sample(str(SAMPLE)))
    trained = {(code, text) for group in sample.groups("train") for code, text in group.texts.items()}
    held_out = {row["id"] for row in sample.emoji["en"] if row["split"] != "train"}
    assert held_out and held_out.isdisjoint(row["id"] for row in sample.emoji["en"] if row["split"] == "train")
    for split in ("dev", "test"):
        strings = [group for group in sample.groups(split) if group.kind == "interface"]
        assert strings and all(("en", group.texts["en"]) not in trained for group in strings)
        assert all(group.kind != "declaration" for group in sample.groups(split))


def test_samples_are_drawn_by_seed_from_the_test_split_only() -> None:
    sample = Sample(find_sample(str(SAMPLE)))
    drawn = sample.test_draw(12, seed=3)
    assert drawn == sample.test_draw(12, seed=3) != sample.test_draw(12, seed=4)
    for source, target, text, reference in drawn:
        assert (text, reference) in sample.translation_pairs(source, target, "test")
    assert {(source, target) for source, target, _, _ in drawn} == set(sample.directions())


IDS = SpecialIds(begin=0, pad=1, end=2, mask=4, first_piece=5)


def test_alignment_batches_pair_translations_and_mask_only_pieces() -> None:
    groups = [{"en": [10 + n] * 3, "zh": [50 + n] * 2, "ug": [90 + n] * 4} for n in range(20)]
    batch = AlignmentBatches(groups, 200, IDS, size=8).make(random.Random(5))
    sides, masked, labels = batch["sides"], batch["masked"], batch["labels"]
    assert sides.shape[0] == 16 and (sides[:, 0] == IDS.begin).all()
    meanings = [{(int(token) - 10) % 40 for token in row if token >= 5} for row in sides]
    assert meanings[:8] == meanings[8:]  # row i and row B + i say the same
    assert len({frozenset(meaning) for meaning in meanings[:8]}) == 8
    chosen = labels != IGNORED_LABEL
    assert chosen.any() and (labels[chosen] >= IDS.first_piece).all()
    assert ((masked != IDS.mask) | chosen).all()


def test_pretraining_lowers_the_loss_and_stops_at_its_budget(tmp_path: Path) -> None:
    torch.manual_seed(0)
    groups = [{"en": [10 + n], "ug": [90 + n]} for n in range(40)]
    model = AlignmentModel(small_encoder(200, width=32, layers=1))
    batches = AlignmentBatches(groups, 200, IDS, size=16)
    by_steps = pretrain(model, batches.make, Budget(1000.0, 60), 5e-3, tmp_path, lambda text: None)
    assert by_steps.steps == 60
    assert by_steps.loss[-1][1] < 0.8 * by_steps.loss[0][1]
    by_seconds = pretrain(model, batches.make, Budget(0.3), 1e-3, tmp_path, lambda text: None)
    assert 0 < by_seconds.steps < 1000 and by_seconds.seconds < 5.0


def test_charts_draw_what_they_are_given() -> None:
    assert nice_ticks(23.9) == [0.0, 10.0, 20.0, 30.0] and nice_ticks(0.0) == [0.0, 1.0]
    bars = bar_chart([BarGroup("a<b", [Bar(10, "--x", "10"), Bar(5, "--y", "5")], 7)], 10, "%", "t")
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', bars)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=1e-3) and "a&lt;b" in bars and 'class="marker"' in bars
    curve = line_chart([(1, 4.0), (10, 2.0)], [(10, 3.0)], "loss")
    assert curve.count("<polyline") == 2 and "2.00" in curve and "3.00" in curve
    cells = heat_map(["a", "ب"], [[0.25, 0.75], [0.5, 0.5]], "ug", "weights")
    assert cells.count('class="cell"') == 4 and 'dir="rtl"' in cells and "0.75" in cells


def test_report_says_where_the_models_fail(tmp_path: Path) -> None:
    results = DemoResults("E", "L", "M", "V", 2, "float32")
    results.stages = [Stage("swcm", "SWCM translator", "o", "10 pairs", 5.0, 61.0, 5, 1000, [(1, 3.0), (5, 2.0)])]
    results.translation = [
        TranslationScore("zh", "ug", 9, 4.0, 1.0, 8.0),
        TranslationScore("ug", "zh", 9, 6.0, 1.0, 2.0),
    ]
    results.samples = [TranslationSample("zh", "ug", "<左>", "سول", "")]
    results.zero_shot = [ZeroShotScore("en", 9, 0.1, 0.5, 0.5), ZeroShotScore("kk", 9, 0.3, 0.2, 0.1)]
    results.latency = [Latency("SWCM", "t", 9, 1.0, 2.0, 4.0, 5.0, 10.0, 20.0)]
    results.agreement = [Agreement("SWCM", "tokens", 9, 8, 1e-6)]
    results.heat_maps = [HeatMap("ug", "سول", ["سول"], [[0.5, 0.5]])]
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "Neither model beats the majority class in Kazakh" in page
    assert "No better than an unrelated sentence: Chinese to Uyghur." in page
    assert "&lt;左&gt;" in page and "(nothing)" in page
    assert 'lang="ug-Arab" dir="rtl"' in page and name_of("ug") in page
    assert "1 min 06 s" in page  # five seconds before it began, and 61 of training
    assert "8 <small>of 9" in page and "4.0<small>×" in page
    assert "Too few steps to expect anything of:</b> SWCM translator (5 steps)" in page
    results.stages[0].steps = 5000
    write_report(results, tmp_path / "report.html")
    assert "Too few steps" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_progress_writes_plain_lines_where_nobody_watches() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.stage("work"):
        progress.tick("step 1")
    written = stream.getvalue()
    assert "\033" not in written and "step 1" not in written
    assert re.search(r"✓ work +\d+\.\d s\n$", written)
