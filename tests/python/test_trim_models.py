"""`lrengine trim` on every model type: the engine and PyTorch compute what they computed, bit by bit."""

import json

import numpy as np
import pytest
import small_tokenizers
import torch
from trim_support import KEPT_TEXTS, config, fuzzed, model_directory, same_cuts, tokenizer, write_texts

from lrengine import Engine
from lrengine.cli import main
from lrengine.models import (
    LayerFusionForCausalLM,
    LayerFusionForSequenceClassification,
    SwcmForConditionalGeneration,
)
from lrengine.models.encoders import load_encoder
from lrengine.quantize import quantize
from lrengine.safetensors_directory import SafetensorsDirectory

CLASSES = {
    "swcm": SwcmForConditionalGeneration,
    "swcm_tied": SwcmForConditionalGeneration,
    "layer_fusion": LayerFusionForCausalLM,
    "layer_fusion_classifier": LayerFusionForSequenceClassification,
}


def trimmed(source, tmp_path, *options, texts=KEPT_TEXTS):
    out = tmp_path / "trimmed"
    text = write_texts(tmp_path / "texts.txt", texts)
    assert main(["trim", str(source), str(out), "--text", text, *options]) == 0
    return out


def new_ids(before, after):
    """Old id -> new id of the pieces that both tokenizers have."""
    known = tokenizer(after).get_vocab()
    return {index: known[piece] for piece, index in tokenizer(before).get_vocab().items() if piece in known}


@pytest.mark.parametrize("encoder", ["xlm-roberta", "bert", "mt5", "m2m_100"])
def test_the_encoder_computes_the_same_bits(tmp_path, encoder):
    source = model_directory("layer_fusion_classifier", tmp_path / "whole", encoder)
    out = trimmed(source, tmp_path)
    assert config(out)["encoder"]["vocab_size"] == tokenizer(out).get_vocab_size() < 250
    models = [LayerFusionForSequenceClassification.from_pretrained(path).eval() for path in (source, out)]
    engines = [Engine.load(path, threads=1) for path in (source, out)]
    for text in KEPT_TEXTS:
        ids = [torch.tensor([tokenizer(path).encode(text).ids]) for path in (source, out)]
        assert ids[0].shape == ids[1].shape and not torch.equal(*ids)
        with torch.no_grad():
            assert torch.equal(*(model(row).logits for model, row in zip(models, ids, strict=True)))
        first, second = (engine.classify([text])[0] for engine in engines)
        assert first.scores == second.scores


def test_generation_of_a_fusion_model_is_the_same(tmp_path):
    source = model_directory("layer_fusion", tmp_path / "whole")
    out = trimmed(source, tmp_path)
    assert config(out)["llm"] == config(source)["llm"] and config(out)["bos_token_id"] == 1
    answers = [
        Engine.load(path, threads=1).generate(KEPT_TEXTS, prompts=["the quick"] * 3, max_new_tokens=8)
        for path in (source, out)
    ]
    for first, second in zip(*answers, strict=True):
        assert first.tokens == second.tokens and first.text == second.text and first.score == second.score


@pytest.mark.parametrize("kind", ["swcm", "swcm_tied"])
def test_an_swcm_writes_the_same_where_what_it_would_write_is_kept(tmp_path, kind):
    source = model_directory(kind, tmp_path / "whole")
    out = trimmed(source, tmp_path)
    ids = new_ids(source, out)
    lost = [index for index in range(config(source)["vocab_size"]) if index not in ids]
    assert len(lost) > 60
    whole, small = (Engine.load(path, threads=1) for path in (source, out))
    for text in KEPT_TEXTS:  # greedily: beams rank by probabilities, which are shared among fewer ids
        first = whole.generate([text], max_new_tokens=8, suppress_tokens=lost)[0]
        second = small.generate([text], max_new_tokens=8)[0]
        assert [ids[token] for token in first.tokens] == second.tokens and first.text == second.text


@pytest.mark.parametrize("kind", ["swcm", "swcm_tied"])
def test_logits_of_kept_pieces_are_the_same(tmp_path, kind):
    source = model_directory(kind, tmp_path / "whole")
    out = trimmed(source, tmp_path)
    ids = new_ids(source, out)
    order = sorted(ids, key=ids.__getitem__)
    models = [CLASSES[kind].from_pretrained(path).eval() for path in (source, out)]
    encoded = [torch.tensor([tokenizer(path).encode(KEPT_TEXTS[0]).ids]) for path in (source, out)]
    with torch.no_grad():
        states = [model.encoder(row).last_hidden_state for model, row in zip(models, encoded, strict=True)]
        whole, small = (model(row, labels=row).logits for model, row in zip(models, encoded, strict=True))
    assert torch.equal(*states)
    torch.testing.assert_close(whole[..., order], small, rtol=1e-5, atol=1e-5)


def test_special_ids_move_everywhere(tmp_path):
    """A tag that is no piece of the tokenizer's model comes last, and configs that name it follow."""
    source = model_directory("swcm", tmp_path / "whole")
    tags = tokenizer(source)
    tags.add_special_tokens(["<mask>"])
    small_tokenizers.save(tags, source)
    last = tags.token_to_id("<mask>")
    for name in ("config.json", "generation_config.json"):
        fields = json.loads((source / name).read_text())
        (source / name).write_text(json.dumps({**fields, "eos_token_id": [2, last], "suppress_tokens": [last, 330]}))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": {str(last): {"content": "<mask>"}}})
    )
    out = trimmed(source, tmp_path)
    new = config(out)["vocab_size"] - 1
    assert tokenizer(out).token_to_id("<mask>") == new < last
    for name in ("config.json", "generation_config.json"):
        fields = json.loads((out / name).read_text())
        assert fields["eos_token_id"] == [2, new] and fields["suppress_tokens"] == [new]
        assert fields["pad_token_id"] == 1
    assert config(out)["encoder"]["vocab_size"] == new + 1
    companion = json.loads((out / "tokenizer_config.json").read_text())
    assert list(companion["added_tokens_decoder"]) == [str(new)]


@pytest.mark.parametrize("dtype", ["int8", "int4", "bfloat16"])
def test_quantised_directories_keep_their_bits(tmp_path, dtype):
    whole = model_directory("swcm", tmp_path / "float")
    quantize(whole, tmp_path / "whole", dtype, group_size=32)
    out = trimmed(tmp_path / "whole", tmp_path)
    ids = new_ids(whole, out)
    order = sorted(ids, key=ids.__getitem__)
    with SafetensorsDirectory(tmp_path / "whole") as before, SafetensorsDirectory(out) as after:
        assert before.specs.keys() == after.specs.keys()
        changed = {name for name in before.specs if before.specs[name] != after.specs[name]}
        expected = {"encoder.embeddings.word_embeddings.weight", "lm_head.weight", "lm_head.bias"}
        scales = {f"{name}_scale" for name in expected if not name.endswith("bias")} if dtype != "bfloat16" else set()
        assert changed == expected | scales
        for name in changed:
            assert np.array_equal(before.read(name)[order], after.read(name))
    Engine.load(out, threads=1).generate([KEPT_TEXTS[0]], max_new_tokens=3)


def test_a_plain_encoder_directory(tmp_path):
    source = model_directory("plain", tmp_path / "whole")
    out = trimmed(source, tmp_path, "--columns", "")
    models = [load_encoder(path).eval() for path in (source, out)]
    rows = [torch.tensor([tokenizer(path).encode(KEPT_TEXTS[1]).ids]) for path in (source, out)]
    with torch.no_grad():
        assert torch.equal(*(model(row).last_hidden_state for model, row in zip(models, rows, strict=True)))


def test_a_byte_level_encoder_and_the_llm(tmp_path):
    source = model_directory("layer_fusion", tmp_path / "whole", "roberta", byte_level=True)
    out = trimmed(source, tmp_path)
    assert same_cuts(tokenizer(source), tokenizer(out), fuzzed(300, 3)) > 30
    again = tmp_path / "again"
    assert main(["trim", str(out), str(again), "--part", "llm", "--text", str(tmp_path / "texts.txt")]) == 0
    sizes = [config(path)["llm"]["vocab_size"] for path in (source, again)]
    assert sizes[1] < sizes[0] and config(again)["encoder"] == config(out)["encoder"]
    assert same_cuts(tokenizer(source / "llm"), tokenizer(again / "llm"), fuzzed(300, 4)) > 30
    Engine.load(again, threads=1).generate(["the"], prompts=["fox"], max_new_tokens=3)


def test_languages_keep_their_scripts(tmp_path):
    source = model_directory("plain", tmp_path / "whole")
    out = tmp_path / "trimmed"
    assert main(["trim", str(source), str(out), "--languages", "kk,bo"]) == 0
    before, after = tokenizer(source), tokenizer(out)
    for text in (small_tokenizers.TEXTS[1].partition(", ")[2], small_tokenizers.TEXTS[3]):
        assert before.encode(text).tokens == after.encode(text).tokens
    assert after.token_to_id("<unk>") in after.encode("天气").ids
    assert before.token_to_id("<unk>") not in before.encode("天气").ids


def test_mistakes_end_with_a_message(tmp_path, capsys):
    source = model_directory("plain", tmp_path / "whole")
    text = write_texts(tmp_path / "t.txt")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    cases = [
        ([source, tmp_path / "o"], "nothing says what to keep"),
        ([source, tmp_path / "o", "--text", tmp_path / "absent.txt"], "no such file"),
        ([source, tmp_path / "o", "--text", tmp_path / "rows.jsonl", "--columns", "txet"], "did you mean 'text'"),
        ([source, tmp_path / "o", "--languages", "kkk"], "did you mean 'kk'"),
        ([source, tmp_path / "o", "--text", text, "--part", "llm"], "has no LLM"),
        ([other, tmp_path / "o", "--text", text], "found model_type 'gpt2'"),
        ([source, source, "--text", text], "exists"),
    ]
    for arguments, message in cases:
        assert main(["trim", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "o").exists()
    fields = config(source)
    (source / "config.json").write_text(json.dumps({**fields, "vocab_size": 300}))
    assert main(["trim", str(source), str(tmp_path / "o"), "--text", text]) == 2
    assert "expected 300 rows" in capsys.readouterr().err and not (tmp_path / "o").exists()
