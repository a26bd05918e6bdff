"""A model directory in PyTorch, asked as one would ask it in a script: texts in, tokens or probabilities out. It is
what the engine is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lrengine.models as models
from lrengine.data.dataset import Collator
from lrengine.data.tokenization import TextEncoder, load_tokenizer
from lrengine.errors import ModelFileError
from lrengine.evaluation.model_config import read_config, source_positions
from lrengine.models.encoders import all_layer_states

CLASSES: dict[str, Any] = {
    "swcm": models.SwcmForConditionalGeneration,
    "layer_fusion": models.LayerFusionForCausalLM,
    "layer_fusion_classifier": models.LayerFusionForSequenceClassification,
}


class TorchModel:
    """float32, eager, KV cache on: what `generate` of transformers does by default. Sources that are longer than the
    encoder takes are cut."""

    def __init__(self, directory: Path, device: str = "auto") -> None:
        """Raises ModelFileError for a model type that is none of CLASSES, DataError without a tokenizer."""
        config = read_config(directory)
        self.model_type: str = config["model_type"]
        if self.model_type not in CLASSES:
            raise ModelFileError(f"{directory}: model_type '{self.model_type}' is not one of {', '.join(CLASSES)}")
        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(wanted)
        self.model = CLASSES[self.model_type].from_pretrained(str(directory)).float().eval().to(self.device)
        self.tokenizer = load_tokenizer(str(directory))
        self.target_tokenizer = self.tokenizer
        if self.model_type == "layer_fusion":
            self.target_tokenizer = load_tokenizer(str(directory / "llm"))
        self._text = TextEncoder.of(self.tokenizer)
        self._target_text = TextEncoder.of(self.target_tokenizer)
        self._max_source = source_positions(config["encoder"])
        self._template = config.get("prompt_template") or "{prompt}"

    @property
    def labels(self) -> list[str]:
        """A classifier's labels in the order of its outputs."""
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    @torch.no_grad()
    def generate(self, sources: Sequence[str], prompts: Sequence[str] | None = None, **options: Any) -> list[list[int]]:
        """The tokens written for each source, without start and end tokens. options: those of transformers' generate,
        greedy unless they say otherwise."""
        options = {"do_sample": False, "num_beams": 1, **options}
        rows = self.model.generate(**self._inputs(sources, prompts), **options).tolist()
        eos = self.model.config.eos_token_id
        ends = set(eos if isinstance(eos, list) else [eos])
        return [_before(row[1:] if self.model_type == "swcm" else row, ends) for row in rows]

    def text(self, tokens: Sequence[int]) -> str:
        """Generated tokens as text, special ones left out."""
        return str(self.target_tokenizer.decode(tokens, skip_special_tokens=True))

    @torch.no_grad()
    def score(self, source: str, tokens: Sequence[int]) -> list[float]:
        """log p of each of `tokens` given the source and the tokens before it."""
        if not tokens:
            return []
        labels = torch.tensor([tokens], device=self.device)
        logits = self.model(**self._inputs([source], None), labels=labels).logits[:, -len(tokens) :]
        chosen = logits.log_softmax(dim=-1).gather(2, labels.unsqueeze(-1))
        return [float(value) for value in chosen[0, :, 0]]

    @torch.no_grad()
    def probabilities(self, sources: Sequence[str]) -> Tensor:
        """[B, labels], on the CPU."""
        return self.model(**self._inputs(sources, None)).logits.softmax(dim=-1).cpu()

    @torch.no_grad()
    def last_states(self, sources: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The encoder's last layer [B, S, D] and the mask [B, S]."""
        inputs = self._inputs(sources, None)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        return all_layer_states(self.model.encoder, ids, mask)[-1], mask

    def _inputs(self, sources: Sequence[str], prompts: Sequence[str] | None) -> dict[str, Tensor]:
        rows: list[dict[str, Any]] = [
            {"input_ids": self._text.source(source, self._max_source), "labels": 0} for source in sources
        ]
        for row, prompt in zip(rows, prompts or (), strict=prompts is not None):
            row["prompt_ids"] = self._target_text.bare(self._template.replace("{prompt}", prompt))
        batch = Collator(int(self.tokenizer.pad_token_id))(rows)
        batch.pop("labels")
        return {name: tensor.to(self.device) for name, tensor in batch.items()}


def _before(tokens: list[int], ends: set[int]) -> list[int]:
    """`tokens` up to the first end token."""
    return next((tokens[:index] for index, token in enumerate(tokens) if token in ends), tokens)
