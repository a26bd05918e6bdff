"""The classifier and every encoder and mixer as ONNX graphs against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import LEVELS, Exported

from lrengine.export import Profile, export_onnx
from tiny import ENCODERS, pad_batch, random_sources, save, tiny_classifier

IDS, MASK = pad_batch(random_sources([7, 61, 1]), 1)
SOURCE = {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy()}
MIXERS = ["last", "global", "transformer", {"type": "transformer", "add_global": True}]


def check_logits(model: Any, exported: Exported, atol: float = 1e-4) -> None:
    with torch.no_grad():
        wanted = model(input_ids=IDS, attention_mask=MASK).logits
    np.testing.assert_allclose(exported.run("classifier", SOURCE)["logits"], wanted, atol=atol)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_gives_pytorchs_logits_and_layer_states(tmp_path: Path, encoder: str) -> None:
    model: Any = tiny_classifier(encoder)
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    check_logits(model, exported)
    with torch.no_grad():
        states = torch.stack(model.layer_states(IDS, MASK)[0], dim=1) * MASK[:, None, :, None]
    shown = exported.run("encode", SOURCE)
    np.testing.assert_allclose(shown["all"] * SOURCE["attention_mask"][:, None, :, None], states, atol=1e-4)
    np.testing.assert_array_equal(shown["last"], shown["all"][:, -1])


@pytest.mark.parametrize("mixer", MIXERS, ids=str)
def test_every_mixer_gives_pytorchs_logits_fused_states_and_weights(tmp_path: Path, mixer: Any) -> None:
    model: Any = tiny_classifier("mt5", mixer)
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    check_logits(model, exported)
    with torch.no_grad():
        fused, weights, _ = model.fused_states(IDS, MASK)
    shown = exported.run("encode", SOURCE)
    np.testing.assert_allclose(shown["fused"], fused, atol=1e-4)
    np.testing.assert_allclose(shown["weights"], weights, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_every_optimisation_level_gives_these_logits(tmp_path: Path, level: str) -> None:
    model = tiny_classifier("mt5")
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"), level)
    check_logits(model, exported)


@pytest.mark.parametrize("opset", [18, 23])
def test_older_and_newer_opsets_give_these_logits(tmp_path: Path, opset: int) -> None:
    model = tiny_classifier("mt5")
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", opset=opset))
    assert exported.manifest["opset"] == opset
    check_logits(model, exported)


@pytest.mark.parametrize("encoder", ["xlm-roberta", "umt5"])
def test_a_static_export_gives_these_logits_for_padded_sources(tmp_path: Path, encoder: str) -> None:
    model = tiny_classifier(encoder)
    out = export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", static=Profile(3, 61, 1))
    exported = Exported(out)
    check_logits(model, exported)
    ports = exported.manifest["graphs"]["classifier"]["inputs"]
    assert [port["shape"] for port in ports] == [[3, 61], [3, 61]]


def test_labels_are_in_the_manifest(tmp_path: Path) -> None:
    exported = Exported(export_onnx(save(tiny_classifier(), tmp_path / "model"), tmp_path / "onnx"))
    assert exported.manifest["labels"] == ["red", "green", "blue"]
    assert exported.manifest["cache"] is None
