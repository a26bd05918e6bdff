"""What opening a model and one request add to a process, at its peak: the weights and little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig

from lrengine.models import SwcmConfig, SwcmForConditionalGeneration
from lrengine.quantize import quantize
from tiny import randomise

MIB = 1 << 20
# Beside 15% of the weights: stacks, the buffers of a request with a source of 64 (measured: 4.5 MiB) and room to vary.
CONSTANT = 8 * MIB

CHILD = """
import json, sys
import numpy
import lrengine, lrengine._engine, lrengine.engine, lrengine.text

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

before = status("VmRSS")
engine = lrengine.Engine.load(sys.argv[1], device="cpu", threads=1)
answers = engine.generate([list(range(5, 69))], max_new_tokens=16, suppress_tokens=[2])
assert len(answers[0].tokens) == 16
print(json.dumps([status("VmHWM") - before, engine.memory_bytes]))
"""


@pytest.fixture(scope="module")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 120 MB of random float32 weights."""
    encoder = AutoConfig.for_model(
        "xlm-roberta", vocab_size=12_000, hidden_size=384, num_hidden_layers=4, num_attention_heads=6,
        intermediate_size=1536, max_position_embeddings=130, type_vocab_size=1,
    )  # fmt: skip
    model = SwcmForConditionalGeneration(SwcmConfig(encoder=encoder, normal_layer_interval=2))
    directory = tmp_path_factory.mktemp("model") / "float32"
    randomise(model, 0).save_pretrained(directory)
    return directory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_peak_is_the_weights_and_a_little(float_model: Path, dtype: str) -> None:
    directory = float_model.parent / dtype
    if dtype != "float32":
        quantize(float_model, directory, dtype)
    weights = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    assert weights > 16 * MIB, "too small to tell weights from the rest"
    done = subprocess.run([sys.executable, "-c", CHILD, str(directory)], check=True, capture_output=True, text=True)
    added, memory_bytes = json.loads(done.stdout)
    assert added <= 1.15 * weights + CONSTANT, (added / MIB, weights / MIB)
    assert added >= 0.5 * weights, "the weights were read"
    assert memory_bytes == pytest.approx(weights, rel=0.05)
