"""Where a vocabulary lives in a model directory: its tokenizer, its tensors, and the configs that name its ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.quantize import KEPT_IN_INT8, SCALE_SUFFIX
from lrengine.safetensors_io import TensorSpec

PARTS = ("encoder", "llm")
MODEL_TYPES = ("swcm", "layer_fusion", "layer_fusion_classifier")
# Plain Hugging Face directories: what encoders and LLMs start from.
PLAIN_TYPES = ("xlm-roberta", "roberta", "bert", "t5", "mt5", "umt5", "m2m_100", "llama", "mistral", "qwen2", "qwen3")
# Positions count from pad_token_id + 1, so that id must stay what it is.
_PAD_COUNTS = ("xlm-roberta", "roberta", "m2m_100")
_MAX_PAD = 1000  # and with it all ids before it; no tokenizer has its pad token late

_ROWS = re.compile(
    r"(^|\.)((word_embeddings|shared|embed_tokens|lm_head|lm_head\.decoder|cls\.predictions\.decoder)\.weight"
    r"|(lm_head|lm_head\.decoder|cls\.predictions|cls\.predictions\.decoder)\.bias)$"
)
# What else could have a row an id: not position tables and the like, whatever their size.
_MAYBE_ROWS = re.compile("embed|head|logits|predictions")


@dataclass(frozen=True)
class Part:
    """`folder`: of the tokenizer. `prefix`: of the tensors' names. `section`: the config's key that holds the part's
    own config ("" for the outermost). `outer`: whether the outermost config and generation_config.json name its ids."""

    folder: str
    prefix: str
    section: str
    outer: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str, where: Path) -> Part:
        """Raises UnsupportedModelError for a model type that has no such part."""
        kind = config.get("model_type")
        if kind not in (*MODEL_TYPES, *PLAIN_TYPES):
            known = ", ".join((*MODEL_TYPES, *PLAIN_TYPES))
            raise UnsupportedModelError(f"{where}: found model_type {kind!r}, expected one of {known}")
        if name == "llm":
            if kind != "layer_fusion":
                raise UnsupportedModelError(f"{where}: a {kind} model has no LLM")
            return cls("llm", "llm.", "llm", True)
        if kind in PLAIN_TYPES:
            return cls("", "", "", True)
        return cls("", "" if kind == "swcm" else "encoder.", "encoder", kind == "swcm")

    def config(self, config: Mapping[str, Any], where: Path) -> dict[str, Any]:
        """The part's own config. ModelFileError without one, or without its vocab_size."""
        own = config.get(self.section) if self.section else config
        if not isinstance(own, dict) or not isinstance(own.get("vocab_size"), int):
            raise ModelFileError(f"{where}: found no vocab_size in {self.section or 'the config'}")
        return own

    def fixed_ids(self, own: Mapping[str, Any], where: Path) -> set[int]:
        """Ids that must not move."""
        pad = own.get("pad_token_id")
        if own.get("model_type") not in _PAD_COUNTS or not isinstance(pad, int):
            return set()
        if pad > _MAX_PAD:
            raise UnsupportedModelError(f"{where}: positions count from pad_token_id {pad}, which trimming would move")
        return set(range(pad + 1))

    def tensors(self, specs: Mapping[str, TensorSpec], rows: int, path_of: Callable[[str], Path]) -> set[str]:
        """Names of the tensors with a row an id, scales included. ModelFileError if one has not `rows` rows or there is
        none, UnsupportedModelError for a tensor of that size that has no known name."""
        found = set()
        for name, spec in specs.items():
            if not name.startswith(self.prefix):
                continue
            base = name.removesuffix(SCALE_SUFFIX)
            if _ROWS.search(base):
                if spec.shape[:1] != (rows,):
                    message = f"found shape {list(spec.shape)}, expected {rows} rows as vocab_size says"
                    raise ModelFileError(f"{path_of(name)}: tensor {name}: {message}")
                found.add(name)
            elif rows in spec.shape and _MAYBE_ROWS.search(name) and not KEPT_IN_INT8.search(name):
                raise UnsupportedModelError(f"{path_of(name)}: tensor {name} {list(spec.shape)}: may belong to the ids")
        if not found:
            raise ModelFileError(f"no tensor {self.prefix}*word_embeddings.weight or of another known name")
        return found
