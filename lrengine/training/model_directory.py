"""The finished model directory: weights, complete config, tokenizers (docs/MODEL_DIRECTORY.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrengine.data.tokenization import save_tokenizer


@dataclass
class Parts:
    """A model and the tokenizers it was trained with. `llm_tokenizer` belongs to layer_fusion only."""

    model: Any
    tokenizer: Any
    llm_tokenizer: Any = None

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(directory))
        save_tokenizer(self.tokenizer, directory)
        if self.llm_tokenizer is not None:
            save_tokenizer(self.llm_tokenizer, directory / "llm")
