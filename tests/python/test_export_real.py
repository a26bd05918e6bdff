"""Real weights as ONNX graphs: multilingual-e5-small as a classifier and an SWCM, smollm2-135m-instruct behind it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import Exported, SlotCache
from test_engine_real import TEXTS
from transformers import AutoTokenizer

from lrengine.export import export_onnx
from lrengine.models import LayerFusionForCausalLM, LayerFusionForSequenceClassification, SwcmForConditionalGeneration

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("LRENGINE_REAL" not in os.environ, reason="LRENGINE_REAL names no directory with real weights"),
]

FORMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"dtype": "float16"},
    "int8": {"dtype": "int8"},
    "int8 calibrated": {"dtype": "int8", "calibration": TEXTS[:4]},
}
# The least share of equal arg-maxes, which heads that were never trained make harder than it is; and for float32 the
# largest difference.
AGREEMENT = {"float32": 1.0, "float16": 0.99, "int8": 0.95, "int8 calibrated": 0.7}
EXACT = 1e-4
UDHR = (Path(__file__).parents[2] / "data" / "sample" / "udhr.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def real() -> Path:
    return Path(os.environ["LRENGINE_REAL"])


@pytest.fixture(scope="module")
def sources(real: Path) -> dict[str, np.ndarray]:
    tokenizer = AutoTokenizer.from_pretrained(real / "multilingual-e5-small")
    batch = tokenizer(TEXTS, padding=True, return_tensors="np")
    return {name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def saved(model: Any, real: Path, directory: Path) -> Path:
    model.eval().save_pretrained(directory)
    AutoTokenizer.from_pretrained(real / "multilingual-e5-small").save_pretrained(directory)
    return directory


def torch_inputs(sources: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in sources.items()}


def agree(form: str, logits: np.ndarray, wanted: np.ndarray) -> None:
    share = float((logits.argmax(-1) == wanted.argmax(-1)).mean())
    largest = float(abs(logits - wanted).max())
    print(f"{form}: arg-max agreement {share:.4f}, largest difference {largest:.2e}, scale {wanted.std():.2f}")
    assert share >= AGREEMENT[form]
    if form == "float32":
        assert largest <= EXACT * max(1.0, float(wanted.std()))


@pytest.mark.parametrize("form", FORMS)
def test_classifier(real: Path, sources: dict[str, np.ndarray], tmp_path: Path, form: str) -> None:
    torch.manual_seed(3)
    model: Any = LayerFusionForSequenceClassification.from_encoder(
        real / "multilingual-e5-small", labels=[str(index) for index in range(5)]
    )
    with torch.no_grad():
        model.classifier.weight.mul_(20.0)  # labels that differ
        wanted = model.eval()(**torch_inputs(sources)).logits.numpy()
    exported = Exported(export_onnx(saved(model, real, tmp_path / "model"), tmp_path / "onnx", **FORMS[form]))
    agree(form, exported.run("classifier", sources)["logits"], wanted)


@pytest.mark.parametrize("form", FORMS)
def test_swcm(real: Path, sources: dict[str, np.ndarray], tmp_path: Path, form: str) -> None:
    torch.manual_seed(5)
    tokenizer = AutoTokenizer.from_pretrained(real / "multilingual-e5-small")
    model: Any = SwcmForConditionalGeneration.from_encoder(
        real / "multilingual-e5-small", tokenizer=tokenizer, sharing="tied", normal_layer_interval=3
    ).eval()
    targets = np.array([row[:12] for row in sources["input_ids"] if len(row) >= 12])[:, :8].copy()
    targets[:, 0] = model.config.decoder_start_token_id
    with torch.no_grad():
        wanted = model(**torch_inputs(sources), decoder_input_ids=torch.from_numpy(targets)).logits.numpy()
    exported = Exported(export_onnx(saved(model, real, tmp_path / "model"), tmp_path / "onnx", **FORMS[form]))
    source = {**exported.run("encoder", sources), "attention_mask": sources["attention_mask"]}
    inputs = {"input_ids": targets, "logit_rows": np.arange(targets.size), **source}
    agree(form, exported.run("decoder", inputs)["logits"].reshape(wanted.shape), wanted)
    cache, steps = SlotCache(exported.manifest, targets.size, len(targets)), []
    for column in range(targets.shape[1]):
        step = {"input_ids": targets[:, column : column + 1], **source, **cache.inputs()}
        outputs = exported.run("decoder_with_past", step)
        cache.append(outputs)
        steps.append(outputs["logits"])
    agree(form, np.stack(steps, axis=1), wanted)


@pytest.mark.parametrize("form", ["float32", "float16", "int8"])
def test_llm(real: Path, tmp_path: Path, form: str) -> None:
    """English prose through the LLM's graph alone, 256 tokens a run."""
    torch.manual_seed(7)
    model: Any = LayerFusionForCausalLM.from_pretrained_parts(
        real / "multilingual-e5-small", real / "smollm2-135m-instruct", mixer="last", dtype=torch.float32
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(real / "smollm2-135m-instruct")
    text = " ".join(" ".join(row["en"]) if isinstance(row["en"], list) else row["en"] for row in map(json.loads, UDHR))
    ids = np.array(tokenizer(text)["input_ids"][:1536]).reshape(6, 256)
    with torch.no_grad():
        wanted = np.stack([model.llm(input_ids=torch.from_numpy(row[None])).logits.numpy()[0] for row in ids])
    exported = Exported(export_onnx(saved(model, real, tmp_path / "model"), tmp_path / "onnx", **FORMS[form]))
    cache, found = SlotCache(exported.manifest, 0, 1).inputs(), []
    for row in ids:
        embeds = np.zeros((1, len(row), model.config.llm.hidden_size), np.float32)
        inputs = {"input_ids": row[None], "embeds": embeds, "logit_rows": np.arange(len(row)), **cache}
        found.append(exported.run("llm_with_past", inputs)["logits"])
    logits = np.stack(found)
    share = float((logits.argmax(-1) == wanted.argmax(-1)).mean())
    print(f"{form}: arg-max agreement {share:.4f}, largest difference {abs(logits - wanted).max():.2e}")
    assert share >= {"float32": 1.0, "float16": 0.99, "int8": 0.97}[form]
