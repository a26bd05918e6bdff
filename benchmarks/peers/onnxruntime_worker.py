"""ONNX Runtime as a contestant: optimum's export, and a loop of our own around it, which is quicker than optimum's.

`--convert SRC DST float32|int8` exports a Hugging Face directory; int8: dynamic quantisation of the matrix products.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from worker import Run, serve, source_ids

TASKS = {"m2m_100": "text2text-generation-with-past", "xlm-roberta": "text-classification"}


def convert(source: Path, target: Path, quantized: bool) -> None:
    from optimum.exporters.onnx import main_export

    model_type = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
    exported = target.with_name(target.name.removesuffix("-int8") + "-float32") if quantized else target
    if not exported.exists():
        main_export(str(source), str(exported), task=TASKS[model_type], no_post_process=True, do_validation=False)
        (exported / "config.json").write_text((source / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    if not quantized:
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.mkdir(parents=True)
    for graph in exported.glob("*.onnx"):
        quantize_dynamic(
            graph, target / graph.name, weight_type=QuantType.QInt8, use_external_data_format=False, per_channel=False
        )
    (target / "config.json").write_text((source / "config.json").read_text(encoding="utf-8"), encoding="utf-8")


def open_model(message: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    directory = Path(message["directory"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = message["threads"]
    options.add_session_config_entry(
        "session.force_spinning_stop", "1"
    )  # between requests, when others have their turn

    def session(name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(directory / name, options, providers=["CPUExecutionProvider"])

    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    run = classifier(session) if config["model_type"] == "xlm-roberta" else seq2seq(session, config)
    return run, {"onnxruntime": onnxruntime.__version__}


def classifier(session: Any) -> Run:
    model = session("model.onnx")

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        ids = np.array(source_ids(workload))
        model.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})

    return run


def seq2seq(session: Any, config: dict[str, Any]) -> Run:
    encoder, first, later = (
        session(f"{name}.onnx") for name in ("encoder_model", "decoder_model", "decoder_with_past_model")
    )
    first_outputs = [output.name for output in first.get_outputs()]
    later_outputs = [output.name for output in later.get_outputs()]
    later_inputs = {value.name for value in later.get_inputs()}
    end, start = config["eos_token_id"], config["decoder_start_token_id"]

    def chosen(logits: np.ndarray) -> np.ndarray:
        logits = logits[:, -1]
        logits[:, end] = -np.inf
        return np.argmax(logits, axis=-1)[:, None]

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        if workload["beams"] > 1:
            raise NotImplementedError("greedy only")
        ids = np.array(source_ids(workload))
        mask = np.ones_like(ids)
        states = encoder.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        tokens = np.full((len(ids), 1), start)
        feed = {"input_ids": tokens, "encoder_attention_mask": mask, "encoder_hidden_states": states}
        values = dict(zip(first_outputs, first.run(None, feed), strict=True))
        caches = {
            name.replace("present", "past_key_values"): value for name, value in values.items() if name != "logits"
        }
        tokens = chosen(values["logits"])
        for _ in range(new_tokens - 1):
            feed = {"input_ids": tokens, "encoder_attention_mask": mask, "encoder_hidden_states": states} | caches
            feed = {name: value for name, value in feed.items() if name in later_inputs}
            values = dict(zip(later_outputs, later.run(None, feed), strict=True))
            caches |= {
                name.replace("present", "past_key_values"): value for name, value in values.items() if name != "logits"
            }
            tokens = chosen(values["logits"])

    return run


if __name__ == "__main__":
    if sys.argv[1:2] == ["--convert"]:
        convert(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["int8"])
    else:
        serve(open_model)
