"""SWCM as ONNX graphs against PyTorch: first steps, single steps, beams, padding, every optimisation level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import LEVELS, Exported, SlotCache, weight_regions

from lrengine.export import Profile, export_onnx
from tiny import pad_batch, random_sources, save, tiny_swcm

VARIANTS: dict[str, dict[str, Any]] = {
    "tied": {"sharing": "tied"},
    "init": {"sharing": "init", "normal_after_last": False, "normal_layer_interval": 3},
    "bert": {"encoder": "bert", "sharing": "none", "output_bias": True},
    "published": {"encoder": "roberta", "norm_style": "published", "tie_word_embeddings": False, "output_bias": True},
}
TARGETS = [[0, 5, 9, 33, 100], [0, 8, 7, 20, 11]]
SOURCES = pad_batch(random_sources([11, 6]), 1)
SOURCE = {"input_ids": SOURCES[0].numpy(), "attention_mask": SOURCES[1].numpy()}


def expected(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=SOURCES[0], attention_mask=SOURCES[1], decoder_input_ids=torch.tensor(TARGETS))


def encode(exported: Exported) -> dict[str, np.ndarray]:
    """What the decoder graphs take from the source."""
    return {"attention_mask": SOURCE["attention_mask"], **exported.run("encoder", SOURCE)}


def first_step(exported: Exported, source: dict[str, np.ndarray], targets: list[list[int]]) -> dict[str, np.ndarray]:
    ids = np.array(targets, np.int64)
    return exported.run("decoder", {"input_ids": ids, "logit_rows": np.arange(ids.size), **source})


def step(exported: Exported, source: dict[str, np.ndarray], cache: SlotCache, tokens: list[int]) -> np.ndarray:
    inputs = {"input_ids": np.array(tokens, np.int64)[:, None], **source, **cache.inputs()}
    outputs = exported.run("decoder_with_past", inputs)
    cache.append(outputs)
    return outputs["logits"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_steps_and_single_steps_have_pytorchs_logits(tmp_path: Path, variant: str) -> None:
    model = tiny_swcm(**VARIANTS[variant])
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    wanted = expected(model)
    source = encode(exported)
    states = source["encoder_states"] * SOURCE["attention_mask"][..., None]
    reference = wanted.encoder_last_hidden_state * SOURCES[1][..., None]
    np.testing.assert_allclose(states, reference, atol=1e-4)
    first = first_step(exported, source, TARGETS)["logits"]
    np.testing.assert_allclose(first.reshape(wanted.logits.shape), wanted.logits, atol=1e-4)
    cache = SlotCache(exported.manifest, 16, 2)
    for index in range(5):
        logits = step(exported, source, cache, [row[index] for row in TARGETS])
        np.testing.assert_allclose(logits, wanted.logits[:, index], atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_every_optimisation_level_of_onnxruntime_gives_these_logits(tmp_path: Path, level: str) -> None:
    model = tiny_swcm()
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"), level)
    source, cache = encode(exported), SlotCache(exported.manifest, 16, 2)
    cache.append(first_step(exported, source, [row[:3] for row in TARGETS]), 3)
    logits = step(exported, source, cache, [row[3] for row in TARGETS])
    np.testing.assert_allclose(logits, expected(model).logits[:, 3], atol=1e-4)


def test_beams_share_their_sources_keys_and_the_slots_of_their_common_tokens(tmp_path: Path) -> None:
    model = tiny_swcm()
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    source = encode(exported)
    assert source["cross_key_0"].shape == (2, 3, 24, 11)  # two sources, though six rows follow
    prefix = [row[:2] for row in TARGETS]
    outputs = first_step(exported, source, prefix)
    cache = SlotCache(exported.manifest, 32, 2)
    cache.append(outputs, 2)
    cache.reorder([0, 0, 0, 1, 1, 1])
    step(exported, source, cache, [10, 11, 12, 13, 14, 15])
    cache.reorder([2, 0, 1, 5, 5, 3])
    logits = step(exported, source, cache, [50, 51, 52, 53, 54, 55])
    third = [12, 10, 11, 15, 15, 13]
    rows = [[*prefix[number // 3], third[number], 50 + number] for number in range(6)]
    repeated = [part.repeat_interleave(3, 0) for part in SOURCES]
    with torch.no_grad():
        wanted = model(input_ids=repeated[0], attention_mask=repeated[1], decoder_input_ids=torch.tensor(rows))
    np.testing.assert_allclose(logits, wanted.logits[:, -1], atol=1e-4)


def test_rows_of_one_step_may_be_at_different_positions(tmp_path: Path) -> None:
    model = tiny_swcm()
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    source, cache = encode(exported), SlotCache(exported.manifest, 16, 2)
    cache.append(first_step(exported, source, [row[:3] for row in TARGETS]), 3, [3, 1])
    logits = step(exported, source, cache, [TARGETS[0][3], TARGETS[1][1]])
    wanted = expected(model).logits
    np.testing.assert_allclose(logits, torch.stack([wanted[0, 3], wanted[1, 1]]), atol=1e-4)


def test_a_source_without_tokens_mixes_to_zeros(tmp_path: Path) -> None:
    exported = Exported(export_onnx(save(tiny_swcm(), tmp_path / "model"), tmp_path / "onnx"))
    nothing = {"input_ids": np.ones((1, 1), np.int64), "attention_mask": np.zeros((1, 1), np.int64)}
    outputs = exported.run("encoder", nothing)
    assert not outputs["cross_value_0"].any()
    assert np.isfinite(outputs["encoder_states"]).all()


@pytest.mark.parametrize("sharing", ["tied", "init"])
def test_every_weight_is_stored_once(tmp_path: Path, sharing: str) -> None:
    model = tiny_swcm(sharing=sharing)
    out = export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx")
    regions = weight_regions(out)
    assert len(set(regions.values())) == len(regions)
    distinct = sum(parameter.numel() for parameter in model.parameters()) * 4
    # Lines between tensors; tables of positions lose the rows before the first token.
    assert abs(sum(length for _, length in regions) - distinct) < 1000
    assert (out / "weights.bin").stat().st_size < distinct * 1.01 + 64 * len(regions)


def test_a_step_returns_no_keys_of_the_source_and_new_keys_of_one_token(tmp_path: Path) -> None:
    out = export_onnx(save(tiny_swcm(), tmp_path / "model"), tmp_path / "onnx")
    outputs = Exported(out).manifest["graphs"]["decoder_with_past"]["outputs"]
    names = {port["name"] for port in outputs}
    assert names == {"logits"} | {f"new_{kind}_{layer}" for kind in ("key", "value") for layer in range(4)}
    assert all(port["shape"] == ["rows", 3, 24] for port in outputs if port["name"] != "logits")


def test_a_static_export_has_no_dimension_that_varies(tmp_path: Path) -> None:
    model = tiny_swcm()
    profile = Profile(batch=2, source=13, target=9)
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", static=profile))
    for graph in exported.manifest["graphs"].values():
        assert all(isinstance(dim, int) for port in graph["inputs"] + graph["outputs"] for dim in port["shape"])
    ids, mask = (np.pad(part, ((0, 0), (0, 2))) for part in SOURCE.values())
    source = {"attention_mask": mask, **exported.run("encoder", {"input_ids": ids, "attention_mask": mask})}
    cache, wanted = SlotCache(exported.manifest, 0, 2), expected(model).logits
    for index in range(5):
        logits = step(exported, source, cache, [row[index] for row in TARGETS])
        np.testing.assert_allclose(logits, wanted[:, index], atol=1e-4)
