"""Our models in Hugging Face's optimum: `python -m lrengine.export.optimum_export export onnx --model DIR OUT` is
`optimum-cli export onnx` with them registered; register() does it for main_export() and the ORTModel classes.

Optimum traces PyTorch and writes its own layout of graphs, for programs that are built on it; `lrengine export onnx`
writes ours. Needs optimum-onnx, which (0.1) needs transformers below 4.58. Layer fusion with an LLM is not among them:
optimum has no task whose decoder starts from another model's states."""

from __future__ import annotations

import sys
from typing import Any

from optimum.commands.optimum_cli import main
from optimum.exporters.onnx.config import TextEncoderOnnxConfig, TextSeq2SeqOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedConfig, NormalizedSeq2SeqConfig, NormalizedTextConfig
from transformers import PreTrainedModel

import lrengine.models  # noqa: F401  the Auto classes must know them

_TasksManager: Any = TasksManager
_SEQ2SEQ_TASKS = ("text2text-generation", "text2text-generation-with-past")


class ClassifierOnnxConfig(TextEncoderOnnxConfig):
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(vocab_size="encoder.vocab_size", allow_new=True)

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        axes = {0: "batch_size", 1: "sequence_length"}
        return {"input_ids": axes, "attention_mask": axes}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"logits": {0: "batch_size"}}


class SwcmOnnxConfig(TextSeq2SeqOnnxConfig):
    NORMALIZED_CONFIG_CLASS: NormalizedConfig = NormalizedSeq2SeqConfig.with_args(
        encoder_num_layers="encoder.num_hidden_layers",
        decoder_num_layers="num_hidden_layers",
        num_layers="num_hidden_layers",
        encoder_num_attention_heads="num_attention_heads",
        decoder_num_attention_heads="num_attention_heads",
        allow_new=True,
    )


def register() -> None:
    """Tells optimum's TasksManager of the models; once is enough, more does no harm."""
    to_onnx = TasksManager.create_register("onnx", overwrite_existing=True)
    to_onnx("layer_fusion_classifier", "text-classification", library_name="transformers")(ClassifierOnnxConfig)
    to_onnx("swcm", *_SEQ2SEQ_TASKS, library_name="transformers")(SwcmOnnxConfig)
    _TasksManager._infer_library_from_model_or_model_class = _infer_library


_infer_by_module_name = _TasksManager._infer_library_from_model_or_model_class


def _infer_library(model: Any = None, model_class: Any = None) -> str:
    """Optimum goes by the module in which a class is defined, and knows four names; ours are transformers models."""
    kind = model_class if model is None else type(model)
    if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
        return "transformers"
    return _infer_by_module_name(model, model_class)


if __name__ == "__main__":
    register()
    sys.exit(main())
