"""`lrengine evaluate` on models of each type, trained for a few steps here: PyTorch and the engine agree."""

import json

import pytest
from training_support import SAMPLE, UI, classifier_document, fusion_document, swcm_document

from lrengine.cli import main
from lrengine.data.sources import SourceConfig
from lrengine.errors import DataError, ModelFileError
from lrengine.evaluation import DecodingOptions, evaluate
from lrengine.training import TrainConfig, train

EMOJI = [str(SAMPLE / "emoji" / f"{language}.jsonl") for language in ("en", "ug")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories of the three types."""
    root = tmp_path_factory.mktemp("models")
    documents = {
        "swcm": swcm_document(root / "swcm", max_steps=20),
        "classifier": classifier_document(root / "classifier", max_steps=30),
        "fusion": fusion_document(root / "fusion", max_steps=30),
    }
    documents["fusion"]["model"].update(freeze_llm=False, freeze_encoder=False)
    for document in documents.values():
        train(TrainConfig.from_dict(document))
    return root


def evaluated(arguments, out):
    assert main(["evaluate", *map(str, arguments), "--json", str(out)]) == 0
    return json.loads(out.read_text())


TRANSLATION = ["--data", UI, "--languages", "zh,ug", "--pivot", "zh", "--limit", 6, "--max-new-tokens", 12]
CLASSIFICATION = ["--task", "classification", "--data", *EMOJI, "--limit", 40]
GENERATED = [*CLASSIFICATION, "--source", "text", "--target", "label", "--prompt", "Group: ", "--max-new-tokens", 12]
CASES = [("swcm", TRANSLATION), ("classifier", CLASSIFICATION), ("fusion", GENERATED)]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[case[0] for case in CASES])
def test_the_engine_and_pytorch_give_the_same_predictions(models, tmp_path, name, arguments, capsys):
    results = {}
    for backend in ("torch", "engine"):
        predictions = tmp_path / f"{backend}.jsonl"
        options = [models / name, *arguments, "--backend", backend, "--predictions", predictions]
        document = evaluated(options, tmp_path / "out.json")
        results[backend] = (document["scores"], predictions.read_text(encoding="utf-8"))
        assert document["backend"] == backend and document["split"] == "test"
        assert f"({backend})" in capsys.readouterr().out
    assert results["engine"] == results["torch"]


def test_groups_are_directions_or_languages(models, tmp_path):
    document = evaluated([models / "swcm", *TRANSLATION, "--backend", "torch"], tmp_path / "o.json")
    assert list(document["scores"]) == ["zh-ug", "ug-zh", "mean"]
    assert set(document["scores"]["zh-ug"]) == {"examples", "bleu", "chrf", "rouge_l", "exact"}
    assert document["scores"]["zh-ug"]["examples"] == 6
    document = evaluated([models / "classifier", *CLASSIFICATION, "--backend", "torch"], tmp_path / "o.json")
    assert list(document["scores"]) == ["en", "ug", "mean"]
    assert set(document["scores"]["en"]) == {"examples", "accuracy", "macro_f1", "majority"}


def test_sources_carry_the_prefix_of_their_target_language(models):
    """The model was trained with tags, so its answer depends on them: without, the same text gets other tokens."""
    from lrengine.evaluation.evaluate import predict

    class Echo:
        def generate(self, sources, prompts):
            assert prompts is None
            return list(sources)

    from lrengine.data.examples import Example

    config = json.loads((models / "swcm" / "config.json").read_text())
    examples = [Example("你好", "x", "zh-ug", "translation", "zh", "ug"), Example("y", "x", "t", "task")]
    assert predict(Echo(), config, examples) == ["<2ug> 你好", "y"]


def test_mistakes_end_with_a_message(models, tmp_path, capsys):
    cases = [
        ([tmp_path, *TRANSLATION], "config.json: cannot be read"),
        ([models / "swcm", "--data", "nothing.jsonl", "--languages", "zh,ug", "--pivot", "zh"], "no such file"),
        ([models / "swcm", "--data", UI], "needs 'languages'"),
        ([models / "swcm", "--data", UI, "--source", "zh"], "--source needs --target"),
        ([models / "classifier", *CLASSIFICATION, "--split", "tset"], "no usable example"),
        ([models / "classifier", *CLASSIFICATION, "--label", "lable"], "did you mean 'label'"),
    ]
    for arguments, message in cases:
        assert main(["evaluate", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    source = SourceConfig("parallel", path=UI, languages=["zh", "ug"], pivot="zh", limit=1)
    with pytest.raises(ModelFileError, match="'gpt2' is not one of"):
        evaluate(tmp_path, [source], "translation", "torch", DecodingOptions())
    with pytest.raises(DataError, match="needs references"):
        evaluate(models / "swcm", [SourceConfig("text", path=UI, languages=["zh"], limit=1)], "generation", "torch")
