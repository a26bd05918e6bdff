"""Several processes: two CPU processes train the same model as one process with the whole batch."""

import copy
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from training_support import NO_DROPOUT, TINY_ENCODER, swcm_document

from lrengine.errors import DataError
from lrengine.training import TrainConfig, train
from lrengine.training.trainer import PlannedTrainer


def test_only_the_first_process_writes_the_model(tmp_path):
    written = []
    for first in (False, True):
        process = SimpleNamespace(args=SimpleNamespace(should_save=first), write_model=written.append)
        PlannedTrainer._save(process, str(tmp_path / "model"))
        assert written == ([tmp_path / "model"] if first else [])


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
                 "--rdzv-endpoint", "localhost:0", "-m"],
    # With --cpu, accelerate starts one process unless there is MPI; told of GPUs it starts as many as it is asked for,
    # and `device: cpu` of the config decides where they compute.
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0",
                   "-m"],
}  # fmt: skip


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A run in this process, and its config."""
    folder = tmp_path_factory.mktemp("one")
    document = swcm_document(folder, max_steps=4, batch_size=8, save_every=2)
    document["model"]["encoder"] = {**TINY_ENCODER, **NO_DROPOUT}
    document["data"]["group_by_length"] = False
    return train(TrainConfig.from_dict(document)), document


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_equal_one_with_the_same_global_batch(launcher, one_process, tmp_path):
    one, document = one_process
    document = copy.deepcopy(document)
    document["model"]["tokenizer"] = str(one.output_dir)
    document["run"].update(output_dir=str(tmp_path / "two"), batch_size=4, max_seconds=3600.0)
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "lrengine", "train", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr

    log = [json.loads(line) for line in (tmp_path / "two" / "train_log.jsonl").read_text().splitlines()]
    two = [entry["loss"] for entry in log if "loss" in entry]
    assert two == pytest.approx([loss for _, loss in one.train_loss], rel=1e-4)
    checkpoint = tmp_path / "two" / "checkpoint-4"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert (tmp_path / "two" / "model.safetensors").is_file() and not list((tmp_path / "two").glob(".*"))
    assert done.stdout.count("(stopped by steps)") == 1, "only the first process reports"
    with pytest.raises(DataError, match="checkpoint-4: was made by 2 processes, this run has 1"):
        train(TrainConfig.from_dict(document))
