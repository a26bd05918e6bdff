"""`lrengine bench`: who takes turns, what is made of the samples, and what its errors say."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lrengine.bench.compare import compare
from lrengine.bench.contestant import Contestant, ContestantError, Entry
from lrengine.bench.figures import figures_of, table
from lrengine.bench.machine import EnergyMeter
from lrengine.bench.measure import measure
from lrengine.bench.model_bytes import step_bytes, weight_bytes
from lrengine.bench.workload import Workload, grid
from lrengine.cli import main
from lrengine.errors import InvalidRequestError
from tiny import tiny_swcm

# Answers with scripted seconds and writes down who was asked what, when.
SCRIPTED = """
import json, sys
name, log, first, token, fails_at = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
def say(**answer): print(json.dumps(answer), flush=True)
json.loads(sys.stdin.readline())
say(open_s=0.5, versions={"scripted": "1"})
for line in sys.stdin:
    message = json.loads(line)
    if message["op"] == "memory":
        say(peak_mib=12.0)
        continue
    with open(log, "a") as file:
        file.write(f"{name}{message['new_tokens']} ")
    if message["workload"]["batch"] == fails_at:
        say(error="ValueError: too large a batch")
    else:
        say(seconds=first + token * max(0, message["new_tokens"] - 1))
"""


def scripted(tmp_path: Path, name: str, token: float, fails_at: int = 0) -> Entry:
    script = tmp_path / "scripted.py"
    script.write_text(SCRIPTED, encoding="utf-8")
    command = [sys.executable, str(script), name, str(tmp_path / "log"), "0.1", str(token), str(fails_at)]
    return Entry(name, command, tmp_path, None, step_bytes=1000)


def run_scripted(tmp_path: Path, entries: list[Entry], workloads: list[Workload], rounds: int = 3) -> dict[str, Any]:
    return measure(entries, workloads, threads=1, rounds=rounds, warm_up=1)


def test_contestants_take_turns_and_change_places(tmp_path: Path) -> None:
    run_scripted(tmp_path, [scripted(tmp_path, "a", 0.01), scripted(tmp_path, "b", 0.02)], [Workload(new_tokens=5)])
    log = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert log[:2] == ["a5", "b5"]  # warm-up
    a, b = ["a1", "a1", "a5"], ["b1", "b1", "b5"]  # one that is not timed, the first token, all tokens
    assert log[2:] == [*a, *b, *b, *a, *a, *b]


def test_a_tokens_time_leaves_the_first_one_out(tmp_path: Path) -> None:
    report = run_scripted(tmp_path, [scripted(tmp_path, "a", 0.02)], [Workload(batch=3, new_tokens=11)])
    (found,) = figures_of(report)
    assert found.token_us == pytest.approx(20_000) and found.first_ms == pytest.approx(100)
    assert found.request_ms == pytest.approx(300) and found.tokens_per_s == pytest.approx(3 * 11 / 0.3)
    assert found.peak_mib == 12.0 and found.percentiles_ms == pytest.approx((300, 300, 300))
    bandwidth = sorted(report["read_bandwidth_bytes_s"])[1]
    assert found.floor_us == pytest.approx(1e6 * 1000 / bandwidth) and found.floor_ratio is not None
    assert found.floor_ratio == pytest.approx(20_000 / found.floor_us)
    assert "| a | 20,000 | 20,000 to 20,000 | 100.0 | 300.0 |" in table([found])


def test_one_that_fails_is_reported_and_left_out_from_then_on(tmp_path: Path) -> None:
    entries = [scripted(tmp_path, "a", 0.01, fails_at=4), scripted(tmp_path, "b", 0.02)]
    saved: list[int] = []
    report = measure(
        entries,
        grid("generate", [1, 4, 8], [16], 5, [1]),
        threads=1,
        rounds=2,
        save=lambda found: saved.append(len(found["rows"])),
    )
    rows = [(row["name"], row["workload"]["batch"], row.get("failed")) for row in report["rows"]]
    assert rows == [
        ("a", 1, None),
        ("b", 1, None),
        ("a", 4, "a: ValueError: too large a batch"),
        ("b", 4, None),
        ("b", 8, None),
    ]
    assert saved == [2, 4, 5]
    assert len(figures_of(report)) == 4


def test_one_that_does_not_start_is_reported(tmp_path: Path) -> None:
    absent = Entry("absent", [str(tmp_path / "no such program")], tmp_path)
    ends = Entry("ends", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    report = run_scripted(tmp_path, [absent, ends, scripted(tmp_path, "a", 0.01)], [Workload(new_tokens=2)])
    failed = {found["name"]: found.get("failed") for found in report["contestants"]}
    assert failed["a"] is None and "cannot be started" in failed["absent"] and "status 3" in failed["ends"]
    assert [row["name"] for row in report["rows"]] == ["a"]


def test_the_engines_process_answers_with_the_tokens_asked_for(tmp_path: Path) -> None:
    tiny_swcm().save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "lrengine.bench.engine_worker"]
    with Contestant(Entry("lrengine", command, tmp_path / "model"), threads=1, device="cpu") as contestant:
        assert contestant.versions["dtype"] == "float32" and contestant.open_s > 0
        assert contestant.seconds(Workload(new_tokens=4, batch=2, source=9, beams=2), 4) > 0
        peak = contestant.peak_mib()
        assert peak is None or peak > 1
        with pytest.raises(ContestantError, match="lrengine: .*"):
            contestant.seconds(Workload(source=10_000), 1)
        assert contestant.seconds(Workload(source=5), 1) > 0


def test_bytes_of_a_step_are_those_of_the_decoder_and_the_output(tmp_path: Path) -> None:
    model = tiny_swcm()
    model.save_pretrained(tmp_path)
    read = [
        parameter
        for name, parameter in model.named_parameters()
        if name.startswith("encoder.embeddings.word")
        or (name.startswith("decoder.") and not re.search(r"cross_attention\.[kv]_proj", name))
    ]
    assert step_bytes(tmp_path) == sum(4 * parameter.numel() for parameter in read) < weight_bytes(tmp_path)


def test_comparing_finds_what_moved_and_nothing_in_noise(tmp_path: Path) -> None:
    def report(times: list[float]) -> dict[str, Any]:
        row = {"name": "a", "workload": Workload(new_tokens=2).message(), "request_s": times}
        return {"schema": 1, "rows": [row, {"name": "b", "workload": row["workload"], "failed": "b: no"}]}

    noisy = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98]
    (same,) = compare(report(noisy), report(noisy[::-1]))
    (slower,) = compare(report(noisy), report([1.5 * t for t in noisy]))
    (faster,) = compare(report([1.5 * t for t in noisy]), report(noisy))
    assert not same.moved and same.ratio == 1
    assert slower.moved and slower.ratio == pytest.approx(1.5) and "slower" in str(slower)
    assert faster.moved and "faster" in str(faster)


def test_each_list_of_a_grid_varies_by_itself() -> None:
    found = [(w.batch, w.source, w.beams) for w in grid("generate", [1, 4], [64, 16], 8, [1, 4])]
    assert found == [(1, 64, 1), (4, 64, 1), (1, 16, 1), (1, 64, 4)]
    assert [(w.batch, w.new_tokens, w.beams) for w in grid("encode", [1, 2], [64], 8, [1, 4])] == [(1, 0, 1), (2, 0, 1)]


@pytest.mark.parametrize(
    ("name", "value"), [("batch", 0), ("source", 0), ("new_tokens", 1), ("beams", 0), ("prompt", -1)]
)
def test_a_workload_that_cannot_be_is_refused(name: str, value: int) -> None:
    with pytest.raises(InvalidRequestError, match=rf"{name}: found {value}"):
        Workload(**{name: value})


def test_energy_counters_wrap(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("9999999\n", encoding="ascii")
    (zone / "energy_uj").write_text("9000000\n", encoding="ascii")
    meter = EnergyMeter(tmp_path)
    assert meter.available and meter.joules(meter.read(), [1_000_000]) == pytest.approx(2.0)
    assert not EnergyMeter(tmp_path / "nothing").available


def test_the_command_measures_a_users_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_swcm().save_pretrained(tmp_path / "model")
    out = tmp_path / "report.json"
    options = [
        "--batch",
        "1",
        "2",
        "--source",
        "9",
        "--beams",
        "1",
        "--new-tokens",
        "3",
        "--rounds",
        "2",
        "--threads",
        "1",
    ]
    assert main(["bench", str(tmp_path / "model"), *options, "--dtype", "auto", "bfloat16", "--json", str(out)]) == 0
    assert "### generate, batch 2, source 9, 3 tokens, greedy" in capsys.readouterr().out
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["name"], row["workload"]["batch"], len(row["request_s"])) for row in report["rows"]] == [
        (name, batch, 2) for batch in (1, 2) for name in ("lrengine", "lrengine bfloat16")
    ]
    assert main(["bench", "--compare", str(out), str(out)]) == 0
    assert capsys.readouterr().out.count("no change beyond noise") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DIR: found nothing"),
        (["{empty}"], "config.json"),
        (["{model}", "--rounds", "0"], "--rounds: found 0"),
        (["{model}", "--new-tokens", "1"], "new_tokens: found 1"),
        (["--compare", "{model}/config.json", "{model}/config.json"], "expected a report of"),
        (["--compare", "{model}/model.safetensors", "{model}/config.json"], "model.safetensors"),
    ],
)
def test_what_it_cannot_do_is_said(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_swcm().save_pretrained(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    filled = [text.format(model=tmp_path / "model", empty=tmp_path / "empty") for text in arguments]
    assert main(["bench", *filled]) == 2
    assert message in capsys.readouterr().err
