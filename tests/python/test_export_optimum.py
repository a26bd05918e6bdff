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


OURS = ("-m", "lrengine.export.optimum_export")
OPTIMUM_CLI = ("-c", "import sys; from optimum.commands.optimum_cli import main; sys.exit(main())")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what optimum registers lasts as long as the process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)


def export(directory: Path, out: Path, *options: str, program: tuple[str, ...] = OURS) -> None:
    done = run(*program, "export", "onnx", "--model", str(directory), *options, str(out))
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


def test_optimum_cli_exports_our_models_once_it_is_told_of_them(tmp_path: Path) -> None:
    directory = with_tokenizer(tiny_classifier(), tmp_path / "model")
    options = ("--task", "text-classification")
    assert run(*OURS, "uninstall").returncode == 0  # what a killed run left
    assert run(*OPTIMUM_CLI, "export", "onnx", "--model", str(directory), *options, str(tmp_path / "a")).returncode
    try:
        assert run(*OURS, "install").returncode == 0
        export(directory, tmp_path / "b", *options, program=OPTIMUM_CLI)
        assert (tmp_path / "b" / "model.onnx").is_file()
        assert run(*OPTIMUM_CLI, "env").returncode == 0
    finally:
        assert run(*OURS, "uninstall").returncode == 0
