"""The YAML config: every mistake is an error that says where it is and what would be right."""

import copy
from pathlib import Path

import pytest
from training_support import UI, classifier_document, fusion_document, swcm_document

from lrengine.errors import DataError
from lrengine.training import TokenizerTraining, TrainConfig
from lrengine.training.schema import load_yaml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(path):
    TrainConfig.from_yaml(path).resolved()


def test_there_are_examples_for_every_model_type():
    assert {TrainConfig.from_yaml(path).model.type for path in EXAMPLES} == {
        "swcm", "layer_fusion", "layer_fusion_classifier",
    }  # fmt: skip


def test_defaults_are_the_papers(tmp_path):
    swcm = TrainConfig.from_dict({**swcm_document(tmp_path), "optimizer": {}}).resolved()
    assert (swcm.optimizer.learning_rate, swcm.objective.alpha, swcm.optimizer.clip) == (1e-4, 0.3, 1.0)
    assert (swcm.objective.noise.mask_ratio, swcm.objective.noise.poisson_lambda) == (0.35, 3.5)
    fusion = TrainConfig.from_dict({**fusion_document(tmp_path), "optimizer": {}}).resolved()
    optimizer = fusion.optimizer
    assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.eps) == (3e-5, 0.8, 0.999, 1e-8)
    assert (optimizer.weight_decay, optimizer.schedule, optimizer.warmup) == (3e-7, "cosine", 0.05)
    assert fusion.model.freeze_encoder and fusion.model.freeze_llm
    assert not TrainConfig.from_dict(classifier_document(tmp_path)).resolved().model.freeze_encoder


def test_values_are_converted_only_where_nothing_is_guessed(tmp_path):
    document = swcm_document(tmp_path)
    document["optimizer"]["learning_rate"] = "3e-4"  # what YAML 1.1 makes of 3e-4
    document["data"]["train"][0]["where"] = {"split": ["train", "dev"], "n": 3}
    config = TrainConfig.from_dict(document)
    assert config.optimizer.learning_rate == 3e-4
    assert config.data.train[0].where == {"split": ["train", "dev"], "n": 3}
    assert config.model.tokenizer == TokenizerTraining(600)


def changed(document, path, value):
    """A copy of the document with one value replaced; None deletes it."""
    document = copy.deepcopy(document)
    *sections, name = path.split(".")
    place = document
    for section in sections:
        place = place[int(section)] if section.isdigit() else place.setdefault(section, {})
    if value is None:
        del place[name]
    else:
        place[name] = value
    return document


SWCM_MISTAKES = [
    ("run.batchsize", 4, r"config\.run: unknown key 'batchsize'; did you mean 'batch_size'"),
    ("optimiser", {}, r"config: unknown key 'optimiser'; did you mean 'optimizer'"),
    ("data.train.0.colums", {}, r"config\.data\.train\[0\]: unknown key 'colums'; did you mean 'columns'"),
    ("model.tokenizer", {"vocab": 5}, r"config\.model\.tokenizer: unknown key 'vocab'; did you mean 'vocab_size'"),
    ("run.max_steps", "ten", r"config\.run\.max_steps: expected int, found str \('ten'\)"),
    ("run.max_steps", True, r"config\.run\.max_steps: expected int, found bool"),
    ("run.max_steps", 0, r"run\.max_steps: 0 is not in"),
    ("run.epochs", "many", r"config\.run\.epochs: expected float"),
    ("run.bf16", 1, r"config\.run\.bf16: expected bool, found int"),
    ("run.max_seconds", -1, r"run\.max_seconds: -1"),
    ("run.output_dir", None, r"config\.run: missing key 'output_dir'"),
    ("run.device", "tpu:0", r"config\.run\.device: 'tpu:0'; there are: auto, cpu"),
    ("run.seed", -1, r"run\.seed: -1"),
    ("run.keep_best", True, "run.keep_best: needs data.dev"),
    ("run", [], r"config\.run: expected a mapping, found list"),
    ("model.type", "swmc", r"config\.model\.type: 'swmc'; did you mean 'swcm'"),
    ("model.path", "x", "give either 'path' or 'encoder'"),
    ("model.encoder", None, "model: needs 'encoder'"),
    ("model.tokenizer", None, r"model\.tokenizer: a model with random weights"),
    ("data.train", [], r"data\.train: no source given"),
    ("data.train", {}, r"config\.data\.train: expected a list"),
    ("data.train.0.kind", "parallell", r"config\.data\.train\[0\]\.kind: 'parallell'; did you mean 'parallel'"),
    ("data.train.0.kind", "labels", "a swcm model cannot be trained on 'labels' sources"),
    ("data.train.0.languages", "zh", r"config\.data\.train\[0\]\.languages: expected a list, found str"),
    ("data.train.0.languages", [False, "ug"], r"languages\[0\]: expected str, found bool .*quotes"),
    ("data.train.0.columns", {False: "no"}, "YAML read a key as False; put it in quotes"),
    ("data.max_target_length", 1, r"data\.max_target_length: 1 is not in"),
    ("data.min_script_share", 2.0, r"data\.min_script_share"),
    ("objective.alpha", -1, r"objective\.alpha"),
    ("objective.alpha", float("nan"), r"config\.objective\.alpha: expected float"),
    ("objective.mix", {"denoise": 1.0}, r"objective\.mix: unknown objective 'denoise'; did you mean 'denoising'"),
    ("objective.mix", {"denoising": 0.0}, "all weights are zero"),
    ("objective.noise.mask_ratio", 1.0, r"objective\.noise\.mask_ratio"),
    ("objective.scheduled_sampling.schedule", "liner", "did you mean 'linear'"),
    ("objective.scheduled_sampling.max_probability", 1.5, "max_probability"),
    ("objective.language_tags.style", "tokens", "did you mean 'token'"),
    ("optimizer.learning_rate", "fast", r"config\.optimizer\.learning_rate: expected float"),
    ("optimizer.beta2", 1.0, r"optimizer\.beta2"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), SWCM_MISTAKES, ids=[f"{m[0]}={m[1]}"[:50] for m in SWCM_MISTAKES]
)
def test_mistakes_are_named(tmp_path, path, value, message):
    with pytest.raises(DataError, match=message):
        TrainConfig.from_dict(changed(swcm_document(tmp_path), path, value)).resolved()


def test_mistakes_that_belong_to_other_model_types(tmp_path):
    with pytest.raises(DataError, match=r"model\.llm: a layer_fusion model needs one"):
        TrainConfig.from_dict(changed(fusion_document(tmp_path), "model.llm", None)).resolved()
    with pytest.raises(DataError, match=r"model\.llm_tokenizer: a model with random weights"):
        TrainConfig.from_dict(changed(fusion_document(tmp_path), "model.llm_tokenizer", None)).resolved()
    document = changed(classifier_document(tmp_path), "data.train.0.kind", "text")
    with pytest.raises(DataError, match="cannot be trained on 'text'"):
        TrainConfig.from_dict(document).resolved()
    document = changed(changed(swcm_document(tmp_path), "model.path", "x"), "model.encoder", None)
    document["model"]["tokenizer"] = None
    with pytest.raises(DataError, match=r"model\.options: a model that continues"):
        TrainConfig.from_dict(document).resolved()


def test_objectives_of_another_model_type_are_not_ignored(tmp_path):
    of_swcm = {
        "noise": {"mask_ratio": 0.2},
        "scheduled_sampling": {"schedule": "linear"},
        "language_tags": {"style": "none"},
        "label_smoothing": 0.1,
    }
    wrong = [(make, name, value) for make in (fusion_document, classifier_document) for name, value in of_swcm.items()]
    wrong += [(make, "chat_template", True) for make in (swcm_document, classifier_document)]
    for make, name, value in wrong:
        document = changed(make(tmp_path), f"objective.{name}", value)
        with pytest.raises(DataError, match=rf"objective\.{name}: belongs to"):
            TrainConfig.from_dict(document).resolved()
    for name, value in of_swcm.items():
        TrainConfig.from_dict(changed(swcm_document(tmp_path), f"objective.{name}", value)).resolved()
    TrainConfig.from_dict(changed(fusion_document(tmp_path), "objective.chat_template", True)).resolved()


def test_files_that_are_no_config(tmp_path):
    path = tmp_path / "c.yaml"
    with pytest.raises(DataError, match="cannot be read"):
        load_yaml(path)
    path.write_text("a: [1\nb: 2\n")
    with pytest.raises(DataError, match=r"(?s)not YAML.*line 2"):
        load_yaml(path)
    path.write_text("- 1\n")
    with pytest.raises(DataError, match="expected a mapping at the top"):
        load_yaml(path)


def test_the_command_line_checks_overrides(tmp_path, capsys):
    from lrengine.cli import main

    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: {{type: swcm, encoder: some/dir}}\nrun: {{output_dir: out}}\n"
        f"data: {{train: [{{kind: text, path: {UI}, languages: [zh]}}]}}\n"
    )
    assert main(["train", str(config), "--check"]) == 0
    assert main(["train", str(config), "--check", "--set", "run.max_steps=3"]) == 0
    for override, message in (
        ("run.max_step=3", "did you mean 'max_steps'"),
        ("run.max_steps=[", "not YAML"),
        ("run.max_steps", "expected KEY=VALUE"),
        ("run.output_dir.x=1", "'output_dir' is not a section"),
    ):
        assert main(["train", str(config), "--check", "--set", override]) == 2
        assert message in capsys.readouterr().err


def test_the_command_line_checks_every_row(tmp_path, capsys):
    from lrengine.cli import main

    rows = tmp_path / "rows.jsonl"
    config = tmp_path / "c.yaml"
    config.write_text(
        "model: {type: swcm, encoder: some/dir}\nrun: {output_dir: out}\n"
        f"data: {{train: [{{kind: parallel, path: {rows}, languages: [zh, ug], pivot: zh}}]}}\n"
    )
    rows.write_text('{"zh": "打开", "ug": "ئېچىش"}\n{"zh": "关闭", "ug": "ياپ"}\n', encoding="utf-8")
    assert main(["train", str(config), "--check"]) == 0
    assert "zh-ug: 2 examples" in capsys.readouterr().out
    with rows.open("a", encoding="utf-8") as stream:
        stream.write('{"en": "neither column"}\n')
    assert main(["train", str(config), "--check"]) == 2
    assert "rows.jsonl:3: none of the columns ['ug', 'zh']" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
