"""Our models in Hugging Face's optimum: after `python -m lrengine.export.optimum_export install`, once an environment,
`optimum-cli export onnx --model DIR OUT` knows them. `python -m lrengine.export.optimum_export export onnx ...` is that
command without installing anything; register() tells main_export() and the ORTModel classes of a program.

Optimum traces PyTorch and writes its own layout of graphs, for programs that are built on it; `lrengine export onnx`
writes ours. Needs optimum-onnx, which (0.1) needs transformers below 4.58. Layer fusion with an LLM is not among them:
optimum has no task whose decoder starts from another model's states."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
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


# optimum-cli runs every file of the folder optimum/commands/register, whatever command is asked for: ours imports
# nothing heavy before an export begins.
_PLUGIN = """# Written by `python -m lrengine.export.optimum_export install`; `... uninstall` takes it away.
from optimum.commands.export.onnx import ONNXExportCommand

_run = ONNXExportCommand.run


def run(self):
    from lrengine.export.optimum_export import register

    register()
    return _run(self)


ONNXExportCommand.run = run
REGISTER_COMMANDS = []
"""


def plugin_file() -> Path:
    """Where optimum-cli of this environment finds what extends it."""
    found = importlib.util.find_spec("optimum.commands.register")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    if not folders:
        sys.exit("optimum: found no folder optimum/commands/register, expected optimum-onnx 0.1 or later")
    return Path(folders[0]) / "register_lrengine.py"


def _main(arguments: list[str]) -> int:
    if arguments == ["install"]:
        plugin_file().write_text(_PLUGIN, encoding="utf-8")
        print(f"wrote {plugin_file()}: optimum-cli export onnx knows our models")
        return 0
    if arguments == ["uninstall"]:
        plugin_file().unlink(missing_ok=True)
        return 0
    register()
    return int(main() or 0)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
