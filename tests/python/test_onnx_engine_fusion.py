"""OnnxEngine on exported layer-fusion models and classifiers: what lrengine.Engine and transformers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_pairs import ANY_SEARCH, BEAMS_ONLY, Pair
from test_onnx_engine import flat

from lrengine import Engine
from lrengine.errors import InvalidRequestError
from lrengine.export import OnnxEngine, Profile, export_onnx
from lrengine.export.sessions import Graph
from tiny import random_sources, save, tiny_classifier, tiny_fusion

SOURCES = random_sources([1, 7, 19, 3, 12])
PROMPTS = [[5, 6, 7], [], [9], [1, 2], [3, 4, 5, 6]]
LATENT = {"type": "latent", "num_latents": 5, "depth": 1, "heads": 2, "head_dim": 8, "ffn_dim": 16}
OUTPUTS = ("last", "fused", "all", "weights")
STATIC = Profile(2, 20, 24, beams=3)


def load(directory: Path, **options: Any) -> OnnxEngine:
    name = "onnx-" + "-".join(options)
    return OnnxEngine.load(export_onnx(directory, directory.parent / name, **options), provider="cpu", threads=1)


@pytest.fixture(scope="module", params=["linear", LATENT], ids=["linear", "latent"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_fusion(mapper=request.param), tmp_path_factory.mktemp("fusion") / "model")


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(directory, device="cpu", threads=1)


@pytest.fixture(scope="module")
def exported(directory: Path) -> OnnxEngine:
    return load(directory)


@pytest.fixture(scope="module")
def fixed(directory: Path) -> OnnxEngine:
    return load(directory, static=STATIC)


def assert_same(first: Engine, second: Engine, count: int = len(SOURCES), **options: Any) -> None:
    given = {"prompts": PROMPTS[:count], "max_new_tokens": 10, **options}
    found = [flat(each.generate(SOURCES[:count], **given)) for each in (first, second)]
    for one, other in zip(*found, strict=True):
        assert (one.tokens, one.finish_reason) == (other.tokens, other.finish_reason), options
        assert one.score == pytest.approx(other.score, abs=1e-3), options


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5])
def test_every_option_gives_the_engines_tokens(engine: Engine, exported: OnnxEngine, beams: int) -> None:
    for options in ({}, *ANY_SEARCH, *(BEAMS_ONLY if beams > 1 else ())):
        if options.get("num_return_sequences", 1) <= beams:
            assert_same(engine, exported, num_beams=beams, **options)
    assert_same(engine, exported, num_beams=beams, prefix=[[5, 6], [], [9], [10, 11, 12], [4]])


@pytest.mark.parametrize("llm", ["qwen3", "llama3"])
def test_beams_give_transformers_tokens(tmp_path: Path, llm: str) -> None:
    pair = Pair(tiny_fusion(llm=llm), tmp_path / "model", SOURCES[:3], prompts=PROMPTS[:3])
    pair.engine = load(tmp_path / "model")
    for beams in (1, 2, 4):
        pair.check(num_beams=beams)


def test_samples_that_share_a_source(engine: Engine, exported: OnnxEngine) -> None:
    assert_same(engine, exported, do_sample=True, seed=7, num_return_sequences=3, top_k=50)


def test_a_static_export_answers_the_same(engine: Engine, fixed: OnnxEngine) -> None:
    long = [list(range(5, 18)), [7]]  # behind the longer source, what is left of the prefill does not hold it
    for options in ({}, {"num_beams": 3}, {"prefix": [[4, 5, 6], [7]]}, {"num_beams": 2, "length_penalty": 2.0},
                    {"prefix": long, "max_new_tokens": 5}):  # fmt: skip
        assert_same(engine, fixed, 2, **options)
    assert_same(engine, fixed, 5)  # in the rows of beams: more sources than its prefill takes
    with pytest.raises(InvalidRequestError, match="static"):
        fixed.generate(SOURCES, num_beams=3)


def test_a_static_llm_reads_the_source_in_one_run(fixed: OnnxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    guarded = Graph.guarded

    def counted(graph: Graph, call: Any) -> Any:
        runs.append(graph.file.path.stem)
        return guarded(graph, call)

    monkeypatch.setattr(Graph, "guarded", counted)
    fixed.generate(SOURCES[:2], max_new_tokens=4, min_new_tokens=4, num_beams=3)
    assert runs == ["prefix", "llm_prefill", *["llm_with_past"] * 3]


def test_scores_and_states(engine: Engine, exported: OnnxEngine, fixed: OnnxEngine) -> None:
    targets = random_sources([3, 1, 0, 5, 9], seed=4, vocabulary=277)
    expected = engine.score(SOURCES, targets, prompts=PROMPTS)
    for each in (exported, fixed):
        for one, other in zip(expected, each.score(SOURCES, targets, prompts=PROMPTS), strict=True):
            np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=1e-4)
        for output in OUTPUTS:
            for one, other in zip(engine.encode(SOURCES, output), each.encode(SOURCES, output), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"static": STATIC}], ids=["dynamic", "static"])
@pytest.mark.parametrize("encoder", ["xlm-roberta", "mt5"])
def test_classifiers(tmp_path: Path, encoder: str, options: dict[str, Any]) -> None:
    directory = save(tiny_classifier(encoder=encoder), tmp_path / "model")
    engine, exported = Engine.load(directory, device="cpu", threads=1), load(directory, **options)
    for labels in (None, ["blue", "red"]):
        for one, other in zip(engine.classify(SOURCES, labels), exported.classify(SOURCES, labels), strict=True):
            assert one.label == other.label
            assert one.scores == pytest.approx(other.scores, abs=1e-4)
    for output in OUTPUTS:
        for one, other in zip(engine.encode(SOURCES, output), exported.encode(SOURCES, output), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    with pytest.raises(InvalidRequestError, match="do not generate"):
        exported.generate(SOURCES)
