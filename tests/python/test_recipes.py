"""Every recipe trains as it stands, but for the length of the run, and its evaluation runs: on tiny encoders and data
of the same names and columns."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_support import SAMPLE, write_lines

from lrengine.cli import main
from lrengine.data.tokenization import save_tokenizer, train_tokenizer
from lrengine.models import LayerFusionForSequenceClassification, SwcmForConditionalGeneration
from lrengine.models.kept_states import KeptStates
from lrengine.models.swcm_layers import NormalLayer
from lrengine.training import TrainConfig, train
from tiny import tiny_encoder, tiny_llm

RECIPES = SAMPLE.parents[1] / "recipes"
SHORT = {"max_steps": 2, "batch_size": 2, "device": "cpu", "tensorboard": "false", "progress": "false"}
LANGUAGES = ("bn", "hi", "kk", "ml", "mn", "si", "sw", "ta", "ug", "ur", "zh", "dz", "en")
SPLITS = ("train", "dev", "test")
NAMES = "abcdefghijklmnopqrs"


def rows(language: str) -> list[dict[str, Any]]:
    """Texts of a few words in each split; two labels in each."""
    return [
        {
            "id": str(n),
            "en": f"string {NAMES[n]}",
            "text": f"{language} name {NAMES[n]}",
            "label": ("a", "b")[n % 2],
            "split": SPLITS[n % 3],
        }
        for n in range(18)
    ]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with all that recipes name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("emoji", "component", "parallel"):
        (tmp_path / "text" / folder).mkdir(parents=True)
        for language in LANGUAGES:
            write_lines(tmp_path / "text" / folder / f"{language}.jsonl", rows(language))
    files = [f"text/parallel/{language}.jsonl" for language in ("zh", "ug", "kk", "mn", "dz")]
    joining = script("join_languages")
    joining.main(["text/wide.jsonl", *files])
    joining.main(["text/zh-kk.jsonl", files[0], files[2], "--pairs", "5000"])
    joining.main(["text/zh-kk-all.jsonl", files[0], files[2]])
    tokenizer = train_tokenizer([row["text"] for language in LANGUAGES for row in rows(language)], 120)
    for name in ("emoji", "swcm", "kk", "kk-6", "english", "component"):
        tiny_encoder("bert", pad_token_id=1).save_pretrained(f"runs/e5-{name}")
        save_tokenizer(tokenizer, Path(f"runs/e5-{name}"))
    tiny_llm("llama").save_pretrained("smollm2-135m-instruct")
    save_tokenizer(tokenizer, Path("smollm2-135m-instruct"))
    return tmp_path


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_a_recipe_trains_and_is_evaluated(recipe, workplace, capsys):
    path = RECIPES / f"{recipe}.yaml"
    overrides = [f"--set=run.{name}={value}" for name, value in SHORT.items()]
    overrides += ["--set=run.eval_every=null", "--set=run.save_every=null"]
    assert main(["train", str(path), *overrides]) == 0
    output = Path(yaml.safe_load(path.read_text(encoding="utf-8"))["run"]["output_dir"])
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["evaluation"].update(resamples=20, max_new_tokens=4)
    Path("short.yaml").write_text(yaml.safe_dump(document))
    assert main(["evaluate", "--recipe", "short.yaml", str(output), "--json", "scores.json"]) == 0
    scores = json.loads(Path("scores.json").read_text())
    assert scores["examples"] and scores["leaked"] == {"same": 0, "near": scores["leaked"]["near"]}


def test_duplicated_normal_layers_are_copies_of_encoder_layers_and_train_on(workplace):
    recipe = str(RECIPES / "swcm_zh_kk.yaml")
    script("duplicate_normal_layers").main([recipe, "runs/duplicated"])
    model = SwcmForConditionalGeneration.from_pretrained("runs/duplicated")
    normal = [layer for layer in model.decoder.layers if isinstance(layer, NormalLayer)]
    of_encoder = model.encoder.encoder.layer[2]  # the one before the first normal layer
    for block in (normal[0].self_attention, normal[0].cross_attention):
        assert torch.equal(block.q_proj.weight, of_encoder.attention.self.query.weight)
        assert torch.equal(block.out_proj.bias, of_encoder.attention.output.dense.bias)
    assert torch.equal(normal[0].ffn.fc_in.weight, of_encoder.intermediate.dense.weight)
    assert torch.equal(normal[0].norm3.weight, of_encoder.output.LayerNorm.weight)
    overrides = ["model.path=runs/duplicated", "model.encoder=null", "model.options={}", "run.save_every=null"]
    overrides += [f"run.{name}={value}" for name, value in SHORT.items()]
    assert main(["train", recipe, *(f"--set={change}" for change in overrides)]) == 0


def test_joining_keeps_strings_of_one_split(tmp_path):
    for name, split in (("zh", "train"), ("ug", "train"), ("kk", "test")):
        pairs = [{"en": "a", "text": f"{name} a", "split": "train"}, {"en": "b", "text": f"{name} b", "split": split}]
        write_lines(tmp_path / f"{name}.jsonl", [*pairs, {"en": "a", "text": "second", "split": "train"}])
    found = script("join_languages").join([tmp_path / f"{name}.jsonl" for name in ("zh", "ug", "kk")])
    assert found == [{"en": "a", "split": "train", "zh": "zh a", "ug": "ug a", "kk": "kk a"}]


ROWS = [
    {"en": "Close", "split": "train", "zh": "关闭", "ug": "ياپ", "kk": "Жабу"},
    {"en": "Shut", "split": "test", "zh": "关闭！", "ug": "تاقا", "kk": "Жап"},
    {"en": "Open", "split": "train", "zh": "打开", "kk": "жап 2"},
    {"en": "SHUT...", "split": "train", "zh": "关上", "kk": "Өшіру"},
    {"en": "Save", "split": "dev", "zh": "保存", "kk": "Сақтау"},
    {"en": "Keep", "split": "train", "zh": "保存", "ug": "ساقلا", "kk": "Ұстау"},
    {"en": "9", "split": "train", "zh": "10", "kk": "10", "ug": "10"},
]


def test_no_held_out_string_is_left_in_training():
    """Nor one that differs in case, digits and signs alone, in any language; "10" is not near "关闭！"."""
    kept, taken = script("join_languages").without_leaks(ROWS)
    assert [(row["en"], sorted(row.keys() - {"en", "split"})) for row in kept] == [
        ("Close", ["kk", "ug"]),  # its Chinese is a test string
        ("Shut", ["kk", "ug", "zh"]),  # a test row is as it was
        # "Open" has one language left, "SHUT..." is the English of a test string
        ("Save", ["kk", "zh"]),
        ("Keep", ["kk", "ug"]),  # its Chinese is a dev string
        ("9", ["kk", "ug", "zh"]),
    ]
    assert taken == {"zh": 4, "en": 2, "kk": 2}


def test_dev_strings_that_stand_in_test_are_taken_out_too():
    rows = [{**ROWS[1], "split": split, "en": split} for split in ("test", "dev")]
    assert [row["en"] for row in script("join_languages").without_leaks(rows)[0]] == ["test"]


def test_a_thinner_training_set_is_part_of_a_thicker_one():
    rows = [
        {"en": str(n), "split": SPLITS[n % 3], "zh": "z", **({"kk": "k"} if n % 2 else {"ug": "u"})} for n in range(90)
    ]
    found = {}
    for pairs in (4, 8):
        thin = script("join_languages").thinned(rows, "zh", pairs)
        training = [row for row in thin if row["split"] == "train"]
        assert [sum(name in row for row in training) for name in ("kk", "ug")] == [pairs, pairs]
        assert [row for row in thin if row["split"] != "train"] == [row for row in rows if row["split"] != "train"]
        found[pairs] = {row["en"] for row in training}
    assert found[4] < found[8]


def test_kept_states_train_the_same_head(workplace):
    """The encoder runs once a text, and the losses are those of running it at every step."""
    document = yaml.safe_load((RECIPES / "emoji_classifier.yaml").read_text(encoding="utf-8"))
    document.pop("evaluation")
    document["model"]["options"]["classifier_dropout"] = 0.0
    document["model"]["options"]["mixer"]["dropout"] = 0.0
    document["run"].update(SHORT, max_steps=8, log_every=1, tensorboard=False, progress=False)
    losses = []
    for keep in (True, False):
        document["model"]["keep_encoder_states"] = keep
        document["run"]["output_dir"] = f"runs/{keep}"
        losses.append([loss for _, loss in train(TrainConfig.from_dict(document)).train_loss])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and len(losses[0]) == 8


def test_a_known_text_is_not_run_again():
    model = LayerFusionForSequenceClassification.from_encoder(tiny_encoder(), ["a", "b"], freeze_encoder=True).eval()
    import torch

    ids, mask = torch.tensor([[0, 9, 8, 2], [0, 7, 2, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    expected = model(ids, mask).logits
    model.kept_states = KeptStates()
    torch.testing.assert_close(model(ids, mask).logits, expected)
    model.encoder.forward = None  # whoever calls it now fails
    torch.testing.assert_close(model(ids, mask).logits, expected)
    torch.testing.assert_close(model(ids[1:, :3], mask[1:, :3]).logits, expected[1:])


def test_the_mixer_has_its_own_learning_rate(workplace):
    document = yaml.safe_load((RECIPES / "emoji_classifier.yaml").read_text(encoding="utf-8"))
    document["run"].update(SHORT, tensorboard=False, progress=False, max_steps=4)
    document["optimizer"]["weight_decay"] = 0.0
    moved = []
    for rate in (0.0, 1e-2):
        document["optimizer"]["mixer_learning_rate"] = rate
        document["run"]["output_dir"] = f"runs/rate-{rate}"
        model = LayerFusionForSequenceClassification.from_pretrained(train(TrainConfig.from_dict(document)).output_dir)
        logits = model.mixer.layer_logits.detach()
        moved.append((logits.max() - logits.min()).item())
        assert model.classifier.bias.abs().max() > 0
    assert moved[0] == 0 and moved[1] > 0
