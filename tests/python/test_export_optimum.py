"""Our models through Hugging Face's optimum: its exporter's graphs, its ORTModel classes, PyTorch's answers.

Runs where optimum is: over transformers 4 (`make test-transformers-4`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from small_tokenizers import unigram
from transformers import PreTrainedTokenizerFast

from tiny import pad_batch, random_sources, save, tiny_classifier, tiny_swcm

pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx 0.1 needs transformers 4: make test-transformers-4")

IDS, MASK = pad_batch(random_sources([7, 19, 3]), 1)


def export(directory: Path, out: Path, *options: str) -> None:
    """The command line, in a process of its own: what optimum registers lasts as long as the process."""
    command = [sys.executable, "-m", "lrengine.export.optimum_export", "export", "onnx", "--model", str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, *options, str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def with_tokenizer(model: Any, directory: Path) -> Path:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram(), pad_token="<pad>", eos_token="</s>")
    tokenizer.save_pretrained(directory)
    return save(model, directory)


def test_a_classifier_has_pytorchs_logits(tmp_path: Path) -> None:
    model: Any = tiny_classifier()
    export(with_tokenizer(model, tmp_path / "model"), tmp_path / "onnx", "--task", "text-classification")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    (logits,) = session.run(None, {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(input_ids=IDS, attention_mask=MASK).logits, atol=1e-4)


def test_a_swcm_generates_pytorchs_tokens(tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    model: Any = tiny_swcm(sharing="tied")
    task = "text2text-generation-with-past"
    export(with_tokenizer(model, tmp_path / "model"), tmp_path / "onnx", "--task", task)
    exported = ORTModelForSeq2SeqLM.from_pretrained(tmp_path / "onnx")
    for beams in (1, 3):
        options = {"max_new_tokens": 12, "num_beams": beams, "do_sample": False}
        wanted = model.generate(input_ids=IDS, attention_mask=MASK, **options)
        assert exported.generate(input_ids=IDS, attention_mask=MASK, **options).tolist() == wanted.tolist()
