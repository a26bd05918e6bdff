"""A killed run goes on as if nothing had happened, and never from half a checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from training_support import SAMPLE, swcm_document

import lrengine.training.build as build_module
import lrengine.training.trainer as trainer_module
from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from lrengine.errors import DataError
from lrengine.training import TrainConfig, train
from lrengine.training.checkpoints import checkpoint_to_resume, keep_newest, publish, publish_files, whole_checkpoints

STEPS = 24


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    rows = [json.loads(line) for line in (SAMPLE / "ui.jsonl").read_text(encoding="utf-8").splitlines()[:60]]
    save_tokenizer(train_tokenizer([row[language] for row in rows for language in ("zh", "ug")], 700), directory)
    return directory


def document(output_dir, tokenizer, **run):
    """With everything that draws random numbers: dropout, noise, language and scheduled sampling."""
    config = swcm_document(output_dir, max_steps=STEPS, save_every=4, **run)
    config["model"]["tokenizer"] = str(tokenizer)
    config["objective"] = {"scheduled_sampling": {"schedule": "linear", "max_probability": 0.5, "start": 0.1}}
    return config


def curve(output_dir):
    lines = (Path(output_dir) / "train_log.jsonl").read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if "loss" in entry]
    assert [entry["step"] for entry in entries] == list(range(1, len(entries) + 1)), "each step once, in order"
    return {entry["step"]: entry["loss"] for entry in entries}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tokenizer):
    directory = tmp_path_factory.mktemp("whole") / "run"
    result = train(TrainConfig.from_dict(document(directory, tokenizer)))
    losses = curve(directory)
    assert losses == dict(result.train_loss) and len(losses) == STEPS
    return losses, (directory / "model.safetensors").read_bytes()


def test_kill_9_and_resume_gives_the_same_curve_and_weights(tmp_path, tokenizer, uninterrupted):
    output_dir = tmp_path / "run"
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(document(output_dir, tokenizer)))
    command = [sys.executable, "-m", "lrengine", "train", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not whole_checkpoints(output_dir) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "output").read_text()
    assert 4 <= max(curve(output_dir)) < STEPS and not (output_dir / "model.safetensors").exists()

    result = train(TrainConfig.from_dict(document(output_dir, tokenizer)))
    assert result.resumed_from is not None and result.steps == STEPS
    losses, weights = uninterrupted
    assert curve(output_dir) == losses
    assert (output_dir / "model.safetensors").read_bytes() == weights


def test_a_save_that_is_cut_short_leaves_the_checkpoint_before_it(tmp_path, tokenizer, uninterrupted, monkeypatch):
    output_dir = tmp_path / "run"
    whole = trainer_module.publish

    def killed_in_step_8(staged, final):
        if final.name == "checkpoint-8":
            (staged / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt
        whole(staged, final)

    monkeypatch.setattr(trainer_module, "publish", killed_in_step_8)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig.from_dict(document(output_dir, tokenizer)))
    assert [path.name for path in whole_checkpoints(output_dir)] == ["checkpoint-4"]
    monkeypatch.undo()
    result = train(TrainConfig.from_dict(document(output_dir, tokenizer)))
    assert result.resumed_from == str(output_dir / "checkpoint-4")
    assert curve(output_dir) == uninterrupted[0]
    assert [path.name for path in whole_checkpoints(output_dir)] == ["checkpoint-20", "checkpoint-24"]
    assert not list(output_dir.glob(".*"))


def test_a_full_disk_leaves_the_last_checkpoint_and_names_the_problem(tmp_path, tokenizer, monkeypatch):
    output_dir = tmp_path / "run"

    def full(directory):
        raise OSError(28, "No space left on device")

    configuration = document(output_dir, tokenizer)
    configuration["run"].update(max_steps=8)
    original = trainer_module.PlannedTrainer._save_optimizer_and_scheduler

    def save(self, directory):
        if directory.endswith("checkpoint-8"):
            full(directory)
        original(self, directory)

    monkeypatch.setattr(trainer_module.PlannedTrainer, "_save_optimizer_and_scheduler", save)
    with pytest.raises(OSError, match="No space left"):
        train(TrainConfig.from_dict(configuration))
    assert [path.name for path in whole_checkpoints(output_dir)] == ["checkpoint-4"]


def test_a_finished_run_is_not_trained_again_nor_is_its_tokenizer(tmp_path, tokenizer, monkeypatch):
    configuration = document(tmp_path / "run", tokenizer)
    configuration["model"]["tokenizer"] = {"vocab_size": 600}  # trained anew it might get other ids
    configuration["run"].update(max_steps=4)
    first = train(TrainConfig.from_dict(configuration))
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    monkeypatch.setattr(build_module, "train_tokenizer", None)
    second = train(TrainConfig.from_dict(configuration))
    assert second.steps == first.steps == 4 and second.train_loss == first.train_loss
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights


def test_a_resumed_run_must_be_the_same_run(tmp_path, tokenizer):
    configuration = document(tmp_path / "run", tokenizer)
    configuration["run"].update(max_steps=4)
    train(TrainConfig.from_dict(configuration))
    configuration["run"].update(seed=1)
    with pytest.raises(DataError, match=r"checkpoint-4 was made with run.seed = 0, the config now says 1"):
        train(TrainConfig.from_dict(configuration))
    configuration["run"].update(seed=0, resume="never")
    with pytest.raises(DataError, match="has checkpoints"):
        train(TrainConfig.from_dict(configuration))
    configuration["run"].update(resume=str(tmp_path))
    with pytest.raises(DataError, match="is not a checkpoint"):
        train(TrainConfig.from_dict(configuration))


def fake_checkpoint(directory, step, whole=True):
    path = directory / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(str(step))
    if whole:
        (path / "trainer_state.json").write_text("{}")
    return path


def test_only_whole_checkpoints_count_and_the_newest_wins(tmp_path):
    assert checkpoint_to_resume(tmp_path / "none", "auto") is None
    for step, whole in ((9, True), (10, True), (11, False)):
        fake_checkpoint(tmp_path, step, whole)
    (tmp_path / "checkpoint-12x").mkdir()
    assert checkpoint_to_resume(tmp_path, "auto") == tmp_path / "checkpoint-10"


def test_old_checkpoints_go_but_not_the_best(tmp_path):
    paths = [fake_checkpoint(tmp_path, step) for step in (1, 2, 3, 4)]
    keep_newest(tmp_path, 2, best=paths[0])
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert not list(tmp_path.glob(".*"))


def test_publishing_replaces_what_was_there(tmp_path):
    final = fake_checkpoint(tmp_path, 5)
    staged = fake_checkpoint(tmp_path / ".saving", 5)
    (staged / "model.safetensors").write_text("new")
    publish(staged, final)
    assert (final / "model.safetensors").read_text() == "new" and not staged.exists()
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "old").touch()
    staged = tmp_path / ".saving" / "final"
    (staged / "llm").mkdir(parents=True)
    (staged / "llm" / "new").touch()
    (staged / "config.json").write_text("{}")
    publish_files(staged, tmp_path)
    assert [path.name for path in (tmp_path / "llm").iterdir()] == ["new"] and (tmp_path / "config.json").is_file()


def test_the_best_model_is_kept(tmp_path, tokenizer):
    configuration = document(tmp_path / "run", tokenizer, eval_every=4, keep_best=True, keep_checkpoints=1)
    configuration["run"].update(max_steps=12)
    configuration["data"]["dev"] = [{**configuration["data"]["train"][0], "where": {"split": "dev"}, "limit": 4}]
    configuration["optimizer"] = {"learning_rate": 0.3, "schedule": "constant", "warmup": 0.4}  # gets worse again
    result = train(TrainConfig.from_dict(configuration))
    best = min(entry["eval_loss"] for entry in result.eval_history)
    assert result.final_metrics["eval_loss"] == pytest.approx(best, rel=1e-5)
    assert result.eval_history[-2]["eval_loss"] > best or result.eval_history[-1]["eval_loss"] >= best
