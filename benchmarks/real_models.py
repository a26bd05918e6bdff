"""A fusion model of real weights, and real sentences for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

ENCODER, LLM = "multilingual-e5-small", "smollm2-135m-instruct"
TEXT = "real_text.json"
LANGUAGES = ("ug", "kk", "mn", "zh")
ROWS = 16


def build_real_fusion(folder: Path, real: Path | None) -> bool:
    """multilingual-e5-small, a fresh transformer mixer and SmolLM2-135M in float32, with their tokenizers and TEXT.
    `real`: what data/fetch_weights.py and data/fetch_text.py wrote. False: neither made before nor to be made here."""
    if (folder / TEXT).exists():
        return True
    if real is None or not (real / ENCODER).exists() or not (real / "text" / "udhr.jsonl").exists():
        return False
    import torch

    from lrengine.models import LayerFusionForCausalLM

    torch.manual_seed(0)
    LayerFusionForCausalLM.from_pretrained_parts(real / ENCODER, real / LLM, mixer="transformer").save_pretrained(
        folder
    )
    for part, target in ((ENCODER, folder), (LLM, folder / "llm")):
        target.mkdir(exist_ok=True)
        shutil.copyfile(real / part / "tokenizer.json", target / "tokenizer.json")
    rows = sentences(real / ENCODER, real / "text" / "udhr.jsonl")
    (folder / TEXT).write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return True


def sentences(tokenizer: Path, path: Path) -> list[list[int]]:
    """ROWS sentences of the Declaration, the languages in turn, as ids."""
    from lrengine.data.files import read_rows
    from lrengine.text import TextCodec

    codec = TextCodec.load(tokenizer)
    assert codec is not None
    texts = [
        row.values[language][0] for row in read_rows(str(path)) for language in LANGUAGES if row.values.get(language)
    ]
    return [codec.source(text) for text in texts[:ROWS]]
