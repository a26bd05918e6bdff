"""PyTorch as a contestant: transformers' models, and ours through transformers' generate().

dtype: float32, bfloat16, or int8 (torch's dynamic quantisation of Linear); "+compile" behind it compiles the forward.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from worker import Run, prompt_ids, serve, source_ids


def open_model(message: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    torch.set_num_threads(message["threads"])
    kind, _, compiled = (message["dtype"] or "float32").partition("+")
    model = load(Path(message["directory"]), torch.bfloat16 if kind == "bfloat16" else torch.float32)
    model.eval().to(message["device"])
    if kind == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    if compiled:
        model.forward = torch.compile(model.forward)
    fusion = model.config.model_type == "layer_fusion"
    settings = getattr(model, "generation_config", None) or model.config  # classifiers have none, or have it empty
    end = settings.eos_token_id
    ends = [] if end is None else end if isinstance(end, list) else [end]

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        inputs = padded(source_ids(workload), message["device"])
        with torch.inference_mode():
            if workload["task"] == "encode":
                model(**inputs)
                return
            if fusion and workload["prompt"]:
                inputs["prompt_ids"] = torch.tensor(prompt_ids(workload), device=message["device"])
            answers = model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                num_beams=workload["beams"],
                do_sample=False,
                suppress_tokens=ends or None,
            )
            assert answers.shape[1] >= new_tokens

    return run, {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
    }


def padded(rows: list[list[int]], device: str) -> dict[str, torch.Tensor]:
    """A mask only where rows differ in length: without one PyTorch has less to do."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, 1).to(device)
    if len({len(row) for row in rows}) == 1:
        return {"input_ids": ids}
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True)
    return {"input_ids": ids, "attention_mask": mask.to(device)}


def load(directory: Path, dtype: torch.dtype) -> Any:
    model_type = json.loads((directory / "config.json").read_text(encoding="utf-8"))["model_type"]
    if model_type in ("swcm", "layer_fusion", "layer_fusion_classifier"):
        import lrengine.models  # noqa: F401  (registers ours with the Auto classes)
    families = {
        "swcm": transformers.AutoModelForSeq2SeqLM,
        "m2m_100": transformers.AutoModelForSeq2SeqLM,
        "layer_fusion_classifier": transformers.AutoModelForSequenceClassification,
        "xlm-roberta": transformers.AutoModelForSequenceClassification,
    }
    family = families.get(model_type, transformers.AutoModelForCausalLM)
    return family.from_pretrained(directory, dtype=dtype)


if __name__ == "__main__":
    serve(open_model)
