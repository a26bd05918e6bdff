"""Whether the demo can use a given encoder and LLM: found out before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrengine.data.tokenization import load_tokenizer
from lrengine.demo.recipe import Recipe
from lrengine.errors import DataError, UnsupportedModelError
from lrengine.models.encoders import is_bert_type

LLM_TYPES = ("llama", "mistral", "qwen2", "qwen3")
LOG = "train.log"  # what every run of the demo writes first: where it is, the models beside it are the demo's


def check_given(recipe: Recipe) -> None:
    """Reads configs and tokenizers only. Raises DataError or UnsupportedModelError, naming the option."""
    if recipe.encoder is not None:
        config = _config("--encoder", recipe.encoder)
        if not is_bert_type(config):
            raise UnsupportedModelError(
                f"--encoder {recipe.encoder}: a {config.model_type} model; the demo's translator (SWCM) needs an "
                "encoder of the type of BERT, RoBERTa or XLM-R (multilingual-e5, LaBSE, mBERT, ...)"
            )
    if recipe.llm is not None:
        config = _config("--llm", recipe.llm)
        if config.model_type not in LLM_TYPES:
            expected = ", ".join(LLM_TYPES)
            raise UnsupportedModelError(f"--llm {recipe.llm}: a {config.model_type} model, expected one of {expected}")


def check_out(recipe: Recipe, out: Path) -> None:
    """`out` may hold an earlier run of the demo, whose models are deleted; nothing else of that name is.

    Raises DataError when a given model lies in what would be deleted, or `out` has models of somebody else."""
    models = (out / "models").resolve()
    for option, name in (("--encoder", recipe.encoder), ("--llm", recipe.llm)):
        if name is not None and Path(name).exists() and Path(name).resolve().is_relative_to(models):
            raise DataError(f"{option} {name}: lies in {models}, which this run would replace; give another --out")
    if models.exists() and any(models.iterdir()) and not (out / LOG).exists():
        raise DataError(f"--out {out}: holds a folder models that no demo wrote; give another --out")


def _config(option: str, name: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise DataError(f"{option} {name}: {error}") from error
    load_tokenizer(name)
    return config
