"""Two ways to run a model directory on texts: the engine, and PyTorch. Both give the same kind of answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lrengine.data.tokenization import TextEncoder
from lrengine.errors import ModelFileError


@dataclass(frozen=True)
class DecodingOptions:
    max_new_tokens: int = 128
    num_beams: int = 1
    batch_size: int = 16
    threads: int | None = None
    device: str = "auto"


class Predictor(Protocol):
    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        """The generated text of each source (with its prompt, for a fusion model)."""
        ...

    def classify(self, sources: Sequence[str]) -> list[str]:
        """The label of each source; classifier models only."""
        ...


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a model directory. Raises ModelFileError."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelFileError(f"{path}: expected an object with 'model_type'")
    return config


class EnginePredictor:
    """The C++ engine."""

    def __init__(self, directory: Path, options: DecodingOptions) -> None:
        from lrengine.engine import Engine
        from lrengine.text import TextCodec

        self.engine = Engine.load(str(directory), device=options.device, threads=options.threads)
        codec = TextCodec.load(directory)
        if codec is None:
            raise ModelFileError(f"{directory}: has no tokenizer.json")
        # ids, not texts: the engine refuses a source that is longer than the encoder takes, and training cuts it
        self.text = TextEncoder(codec.bare, codec.source)
        self.max_source = _source_positions(read_config(directory)["encoder"])
        self.options = options

    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        options = self.options
        texts: list[str] = []
        for start in range(0, len(sources), options.batch_size):
            chosen = slice(start, start + options.batch_size)
            results = self.engine.generate(
                [self.text.source(source, self.max_source) for source in sources[chosen]],
                prompts=None if prompts is None else list(prompts[chosen]),
                max_new_tokens=options.max_new_tokens,
                num_beams=options.num_beams,
            )
            texts += [result.text for result in results]
        return texts

    def classify(self, sources: Sequence[str]) -> list[str]:
        labels: list[str] = []
        for start in range(0, len(sources), self.options.batch_size):
            chosen = sources[start : start + self.options.batch_size]
            results = self.engine.classify([self.text.source(source, self.max_source) for source in chosen])
            labels += [result.label for result in results]
        return labels


class TorchPredictor:
    """The PyTorch model and transformers' generate: slower, and the reference."""

    def __init__(self, directory: Path, options: DecodingOptions) -> None:
        import torch

        import lrengine.models as models
        from lrengine.data.tokenization import load_tokenizer

        config = read_config(directory)
        classes: dict[str, Any] = {
            "swcm": models.SwcmForConditionalGeneration,
            "layer_fusion": models.LayerFusionForCausalLM,
            "layer_fusion_classifier": models.LayerFusionForSequenceClassification,
        }
        if config["model_type"] not in classes:
            raise ModelFileError(f"{directory}: model_type '{config['model_type']}' is not one of {', '.join(classes)}")
        self.options = options
        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        self.device = torch.device(wanted)
        self.model = classes[config["model_type"]].from_pretrained(str(directory)).eval().to(self.device)
        self.tokenizer = load_tokenizer(str(directory))
        self.text = TextEncoder.of(self.tokenizer)
        self.max_source = _source_positions(config["encoder"])
        self.template = config.get("prompt_template")
        self.target_tokenizer = self.tokenizer
        if config["model_type"] == "layer_fusion":
            self.target_tokenizer = load_tokenizer(str(directory / "llm"))
            self.target_text = TextEncoder.of(self.target_tokenizer)

    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None) -> list[str]:
        import torch

        texts: list[str] = []
        for start in range(0, len(sources), self.options.batch_size):
            chosen = slice(start, start + self.options.batch_size)
            inputs = self._inputs(sources[chosen], None if prompts is None else prompts[chosen])
            with torch.no_grad():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=self.options.max_new_tokens,
                    num_beams=self.options.num_beams,
                    do_sample=False,
                )
            texts += self.target_tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts

    def classify(self, sources: Sequence[str]) -> list[str]:
        import torch

        labels: list[str] = []
        for start in range(0, len(sources), self.options.batch_size):
            inputs = self._inputs(sources[start : start + self.options.batch_size], None)
            with torch.no_grad():
                numbers = self.model(**inputs).logits.argmax(dim=-1).tolist()
            labels += [self.model.config.id2label[number] for number in numbers]
        return labels

    def _inputs(self, sources: Sequence[str], prompts: Sequence[str] | None) -> dict[str, Any]:
        from lrengine.data.dataset import Collator

        rows: list[dict[str, Any]] = []
        for index, source in enumerate(sources):
            row: dict[str, Any] = {"input_ids": self.text.source(source, self.max_source), "labels": 0}
            if prompts is not None:
                prompt = prompts[index]
                prompt = prompt if self.template is None else self.template.replace("{prompt}", prompt)
                row["prompt_ids"] = self.target_text.bare(prompt)
            rows.append(row)
        batch = Collator(int(self.tokenizer.pad_token_id))(rows)
        batch.pop("labels")
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def _source_positions(encoder: dict[str, Any]) -> int:
    """Longest source in tokens; relative positions have no end."""
    if encoder.get("model_type") in ("t5", "mt5", "umt5"):
        return 1 << 20
    offset = 0 if encoder.get("model_type") == "bert" else int(encoder.get("pad_token_id", 1)) + 1
    return int(encoder["max_position_embeddings"]) - offset
