"""Trimming of the real multilingual-e5-small: 250,037 rows."""

import json
import os
from pathlib import Path

import pytest
import torch
from training_support import UI
from trim_support import fuzzed, same_cuts, tokenizer

from lrengine.cli import main
from lrengine.data.files import read_rows
from lrengine.models.encoders import load_encoder

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("LRENGINE_REAL" not in os.environ, reason="LRENGINE_REAL names no directory with real weights"),
]


@pytest.fixture(scope="module")
def texts():
    return [text for row in read_rows(UI) for text in row.values.values() if isinstance(text, str)]


def test_cuts_and_states_are_the_same(tmp_path, texts):
    source, out = Path(os.environ["LRENGINE_REAL"]) / "multilingual-e5-small", tmp_path / "out"
    columns = ["--columns", "en,ug,kk,mn,zh"]
    assert main(["trim", str(source), str(out), "--text", UI, *columns, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rows_before"] == 250_037 and report["rows_after"] < 12_000
    before, after = tokenizer(source), tokenizer(out)
    words = [word for text in texts for word in text.split()]
    alphabet = "".join(sorted(set("".join(texts)))) + "\u0f40\U0001f600"
    assert same_cuts(before, after, texts) > 2000
    assert same_cuts(before, after, fuzzed(20_000, 6, alphabet, words)) > 3000
    chosen = texts[:: len(texts) // 6]
    with torch.no_grad():
        states = [
            [model(torch.tensor([cutter.encode(text).ids])).last_hidden_state for text in chosen]
            for model, cutter in ((load_encoder(source).eval(), before), (load_encoder(out).eval(), after))
        ]
    kept = [set(before.encode(text).tokens) <= set(after.get_vocab()) for text in chosen]
    assert sum(kept) > 3
    assert all(torch.equal(*pair) for pair, whole in zip(zip(*states, strict=True), kept, strict=True) if whole)


def test_dzongkha_becomes_readable(tmp_path):
    source = Path(os.environ["LRENGINE_REAL"]) / "multilingual-e5-small"
    arguments = ["--languages", "dz", "--extend", UI, "--columns", "dz", "--json", str(tmp_path / "r.json")]
    assert main(["trim", str(source), str(tmp_path / "out"), *arguments]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["coverage_before"]["unknown"] > 0.15
    assert report["coverage_after"]["unknown"] < 0.01 and report["coverage_after"]["tokens_per_character"] < 0.5
