"""Several end tokens, as instruct models have them: the engine stops at those that transformers' generate stops at.

generation_config.json is transformers' file; the engine reads config.json, so the two must say the same."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from lrengine import Engine
from lrengine.models import LayerFusionForCausalLM, SwcmForConditionalGeneration
from tiny import random_sources, tiny_encoder, tiny_llm, tiny_swcm

SOURCE = random_sources([9])[0]


def torch_tokens(model: Any, count: int = 12) -> list[int]:
    """What generate() writes, the end token included, the start token not."""
    tokens = model.eval().generate(torch.tensor([SOURCE]), max_new_tokens=count, do_sample=False)[0].tolist()
    return tokens[1:] if model.config.model_type == "swcm" else tokens


def late_token(tokens: list[int]) -> int:
    """One that comes for the first time after the second place."""
    return next(token for index, token in enumerate(tokens) if index > 2 and token not in tokens[:index])


def assert_both_stop_at(token: int, model: Any, engine: Engine) -> None:
    expected = torch_tokens(model)
    assert expected[-1] == token and len(expected) > 3
    (answer,) = engine.generate([SOURCE], max_new_tokens=12)
    assert (answer.tokens, answer.finish_reason) == (expected[:-1], "stop")


def fusion(llm: Any) -> LayerFusionForCausalLM:
    torch.manual_seed(7)
    return LayerFusionForCausalLM.from_pretrained_parts(tiny_encoder("xlm-roberta"), llm, mixer="last")


def test_the_llms_generation_config_decides_for_layer_fusion(tmp_path: Path) -> None:
    end = late_token(torch_tokens(fusion(tiny_llm())))
    tiny_llm().save_pretrained(tmp_path / "llm")
    fields = json.loads((tmp_path / "llm/generation_config.json").read_text())
    assert fields["eos_token_id"] == 2
    fields["eos_token_id"] = [2, 270, end]
    (tmp_path / "llm/generation_config.json").write_text(json.dumps(fields))

    fusion(tmp_path / "llm").save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model/config.json").read_text())["eos_token_id"] == [2, 270, end]
    reloaded = LayerFusionForCausalLM.from_pretrained(tmp_path / "model")
    assert_both_stop_at(end, reloaded, Engine.load(tmp_path / "model", threads=1))


def test_saving_a_swcm_writes_the_stop_ids_that_generate_obeys(tmp_path: Path) -> None:
    model = tiny_swcm(tie_word_embeddings=False)
    end = late_token(torch_tokens(model))
    model.generation_config.eos_token_id = [end, 300, 2]
    assert torch_tokens(model)[-1] == end
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())["eos_token_id"]
    assert stored == [2, end, 300], "first the end token that closes targets in training and scoring"
    reloaded = SwcmForConditionalGeneration.from_pretrained(tmp_path)
    assert_both_stop_at(end, reloaded, Engine.load(tmp_path, threads=1))


def test_a_generation_config_that_says_otherwise_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_swcm().save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="lrengine"):
        Engine.load(tmp_path, threads=1)
        assert not caplog.records
        (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 99], "num_beams": 4}')
        engine = Engine.load(tmp_path, threads=1)
    (record,) = caplog.records
    assert "generation_config.json: eos_token_id is [2, 99]" in record.getMessage()
    assert "the engine stops at config.json's [2]" in record.getMessage()
    assert engine.generate([SOURCE], max_new_tokens=4) == engine.generate([SOURCE], max_new_tokens=4, num_beams=1)


@pytest.mark.parametrize("text", ["", "[]", '{"eos_token_id": "x"}', "\x00", '{"eos_token_id": {}}'])
def test_a_strange_generation_config_is_no_obstacle(tmp_path: Path, text: str) -> None:
    """It is optional and not the engine's."""
    tiny_swcm().save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    assert Engine.load(tmp_path, threads=1).generate([SOURCE], max_new_tokens=2)
