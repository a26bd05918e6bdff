"""The engine on CUDA against the engine on the CPU and PyTorch: the same tokens, the same numbers.

Where there is no GPU, `make test-cuda` runs this on the emulation of csrc/cuda/emulation: the real kernels, on the CPU,
with every memory access checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_pairs import Pair
from transformers import PreTrainedModel

import lrengine
from lrengine import Engine
from lrengine.errors import LrengineError
from lrengine.quantize import quantize
from tiny import int4_fusion, int4_swcm, random_sources, save, tiny_classifier, tiny_fusion, tiny_swcm

LIBRARY = os.environ.get("LRENGINE_CUDA_LIBRARY") or str(
    Path(lrengine.__file__).with_name("liblrengine_cuda.so")  # beside the module, where a build with CUDA puts it
)
REQUIRED = os.environ.get("LRENGINE_REQUIRE_CUDA") == "1"
# A backend built for others' GPUs finds none here; one named by hand is the emulation, or meant.
HAS_GPU = "LRENGINE_CUDA_LIBRARY" in os.environ or Path("/dev/nvidiactl").exists() or bool(shutil.which("nvidia-smi"))
pytestmark = pytest.mark.skipif(
    not REQUIRED and not (HAS_GPU and Path(LIBRARY).exists()),
    reason="no GPU here, or a build without the CUDA backend; `make test-cuda` runs these on the emulation",
)

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "swcm-post": lambda: tiny_swcm(normal_after_last=True),
    "swcm-published": lambda: tiny_swcm("bert", norm_style="published", tie_word_embeddings=False),
    "swcm-tied": lambda: tiny_swcm(sharing="tied", norm_style="post"),
    "mt5-llama": lambda: tiny_fusion(),
    "xlmr-qwen3": lambda: tiny_fusion("xlm-roberta", "qwen3", mixer="global", mapper="mlp"),
    "m2m-llama3": lambda: tiny_fusion("m2m_100", "llama3", mixer="last"),
}
SOURCES = random_sources([9, 1, 19], seed=4)  # with emulation in mind: a token takes it 0.1 s
PROMPTS = [[7, 8, 9], [], [11]]


class Both:
    """One directory, opened on the GPU and on the CPU."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.cuda = Engine.load(directory, device="cuda", **options)
        self.cpu = Engine.load(directory, device="cpu", threads=1, **options)
        self.prompts = PROMPTS if self.cuda.model_type == "layer_fusion" else None

    def generate(self, **options: Any) -> tuple[list[Any], list[Any]]:
        answers = [
            engine.generate(SOURCES, prompts=self.prompts, **{"max_new_tokens": 4, **options})
            for engine in (self.cuda, self.cpu)
        ]
        flat = [[row for rows in answer for row in (rows if isinstance(rows, list) else [rows])] for answer in answers]
        return flat[0], flat[1]

    def check(self, **options: Any) -> None:
        for found, expected in zip(*self.generate(**options), strict=True):
            assert found.tokens == expected.tokens, options
            assert found.finish_reason == expected.finish_reason
            assert found.score == pytest.approx(expected.score, abs=1e-3)


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    directory = tmp_path_factory.mktemp(request.param)
    return Both(save(MODELS[request.param](), directory))


def test_the_device_is_a_gpu(both: Both) -> None:
    assert both.cuda.device == "cuda:0" and both.cpu.device == "cpu"


def test_greedy_tokens_are_the_cpus(both: Both) -> None:
    both.check()


def test_beams_are_the_cpus(both: Both) -> None:
    both.check(num_beams=3, num_return_sequences=2, length_penalty=0.7)


def test_options_that_look_at_whole_rows_of_logits(both: Both) -> None:
    both.check(repetition_penalty=1.4, no_repeat_ngram_size=2, min_new_tokens=3, suppress_tokens=[7, 19])


def test_samples_of_one_seed_are_the_cpus(both: Both) -> None:
    both.check(do_sample=True, seed=5, temperature=0.8, top_k=40, top_p=0.9, num_return_sequences=2, max_new_tokens=3)


def test_scores_of_targets_are_the_cpus(both: Both) -> None:
    targets = random_sources([4, 7, 1], seed=9, vocabulary=270)
    found, expected = (engine.score(SOURCES, targets, prompts=both.prompts) for engine in (both.cuda, both.cpu))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.token_logprobs, theirs.token_logprobs, atol=2e-4)


def test_states_are_the_cpus(both: Both) -> None:
    outputs = ["last", "all", "fused"] + ([] if both.cuda.model_type == "swcm" else ["weights"])
    for output in outputs:
        for ours, theirs in zip(both.cuda.encode(SOURCES, output), both.cpu.encode(SOURCES, output), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, np.abs(theirs).max()))


def test_many_rows_and_many_sources(both: Both) -> None:
    """More rows than the kernels of few rows take, in the step and in the encoder."""
    sources = random_sources([2] * 17, seed=6)
    prompts = None if both.prompts is None else [[5]] * 17
    found, expected = (engine.generate(sources, prompts=prompts, max_new_tokens=2) for engine in (both.cuda, both.cpu))
    assert [row.tokens for row in found] == [row.tokens for row in expected]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_tokens_are_those_of_transformers(tmp_path: Path, num_beams: int) -> None:
    Pair(tiny_swcm(), tmp_path, SOURCES, device="cuda").check(num_beams=num_beams, max_new_tokens=6)


@pytest.mark.parametrize("mixer", ["global", "transformer"])
def test_classes_are_the_cpus(tmp_path: Path, mixer: str) -> None:
    directory = save(tiny_classifier(mixer=mixer), tmp_path)
    found, expected = (
        Engine.load(directory, device=device).classify(random_sources([5, 1, 40], 2)) for device in ("cuda", "cpu")
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.label == theirs.label
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.15), ("float16", 0.02), ("int8", 0.15)])
@pytest.mark.parametrize("name", ["swcm-post", "mt5-llama"])
def test_narrow_types_stay_close(tmp_path: Path, name: str, dtype: str, tolerance: float) -> None:
    """The CPU computes in float32 from the same narrow weights; 16-bit activations come on top here."""
    both = Both(save(MODELS[name](), tmp_path), dtype=dtype)
    sources, targets = SOURCES[:1], random_sources([4], seed=9, vocabulary=270)
    prompts = both.prompts and both.prompts[:1]
    found, expected = (engine.score(sources, targets, prompts=prompts)[0] for engine in (both.cuda, both.cpu))
    np.testing.assert_allclose(found.token_logprobs, expected.token_logprobs, atol=tolerance)
    (row,) = both.cuda.generate(sources, prompts=prompts, max_new_tokens=2, min_new_tokens=2)
    assert len(row.tokens) == 2


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("name", ["swcm", "fusion"])
def test_int4_stays_close(tmp_path: Path, name: str, group_size: int) -> None:
    """As above. Few rows are multiplied in groups, the source's many after widening."""
    model = int4_swcm() if name == "swcm" else int4_fusion()
    quantize(save(model, tmp_path / "src"), tmp_path / "int4", "int4", group_size=group_size)
    both = Both(tmp_path / "int4")
    assert both.cuda.dtype == both.cpu.dtype == "int4"
    sources, targets = SOURCES[2:], random_sources([4], seed=9, vocabulary=270)
    prompts = both.prompts and both.prompts[:1]
    found, expected = (engine.score(sources, targets, prompts=prompts)[0] for engine in (both.cuda, both.cpu))
    np.testing.assert_allclose(found.token_logprobs, expected.token_logprobs, atol=0.15)
    (row,) = both.cuda.generate(sources, prompts=prompts, max_new_tokens=2, min_new_tokens=2)
    assert len(row.tokens) == 2


def test_large_activations_do_not_overflow_float16(tmp_path: Path) -> None:
    """mT5's residual stream and feed-forward outputs go beyond 65504, float16's largest number."""
    model = tiny_fusion()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("DenseReluDense.wo.weight"):
                weight *= 3e4
    both = Both(save(model, tmp_path), dtype="float16")
    largest = max(float(np.abs(states).max()) for states in both.cpu.encode(SOURCES, "all"))
    assert largest > 1e5
    for ours, theirs in zip(both.cuda.encode(SOURCES, "fused"), both.cpu.encode(SOURCES, "fused"), strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())


def test_two_streams_of_one_engine_take_turns(tmp_path: Path) -> None:
    engine = Engine.load(save(tiny_swcm(), tmp_path), device="cuda")
    first, second = (engine.stream([source], max_new_tokens=5) for source in (SOURCES[0], SOURCES[2]))
    mixed: tuple[list[int], list[int]] = ([], [])
    for a, b in zip(first, second, strict=False):
        mixed[0].append(a.token)
        mixed[1].append(b.token)
    alone = [engine.generate([source], max_new_tokens=5)[0].tokens for source in (SOURCES[0], SOURCES[2])]
    length = min(map(len, mixed))
    assert mixed[0][:length] == alone[0][:length] and mixed[1][:length] == alone[1][:length] and length > 0


def test_decode_steps_are_counted_in_launches(tmp_path: Path) -> None:
    engine = Engine.load(save(tiny_swcm(), tmp_path), device="cuda")
    engine.generate([SOURCES[0]], max_new_tokens=3, suppress_tokens=[2], min_new_tokens=3)
    before = engine.kernel_launches
    assert before > 0
    engine.generate([SOURCES[0]], max_new_tokens=6, min_new_tokens=6)
    assert engine.kernel_launches > before


@pytest.mark.parametrize("device", ["cuda:7", "cuda:x", "cuda:-1", "cuda:"])
def test_devices_that_do_not_exist(tmp_path: Path, device: str) -> None:
    directory = save(tiny_classifier(), tmp_path)
    with pytest.raises(LrengineError, match="cuda"):
        Engine.load(directory, device=device)
