"""The model card that `lrengine train` leaves beside a model."""

from __future__ import annotations

import json

import pytest
import yaml
from training_support import UI, classifier_document, fusion_document, swcm_document

from lrengine.models import SwcmForConditionalGeneration
from lrengine.training import TrainConfig, train
from lrengine.training.model_card import CARD_FILE, MARK


def card_of(document):
    result = train(TrainConfig.from_dict(document))
    text = (result.output_dir / CARD_FILE).read_text(encoding="utf-8")
    front, body = text.removeprefix("---\n").split("\n---\n\n", 1)
    return result, yaml.safe_load(front), body


@pytest.fixture(scope="module")
def swcm(tmp_path_factory):
    document = swcm_document(tmp_path_factory.mktemp("card") / "zh-ug", max_steps=2)
    document["data"]["train"][0]["licence"] = "MPL-2.0"
    dev = {
        "kind": "parallel",
        "path": UI,
        "languages": ["zh", "ug"],
        "pivot": "zh",
        "where": {"split": "dev"},
        "limit": 5,
    }
    document["data"]["dev"] = [dev]
    return document, *card_of(document)


def test_a_card_tells_what_the_run_did(swcm):
    document, result, front, body = swcm
    assert front == {"library_name": "lrengine", "tags": ["swcm"], "language": ["ug", "zh"]}
    assert body.startswith(f"{MARK}\n# zh-ug\n") and "encoder of random weights" in body
    report = json.loads((result.output_dir / "data_report.json").read_text())
    kept = ", ".join(f"{task} {count}" for task, count in report["sources"][0]["kept"].items())
    assert f"| train | {UI} | MPL-2.0 | 60 | {kept} |" in body
    assert f"| dev | {UI} | not given |" in body and "not a free one" in body
    assert f"| loss | {result.final_metrics['eval_loss']:.4f} |" in body
    assert f"Last training loss: {result.train_loss[-1][1]:.4f}." in body
    model = SwcmForConditionalGeneration.from_pretrained(result.output_dir)
    size = (result.output_dir / "model.safetensors").stat().st_size / 1e6
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters, {count:,} of them trained; {size:.1f} MB of weights." in body
    assert "- Trained on ug, zh only." in body and "cut to 48 tokens, targets to 48." in body
    for warning in result.data_report.warnings():
        assert f"- Warning: {warning}." in body


def test_a_card_of_ones_own_is_left_alone(swcm, tmp_path):
    document = swcm[0]
    card = tmp_path / CARD_FILE
    for text, kept in (("# Mine\n", True), (f"{MARK}\n# of an earlier run\n", False)):
        card.write_text(text)
        train(TrainConfig.from_dict({**document, "run": {**document["run"], "output_dir": str(tmp_path)}}))
        assert (card.read_text() == text) is kept


def test_cards_of_the_other_kinds(tmp_path):
    _, front, body = card_of(classifier_document(tmp_path / "c", max_steps=1))
    assert front["language"] == ["en"] and "There was no dev data." in body
    _, front, body = card_of(fusion_document(tmp_path / "f", max_steps=1))
    assert front["tags"] == ["layer_fusion"] and "Frozen: encoder, LLM." in body
    total, trained = body.split("## Size\n")[1].split(" of them")[0].split(" parameters, ")
    assert 0 < int(trained.replace(",", "")) < int(total.replace(",", ""))


def test_a_language_that_yaml_would_misread(tmp_path):
    document = classifier_document(tmp_path / "no", max_steps=1)
    document["data"]["train"][0]["language"] = "no"
    assert card_of(document)[1]["language"] == ["no"]


def test_a_licence_may_be_added_to_a_run_that_goes_on(tmp_path):
    document = classifier_document(tmp_path, max_steps=4, save_every=2)
    train(TrainConfig.from_dict(document))
    document["data"]["train"][0]["licence"] = "Unicode-3.0"
    _, _, body = card_of(document)
    assert "| Unicode-3.0 |" in body
