"""OnnxEngine on exported SWCMs: what lrengine.Engine and transformers give, with every option."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_tokenizers
from engine_pairs import ANY_SEARCH, BEAMS_ONLY, Pair

from lrengine import Engine, Generation
from lrengine.errors import InvalidRequestError, UnsupportedModelError
from lrengine.export import OnnxEngine, Profile, export_onnx
from lrengine.export.sessions import Binding, DeviceTensor
from tiny import random_sources, save, tiny_swcm

SOURCES = random_sources([1, 7, 19, 3, 12])
TEXTS = small_tokenizers.TEXTS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = save(tiny_swcm(), tmp_path_factory.mktemp("swcm") / "model")
    small_tokenizers.save(small_tokenizers.unigram(), target)
    return target


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(directory, device="cpu", threads=1)


@pytest.fixture(scope="module")
def exported(directory: Path) -> OnnxEngine:
    return OnnxEngine.load(export_onnx(directory, directory.parent / "onnx"), provider="cpu", threads=1)


def flat(answers: list[Any]) -> list[Generation]:
    return [one for row in answers for one in (row if isinstance(row, list) else [row])]


def assert_same(first: Engine, second: Engine, inputs: Any = SOURCES, **options: Any) -> None:
    found = [flat(each.generate(inputs, max_new_tokens=10, **options)) for each in (first, second)]
    for one, other in zip(*found, strict=True):
        assert (one.tokens, one.finish_reason, one.text) == (other.tokens, other.finish_reason, other.text), options
        assert one.score == pytest.approx(other.score, abs=1e-3), options


@pytest.mark.parametrize("beams", [1, 2, 3, 4, 5])
def test_every_option_gives_the_engines_tokens(engine: Engine, exported: OnnxEngine, beams: int) -> None:
    for options in ({}, *ANY_SEARCH, *(BEAMS_ONLY if beams > 1 else ())):
        if options.get("num_return_sequences", 1) <= beams:
            assert_same(engine, exported, num_beams=beams, **options)


@pytest.mark.parametrize("variant", [{"sharing": "tied"}, {"norm_style": "published", "encoder": "roberta"}])
def test_beams_give_transformers_tokens(tmp_path: Path, variant: dict[str, Any]) -> None:
    pair = Pair(tiny_swcm(**variant), tmp_path / "model", SOURCES[:3])
    pair.engine = OnnxEngine.load(export_onnx(tmp_path / "model", tmp_path / "onnx"), threads=1)
    for beams in range(1, 6):
        pair.check(num_beams=beams)


def test_sampling_draws_the_engines_tokens(engine: Engine, exported: OnnxEngine) -> None:
    drawn = {"do_sample": True, "seed": 5, "temperature": 1.3}
    assert_same(engine, exported, num_return_sequences=3, top_k=40, **drawn)
    assert_same(engine, exported, top_p=0.8, **drawn)
    assert_same(engine, exported, num_beams=3, num_return_sequences=2, **drawn)


@pytest.mark.parametrize("beams", [1, 3])
def test_prefixes_of_different_lengths(engine: Engine, exported: OnnxEngine, beams: int) -> None:
    assert_same(engine, exported, prefix=[[5, 6], [], [9], [10, 11, 12], [4]], num_beams=beams)


def test_text_stop_strings_and_streams(engine: Engine, exported: OnnxEngine) -> None:
    options: dict[str, Any] = {"max_new_tokens": 10, "no_repeat_ngram_size": 1}  # or it says one thing all the time
    answer = engine.generate(TEXTS[0], **options)[0]
    assert answer.text
    assert_same(engine, exported, TEXTS, no_repeat_ngram_size=1, stop=answer.text[-1])
    tokens = list(exported.stream(TEXTS[0], **options))
    assert "".join(token.text or "" for token in tokens) == answer.text
    assert [token.token for token in tokens] == answer.tokens


def test_scores_labels_and_states(engine: Engine, exported: OnnxEngine) -> None:
    targets = random_sources([3, 1, 0, 5, 9], seed=4)
    for one, other in zip(engine.score(SOURCES, targets), exported.score(SOURCES, targets), strict=True):
        np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=1e-4)
    for one, other in zip(engine.encode(SOURCES), exported.encode(SOURCES), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    labels = ["the fox", "dog", "қазақ"]
    for one, other in zip(engine.classify(TEXTS, labels), exported.classify(TEXTS, labels), strict=True):
        assert one.label == other.label
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    with pytest.raises(UnsupportedModelError, match="all"):
        exported.encode(SOURCES, "all")


def test_an_empty_source_and_an_empty_request(engine: Engine, exported: OnnxEngine) -> None:
    assert_same(engine, exported, [[], *SOURCES[:2]], num_beams=2)
    assert exported.generate([]) == exported.score([], []) == exported.encode([]) == []


def test_the_longest_target_ends_a_row(directory: Path, exported: OnnxEngine) -> None:
    limit = exported._native.max_target_length  # type: ignore[attr-defined]
    prefix = [5 + i % 300 for i in range(limit - 4)]
    for each in (Engine.load(directory, device="cpu", threads=1), exported):
        answer = each.generate(SOURCES[:1], prefix=prefix, max_new_tokens=50, min_new_tokens=50)[0]
        assert (len(answer.tokens), answer.finish_reason) == (4, "length")
        with pytest.raises(InvalidRequestError, match=f"{limit}"):
            each.generate(SOURCES[:1], prefix=[*prefix, *prefix[:5]])


def test_threads_share_an_engine(exported: OnnxEngine) -> None:
    expected = exported.generate(SOURCES, max_new_tokens=8, num_beams=2)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: exported.generate(SOURCES, max_new_tokens=8, num_beams=2), range(8)):
            assert [answer.tokens for answer in found] == [answer.tokens for answer in expected]


def test_a_static_export_answers_the_same(engine: Engine, directory: Path, tmp_path: Path) -> None:
    fixed = OnnxEngine.load(
        export_onnx(directory, tmp_path / "static", static=Profile(2, 20, 24, beams=3)), provider="cpu", threads=1
    )
    for options in ({}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}, {"prefix": [[5, 6], [7]]}):
        assert_same(engine, fixed, SOURCES[1:3], **options)
    assert_same(engine, fixed, SOURCES[1:2], num_beams=3, repetition_penalty=1.4)
    targets = random_sources([3, 1, 0, 5, 9], seed=4)
    for one, other in zip(engine.score(SOURCES, targets), fixed.score(SOURCES, targets), strict=True):
        np.testing.assert_allclose(one.token_logprobs, other.token_logprobs, atol=1e-4)
    for wrong in ({"inputs": SOURCES[:3]}, {"inputs": SOURCES[:1], "num_beams": 4}):
        with pytest.raises(InvalidRequestError, match="static"):
            fixed.generate(**wrong)
    with pytest.raises(InvalidRequestError, match="20"):
        fixed.generate(random_sources([21]))


@pytest.mark.parametrize(
    ("options", "nats"), [({"dtype": "float16"}, 0.02), ({"dtype": "int8"}, 0.5), ({"optimize": "ort"}, 1e-4)]
)
def test_narrow_and_fused_exports_answer_nearly_the_same(
    engine: Engine, directory: Path, tmp_path: Path, options: dict[str, str], nats: float
) -> None:
    other = OnnxEngine.load(export_onnx(directory, tmp_path / "onnx", **options), provider="cpu", threads=1)
    assert other.dtype == options.get("dtype", "float32")
    targets = random_sources([6, 2, 9, 5, 3], seed=8)
    pairs = zip(engine.score(SOURCES, targets), other.score(SOURCES, targets), strict=True)
    assert max(np.abs(np.subtract(a.token_logprobs, b.token_logprobs)).mean() for a, b in pairs) < nats
    for answer in flat(other.generate(SOURCES, num_beams=3, max_new_tokens=6, min_new_tokens=6)):
        assert len(answer.tokens) == 6 and np.isfinite(answer.score)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, int]]]:
    """Bytes that the host gave by name, a dict a run, and which device tensors were made, as "new"."""
    runs: list[dict[str, int]] = [{}]
    give, run, make = Binding.give, Binding.run, DeviceTensor.__init__

    def counted_give(self: Binding, **arrays: Any) -> None:
        runs[-1].update({name: array.nbytes for name, array in arrays.items()})
        give(self, **arrays)

    def counted_run(self: Binding) -> None:
        run(self)
        runs.append({})

    def counted_make(self: DeviceTensor, *arguments: Any) -> None:
        make(self, *arguments)
        runs[-1]["new"] = runs[-1].get("new", 0) + 1

    monkeypatch.setattr(Binding, "give", counted_give)
    monkeypatch.setattr(Binding, "run", counted_run)
    monkeypatch.setattr(DeviceTensor, "__init__", counted_make)
    return lambda: runs[:-1]


@pytest.mark.parametrize("beams", [1, 4])
def test_a_step_gets_integers_and_copies_no_cache(
    exported: OnnxEngine, traffic: Callable[[], list[dict[str, int]]], beams: int
) -> None:
    exported.generate(SOURCES[2:3], max_new_tokens=9, min_new_tokens=9, num_beams=beams)
    encoder, *steps = traffic()
    assert len(steps) == 9
    assert "new" in encoder, "cross keys and values are made once"
    assert "new" not in {name for step in steps[1:] for name in step}, "and caches before the first step"
    for length, step in enumerate(steps[2:], 2):
        assert step == {"input_ids": 8 * beams, "position": 8 * beams, "cache_rows": 8 * beams * length}


def test_a_step_gives_its_own_keys_and_values_alone(exported: OnnxEngine) -> None:
    """Not those of the source, nor those of the steps before."""
    native: Any = exported._native
    outputs = native.graphs["decoder_with_past"].file.outputs
    layers = range(native.manifest.cache.layers)
    assert set(outputs) == {"logits", *(f"new_{part}_{layer}" for part in ("key", "value") for layer in layers)}
    assert {value.shape for name, value in outputs.items() if name != "logits"} == {("rows", 3, 24)}


def test_steps_run_the_sources_that_still_run(
    engine: Engine, exported: OnnxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    give = Binding.give
    monkeypatch.setattr(
        Binding,
        "give",
        lambda self, **arrays: (
            (rows.append(len(arrays["position"])) if "position" in arrays else None) or give(self, **arrays)
        ),
    )
    limit = exported._native.max_target_length  # type: ignore[attr-defined]
    prefix = [[5] * (limit - count) for count in (3, 9, 4, 7, 6)]
    answers = exported.generate(SOURCES, prefix=prefix, max_new_tokens=40, min_new_tokens=40)
    lengths = [len(answer.tokens) for answer in answers]
    assert lengths == [3, 9, 4, 7, 6]
    running = [[b for b, length in enumerate(lengths) if length > step] for step in range(1, max(lengths))]
    assert rows == [max(still) - min(still) + 1 for still in running]
