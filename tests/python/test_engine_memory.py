"""What opening a model and requests add to a process: the weights, once, and little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig

from lrengine.models import LayerFusionForCausalLM, SwcmConfig, SwcmForConditionalGeneration
from lrengine.quantize import quantize
from tiny import randomise, tiny_encoder, tiny_llm

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

# Eight threads with a stream each, all of them begun and none finished when memory is read: mapped files and the rest.
THREADS = 8
SHARING_CHILD = """
import json, sys, threading
import numpy
import lrengine, lrengine._engine, lrengine.engine, lrengine.text

def resident():
    sizes = (line.split() for line in open("/proc/self/status") if line.startswith(("RssAnon", "RssFile")))
    return sum(int(size[1]) for size in sizes) * 1024

before = resident()
engine = lrengine.Engine.load(sys.argv[1], device="cpu", threads=2)
def one_stream():
    stream = engine.stream([list(range(5, 69))], max_new_tokens=16, suppress_tokens=[2])
    return [next(stream).token for _ in range(8)], stream

first = one_stream()
alone = resident() - before
begun, read = threading.Barrier(THREADS), threading.Barrier(THREADS)
heard, together = [], []

def run():
    tokens, stream = one_stream() if threading.current_thread() is not threads[0] else first
    heard.append(tokens)
    if begun.wait() == 0:
        together.append(resident() - before)
    read.wait()
    stream.close()

threads = [threading.Thread(target=run) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(heard) == THREADS and all(tokens == heard[0] for tokens in heard)
print(json.dumps([alone, together[0]]))
"""
# Of a request with a source of 64 and its thread: caches, scratch, the buffers of products (measured: 4 MiB).
SESSION = 6 * MIB


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


# Word embeddings of an encoder whose rows are looked up and nothing else.
WORDS, WIDTH = 60_000, 384
# Of these a request holds two parts of 4 MiB, one in each thread that searches them, and then its own rows' pages.
SEARCHED = 10 * MIB


@pytest.fixture(scope="module")
def fusion_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 100 MB of random float32 weights, nearly all of them word embeddings."""
    encoder = tiny_encoder(
        "xlm-roberta", layers=1, vocab_size=WORDS, hidden_size=WIDTH, num_attention_heads=6, intermediate_size=768
    )
    model = LayerFusionForCausalLM.from_pretrained_parts(encoder, tiny_llm(), mixer={"type": "global"}, mapper="linear")
    directory = tmp_path_factory.mktemp("fusion") / "float32"
    randomise(model, 0).save_pretrained(directory)
    return directory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2), ("int8", 1), ("int4", 1)])
def test_word_embeddings_that_are_looked_up_are_not_held(fusion_model: Path, dtype: str, size: int) -> None:
    directory = fusion_model.parent / dtype
    if dtype != "float32":
        quantize(fusion_model, directory, dtype)
    weights = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    rest = weights - WORDS * WIDTH * size
    done = subprocess.run([sys.executable, "-c", CHILD, str(directory)], check=True, capture_output=True, text=True)
    added, memory_bytes = json.loads(done.stdout)
    assert added <= 1.15 * rest + CONSTANT + SEARCHED < weights, (added / MIB, rest / MIB, weights / MIB)
    assert memory_bytes == pytest.approx(weights, rel=0.05), "which are mapped all the same"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_threads_hold_the_weights_once(float_model: Path, dtype: str) -> None:
    directory = float_model.parent / dtype
    if not directory.exists():
        quantize(float_model, directory, dtype)
    weights = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    program = SHARING_CHILD.replace("THREADS", str(THREADS))
    done = subprocess.run([sys.executable, "-c", program, str(directory)], check=True, capture_output=True, text=True)
    alone, together = json.loads(done.stdout)
    assert alone >= 0.9 * weights, "the weights were read"
    assert together <= 1.15 * weights + CONSTANT + THREADS * SESSION, (together / MIB, weights / MIB)
    assert together - alone <= (THREADS - 1) * SESSION, (alone / MIB, together / MIB)
