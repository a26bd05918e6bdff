"""`lrengine trim --extend`: new pieces for a script, started from what stood in their place."""

import json
from collections import Counter

import numpy as np
import pytest
import small_tokenizers
from trim_support import config, fuzzed, model_directory, same_cuts, tokenizer, write_texts

from lrengine import Engine
from lrengine.cli import main
from lrengine.quantize import quantize
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.trim.extension import joined, script_runs
from lrengine.trim.tokenizer_file import TokenizerFile

# Dzongkha user-interface strings (LibreOffice, MPL-2.0: data/sample/NOTICE.md) have these syllables.
SYLLABLES = [
    "ཡིག་",
    "སྣོད་",
    "འདི་",
    "ལུ་",
    "བཏོན་",
    "གཏང་",
    "མིང་",
    "བཏགས་",
    "ནང་",
    "འཚོལ་",
    "ཞིབ་",
    "འབད་",
    "ཐོ་",
    "བཀོད་",
    "མི་",
    "ཚུགས་",
]
TEXTS = ["".join(SYLLABLES[(start + step * step) % 16] for step in range(length)) + "།"
         for start in range(16) for length in (3, 5)]  # fmt: skip


@pytest.fixture
def extended(tmp_path):
    """(a directory without Tibetan, the same with new pieces, the report)."""
    source = model_directory("swcm", tmp_path / "whole")
    document = json.loads(small_tokenizers.unigram().to_str())
    vocab = document["model"]["vocab"]
    document["model"]["vocab"] = [
        pair for pair in vocab if not any("\u0f00" <= letter <= "\u0fff" for letter in pair[0])
    ]
    (source / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    texts = write_texts(tmp_path / "texts.txt", TEXTS)
    out, report = tmp_path / "out", tmp_path / "report.json"
    arguments = ["--extend", texts, "--extend-pieces", "40", "--json", str(report)]
    assert main(["trim", str(source), str(out), *arguments]) == 0
    return source, out, json.loads(report.read_text())


def test_unknown_text_becomes_readable(extended):
    source, out, report = extended
    assert report["coverage_before"]["unknown"] > 0.4 and report["coverage_after"]["unknown"] == 0
    assert report["coverage_after"]["texts"] == 3
    assert report["rows_after"] == config(out)["vocab_size"] == tokenizer(out).get_vocab_size()
    tokens = tokenizer(out).encode(TEXTS[0], add_special_tokens=False).tokens
    assert set(tokens) & set(SYLLABLES) and "".join(tokens) == "\u2581" + TEXTS[0]
    assert Engine.load(out, threads=1).generate([TEXTS[0]], max_new_tokens=3)[0].text is not None


def test_other_texts_are_cut_as_before(extended):
    source, out, _ = extended
    others = "".join(small_tokenizers.TEXTS[:3]) + "漢"
    assert (
        same_cuts(
            tokenizer(source), tokenizer(out), fuzzed(400, 5, others, " ".join(small_tokenizers.TEXTS[:3]).split())
        )
        > 300
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_new_rows_are_the_mean_of_what_they_replace(tmp_path, dtype):
    source = model_directory("swcm", tmp_path / "float")
    quantize(source, tmp_path / "whole", dtype)
    texts = write_texts(tmp_path / "texts.txt", TEXTS)
    out = tmp_path / "out"
    assert main(["trim", str(tmp_path / "whole"), str(out), "--extend", texts, "--extend-pieces", "30"]) == 0
    quantize(tmp_path / "whole", tmp_path / "wide", "float32")
    quantize(out, tmp_path / "wide_out", "float32")
    before, after = tokenizer(source), tokenizer(out)
    pieces = [piece for piece in after.get_vocab() if piece not in before.get_vocab() and len(piece) > 2]
    assert len(pieces) > 5
    with SafetensorsDirectory(tmp_path / "wide") as old, SafetensorsDirectory(tmp_path / "wide_out") as new:
        for name in ("encoder.embeddings.word_embeddings.weight", "lm_head.weight", "lm_head.bias"):
            table, longer = old.read(name), new.read(name)
            for piece in pieces:
                expected = table[[token.id for token in before.model.tokenize(piece)]].mean(axis=0)
                error = {"float32": 1e-6, "bfloat16": 2.0**-8, "int8": 1 / 127}[dtype] * np.abs(expected).max()
                assert np.abs(longer[after.token_to_id(piece)] - expected).max() <= error


def test_the_same_texts_give_the_same_pieces(tmp_path):
    source = model_directory("plain", tmp_path / "whole")
    texts = write_texts(tmp_path / "texts.txt", TEXTS)
    for name in ("a", "b"):
        assert main(["trim", str(source), str(tmp_path / name), "--extend", texts]) == 0
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_runs_are_of_the_main_script_and_end_with_a_tsheg(tmp_path):
    small_tokenizers.save(small_tokenizers.unigram(), tmp_path)
    runs = script_runs(TokenizerFile(tmp_path), ["ཡིག་སྣོད།abc ལུ་", "ཡིག་ x"])
    assert runs == Counter({"▁ཡིག་": 2, "སྣོད།": 1, "▁ལུ་": 1})


def test_joining_takes_the_most_frequent_neighbours():
    assert joined(Counter({"abab": 3, "abc": 2, "x": 9}), 3) == ["ab", "abab", "abc"]
    assert joined(Counter({"aaaa": 2}), 5) == ["aa", "aaaa"]
    assert joined(Counter({"ab": 1}), 5) == []


def test_mistakes_end_with_a_message(tmp_path, capsys):
    source = model_directory("plain", tmp_path / "whole")
    digits = write_texts(tmp_path / "digits.txt", ["12 34", "5"])
    assert main(["trim", str(source), str(tmp_path / "o"), "--extend", digits]) == 2
    assert "have no letters" in capsys.readouterr().err
    texts = write_texts(tmp_path / "texts.txt", TEXTS)
    small_tokenizers.save(small_tokenizers.byte_level(), source)
    assert main(["trim", str(source), str(tmp_path / "o"), "--extend", texts]) == 2
    assert "can be added to Unigram tokenizers" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
