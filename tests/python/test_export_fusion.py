"""Layer fusion as ONNX graphs against PyTorch: the prefix of the source, prefill and steps of every LLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import LEVELS, Exported, SlotCache

from lrengine.errors import InvalidRequestError
from lrengine.export import Profile, export_onnx
from tiny import LLMS, pad_batch, random_sources, save, tiny_fusion

IDS, MASK = pad_batch(random_sources([7, 11, 1]), 1)
SOURCE = {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy()}
LABELS = torch.tensor([[5, 6, 7, 8], [100, 101, 102, 103], [9, 8, 7, 6]])
LATENT = {"type": "latent", "num_latents": 5, "depth": 2, "heads": 3, "head_dim": 8, "ffn_dim": 50}


def expected(model: Any) -> np.ndarray:
    """[B, T, V]: the logits that predict each label."""
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK, labels=LABELS).logits.numpy()


def prefill(exported: Exported, cache: SlotCache, labels: int) -> np.ndarray:
    """Prefix and first labels of all rows in one run, right-padded; logits [B, labels + 1, V]."""
    prefix = exported.run("prefix", SOURCE)
    lengths = prefix["lengths"]
    rows, columns, width = prefix["prefix"].shape
    length = columns + labels
    ids, embeds = np.full((rows, length), -1, np.int64), np.zeros((rows, length, width), np.float32)
    embeds[:, :columns] = prefix["prefix"]
    for row in range(rows):
        ids[row, lengths[row] :] = 0
        ids[row, lengths[row] : lengths[row] + labels] = LABELS[row, :labels]
    wanted = [row * length + lengths[row] - 1 + index for row in range(rows) for index in range(labels + 1)]
    inputs = {"input_ids": ids, "embeds": embeds, "logit_rows": np.array(wanted, np.int64), **cache.inputs()}
    outputs = exported.run("llm_with_past", inputs)
    cache.append(outputs, length, [int(count) + labels for count in lengths])
    return outputs["logits"].reshape(rows, labels + 1, -1)


def step(exported: Exported, cache: SlotCache, column: int) -> np.ndarray:
    rows = len(LABELS)
    width = exported.manifest["graphs"]["llm_with_past"]["inputs"][1]["shape"][2]
    ids = LABELS[:, column : column + 1].numpy()
    inputs = {"input_ids": ids, "embeds": np.zeros((rows, 1, width), np.float32), "logit_rows": np.arange(rows)}
    outputs = exported.run("llm_with_past", {**inputs, **cache.inputs()})
    cache.append(outputs)
    return outputs["logits"]


def check(model: Any, exported: Exported, atol: float = 1e-4) -> None:
    cache, wanted = SlotCache(exported.manifest, 64, 3), expected(model)
    np.testing.assert_allclose(prefill(exported, cache, 2), wanted[:, :3], atol=atol)
    np.testing.assert_allclose(step(exported, cache, 2), wanted[:, 3], atol=atol)


@pytest.mark.parametrize("llm", LLMS)
def test_prefill_and_steps_of_every_llm_have_pytorchs_logits(tmp_path: Path, llm: str) -> None:
    model = tiny_fusion(llm=llm)
    check(model, Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx")))


@pytest.mark.parametrize("mapper", ["linear", "mlp", LATENT], ids=["linear", "mlp", "latent"])
@pytest.mark.parametrize("options", [{}, {"bos_token_id": None}], ids=["bos", "no_bos"])
def test_every_mapper_makes_pytorchs_prefix(tmp_path: Path, mapper: Any, options: dict[str, Any]) -> None:
    model = tiny_fusion("xlm-roberta", mapper=mapper, **options)
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"))
    check(model, exported)
    outputs = exported.run("prefix", SOURCE)
    after = np.arange(outputs["prefix"].shape[1])[None] >= outputs["lengths"][:, None]
    assert not outputs["prefix"][after].any()


@pytest.mark.parametrize("level", LEVELS)
def test_every_optimisation_level_gives_these_logits(tmp_path: Path, level: str) -> None:
    model = tiny_fusion(llm="qwen3")
    check(model, Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx"), level))


def test_a_static_export_takes_the_prefix_vector_by_vector(tmp_path: Path) -> None:
    model = tiny_fusion(llm="qwen2")
    exported = Exported(export_onnx(save(model, tmp_path / "model"), tmp_path / "onnx", static=Profile(3, 11, 4)))
    prefix, wanted = exported.run("prefix", SOURCE), expected(model)
    cache, rows = SlotCache(exported.manifest, 0, 3), np.arange(3)
    for column in range(prefix["prefix"].shape[1]):
        vectors = np.ascontiguousarray(prefix["prefix"][:, column : column + 1])
        inputs = {"input_ids": np.full((3, 1), -1), "embeds": vectors, "logit_rows": rows, **cache.inputs()}
        outputs = exported.run("llm_with_past", inputs)
        cache.append(outputs, 1, [int(column < length) for length in prefix["lengths"]])
        for row in rows[prefix["lengths"] == column + 1]:
            np.testing.assert_allclose(outputs["logits"][row], wanted[row, 0], atol=1e-4)
    for column in range(3):
        np.testing.assert_allclose(step(exported, cache, column), wanted[:, column + 1], atol=1e-4)


def test_a_window_of_sliding_attention_ends_the_rows(tmp_path: Path) -> None:
    model = tiny_fusion(llm="mistral")
    model.config.llm.sliding_window = 37
    directory = save(model, tmp_path / "model")
    assert Exported(export_onnx(directory, tmp_path / "onnx")).manifest["max_target"] == 37
    with pytest.raises(InvalidRequestError, match="positions end at 37"):
        export_onnx(directory, tmp_path / "static", static=Profile(1, 20, 16))
