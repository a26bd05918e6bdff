"""What `lrengine convert` can be told. Declared once: the command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TYPES = ("auto", "swcm", "langbridge", "layer-fusion", "gguf", "swcm-from-encoder")


def _option(help: str, **extra: Any) -> Any:
    return field(default=None, metadata={"help": help, **extra})


@dataclass(frozen=True)
class ConvertOptions:
    """None means: from the checkpoint, or from the files beside it."""

    encoder_config: Path | None = _option("config.json of the encoder, or the directory that holds it")
    llm_config: Path | None = _option("config.json of the LLM, or the directory that holds it")
    tokenizer: Path | None = _option("directory of the encoder's tokenizer")
    llm_tokenizer: Path | None = _option("directory of the LLM's tokenizer")
    encoder_heads: int | None = _option("attention heads of an SWCM encoder without a config (default: width / 64)")
    latent_heads: int | None = _option("attention heads of a LangBridge resampler (default: 64 wide each)")
    bos_id: int | None = _option("first token of the LLM's input")
    eos_id: list[int] | None = _option("token that ends an output; may be given several times", action="append")
    pad_id: int | None = _option("padding token of the target side")
