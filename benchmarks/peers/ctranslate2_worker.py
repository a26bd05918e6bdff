"""CTranslate2 as a contestant. `--convert SRC DST float32|int8` makes its model from a Hugging Face one; a directory a
type, so that nothing is converted while opening."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ctranslate2
from worker import Run, serve, source_ids

LOADERS = {"m2m_100": "M2M100Config", "llama": "LlamaConfig", "xlm-roberta": "XLMRobertaConfig"}


def convert(source: Path, target: Path, dtype: str) -> None:
    """Ids stand for themselves: piece i is called "i", so no tokenizer is needed."""
    import torch
    import transformers
    from ctranslate2.converters import transformers as converters

    model_type = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
    loader = converters._MODEL_LOADERS[LOADERS[model_type]]
    family = getattr(transformers, loader.architecture_name)
    with torch.no_grad():
        model = family.from_pretrained(source, dtype=torch.bfloat16 if model_type == "llama" else torch.float32)
        spec = loader.get_model_spec(model)
    pieces = [str(i) for i in range(model.config.vocab_size)]
    special = {"bos_token": "0", "eos_token": "2", "unk_token": "3"}
    if model_type == "m2m_100":
        spec.register_source_vocabulary(pieces)
        spec.register_target_vocabulary(pieces)
        spec.config.decoder_start_token = "2"
    else:
        spec.register_vocabulary(pieces)
    for name, piece in special.items():
        if hasattr(spec.config, name):
            setattr(spec.config, name, piece)
    spec.validate()
    spec.optimize(quantization=dtype)
    target.mkdir(parents=True)
    spec.save(str(target))


def open_model(message: dict[str, Any]) -> tuple[Run, dict[str, str]]:
    directory = Path(message["directory"])
    options = {
        "device": message["device"],
        "inter_threads": 1,
        "intra_threads": message["threads"],
        "compute_type": message["dtype"] or "default",
    }
    versions = {"ctranslate2": ctranslate2.__version__}
    kind = (directory / "kind").read_text(encoding="ascii").strip()
    run = {"m2m_100": translate, "llama": continue_, "xlm-roberta": encode}[kind](str(directory), options)
    return run, versions


def translate(directory: str, options: dict[str, Any]) -> Run:
    translator = ctranslate2.Translator(directory, **options)

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        results = translator.translate_batch(
            tokens(workload),
            beam_size=workload["beams"],
            max_decoding_length=new_tokens,
            min_decoding_length=new_tokens,
        )
        assert all(len(result.hypotheses[0]) == new_tokens for result in results)

    return run


def continue_(directory: str, options: dict[str, Any]) -> Run:
    generator = ctranslate2.Generator(directory, **options)

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        results = generator.generate_batch(
            tokens(workload),
            beam_size=workload["beams"],
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
        )
        assert all(len(result.sequences_ids[0]) == new_tokens for result in results)

    return run


def encode(directory: str, options: dict[str, Any]) -> Run:
    encoder = ctranslate2.Encoder(directory, **options)

    def run(workload: dict[str, Any], new_tokens: int) -> None:
        import numpy as np

        np.array(encoder.forward_batch(source_ids(workload)).last_hidden_state)

    return run


def tokens(workload: dict[str, Any]) -> list[list[str]]:
    return [[str(i) for i in row] for row in source_ids(workload)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--convert"]:
        source, target = map(Path, sys.argv[2:4])
        convert(source, target, sys.argv[4])
        model_type = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
        (target / "kind").write_text(model_type, encoding="ascii")
    else:
        serve(open_model)
