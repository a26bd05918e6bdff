"""Training each model type for a few steps on the sample: the loss falls, and the directory is a whole model."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_support import EMOJI, NO_DROPOUT, TINY_ENCODER, UI, classifier_document, fusion_document, swcm_document
from transformers import TrainerCallback

from lrengine.data.features import Limits, SwcmFeatures
from lrengine.data.tokenization import load_tokenizer, train_tokenizer
from lrengine.errors import DataError
from lrengine.models import (
    LayerFusionForCausalLM,
    LayerFusionForSequenceClassification,
    SwcmForConditionalGeneration,
)
from lrengine.training import TrainConfig, train
from lrengine.training.chat import chat_prompt_template
from lrengine.training.model_directory import Parts


def run(document, **options):
    return train(TrainConfig.from_dict(document), **options)


def mean_loss(pairs):
    return sum(loss for _, loss in pairs) / len(pairs)


def assert_loss_falls(result, by):
    first, last = mean_loss(result.train_loss[:5]), mean_loss(result.train_loss[-5:])
    assert last < first - by, (first, last)


def test_swcm_learns_and_leaves_a_whole_directory(tmp_path):
    document = swcm_document(tmp_path / "m", max_steps=30, eval_every=15)
    document["data"]["dev"] = [{**document["data"]["train"][0], "where": {"split": "dev"}, "limit": 5}]
    document["objective"] = {
        "mix": {"translation": 2, "denoising": 1},
        "label_smoothing": 0.1,
        "scheduled_sampling": {"schedule": "linear", "max_probability": 0.5, "start": 0.5},
    }
    result = run(document)
    assert_loss_falls(result, by=0.3)
    assert result.steps == 30 and result.stopped_by == "steps"
    assert [step for step, _ in result.train_loss] == list(range(1, 31))
    assert [entry["step"] for entry in result.eval_history] == [15, 30]
    assert result.log_history[10]["own_predictions"] == 0.0 and result.train_loss[-1][0] == 30
    assert max(entry.get("own_predictions", 0.0) for entry in result.log_history) == pytest.approx(0.5)
    probabilities = result.data_report.sampling
    assert probabilities["zh-ug"] + probabilities["ug-zh"] == pytest.approx(2 / 3)

    directory = tmp_path / "m"
    assert {path.name for path in directory.iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json",
        "data_report.json", "train_config.yaml", "train_log.jsonl",
    }  # fmt: skip
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]
    config = json.loads((directory / "config.json").read_text())
    assert config["source_prefixes"] == {"ug": "<2ug> ", "zh": "<2zh> "}
    log = [json.loads(line) for line in (directory / "train_log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 31))
    report = json.loads((directory / "data_report.json").read_text())
    assert report["sources"][0]["kept"] == {"zh-ug": 60, "ug-zh": 60}


def test_a_trained_swcm_can_be_trained_further_on_any_pairs(tmp_path):
    run(swcm_document(tmp_path / "a", max_steps=4))
    document = swcm_document(tmp_path / "b", max_steps=4)
    document["model"] = {"type": "swcm", "path": str(tmp_path / "a")}
    document["data"]["train"] = [
        {"kind": "pairs", "path": UI, "source": "{domain}: {en}", "target": "zh", "name": "task", "limit": 20}
    ]
    document["optimizer"] = {"learning_rate": 0.0}
    result = run(document)
    assert set(result.data_report.sampling) == {"task"}
    models = [SwcmForConditionalGeneration.from_pretrained(str(tmp_path / name)) for name in "ab"]
    for (name, before), (_, after) in zip(*(model.state_dict().items() for model in models), strict=True):
        assert before.equal(after), name
    assert models[1].config.source_prefixes == {"ug": "<2ug> ", "zh": "<2zh> "}, "kept for later"
    assert (tmp_path / "b" / "tokenizer.json").read_bytes() == (tmp_path / "a" / "tokenizer.json").read_bytes()


def test_language_tags_as_tokens_are_one_token_each(tmp_path):
    document = swcm_document(tmp_path / "m", max_steps=1)
    document["objective"] = {"language_tags": {"style": "token", "template": "<2{language}>"}}
    run(document)
    tokenizer = load_tokenizer(str(tmp_path / "m"))
    assert len(tokenizer("<2ug>", add_special_tokens=False)["input_ids"]) == 1
    model = SwcmForConditionalGeneration.from_pretrained(str(tmp_path / "m"))
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] >= len(tokenizer)


def test_the_classifier_learns_with_the_encoder_frozen_or_not(tmp_path):
    result = run(classifier_document(tmp_path / "free", max_steps=40, batch_size=32, seed=1))
    assert_loss_falls(result, by=0.08)
    document = classifier_document(tmp_path / "frozen", max_steps=40, batch_size=32, seed=1)
    document["model"]["freeze_encoder"] = True
    document["data"]["dev"] = [{**document["data"]["train"][0], "limit": 50}]
    result = run(document)
    assert_loss_falls(result, by=0.03)
    assert 0.0 <= result.final_metrics["eval_accuracy"] <= 1.0
    assert result.data_report.overlap > 0 and "dev scores will flatter" in str(result.data_report)
    model = LayerFusionForSequenceClassification.from_pretrained(str(tmp_path / "frozen"))
    lines = Path(EMOJI).read_text(encoding="utf-8").splitlines()
    assert set(model.config.id2label.values()) == {json.loads(line)["label"] for line in lines}


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("frozen", [True, False])
def test_fusion_trains_only_what_it_should(tmp_path, frozen):
    document = fusion_document(tmp_path / "m", max_steps=25)
    document["model"].update(freeze_encoder=frozen, freeze_llm=frozen)
    document["data"]["train"][0]["limit"] = 8  # one batch again and again
    document["model"]["llm"]["initializer_range"] = 0.2  # wide enough for a frozen random LLM to heed its input
    before = {}

    class Remember(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            before.update(weights(model))

    result = run(document, callbacks=[Remember()])
    assert mean_loss(result.train_loss[-3:]) < mean_loss(result.train_loss[:3]) - (0.1 if frozen else 0.3)
    model = LayerFusionForCausalLM.from_pretrained(str(tmp_path / "m"))
    changed = {name.split(".")[0] for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    expected = {"mixer", "mapper", "end_boundary"} | (set() if frozen else {"encoder", "llm"})
    assert changed == expected
    assert (model.config.freeze_encoder, model.config.freeze_llm) == (frozen, frozen)
    assert (tmp_path / "m" / "llm" / "tokenizer.json").is_file() and (tmp_path / "m" / "tokenizer.json").is_file()
    assert load_tokenizer(str(tmp_path / "m" / "llm")).eos_token_id == 2


def test_chat_templates_end_up_in_the_config(tmp_path):
    run(fusion_document(tmp_path / "m", max_steps=1))
    tokenizer = load_tokenizer(str(tmp_path / "m" / "llm"))
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}"
        "{% if add_generation_prompt %}[answer]{% endif %}"
    )
    model = LayerFusionForCausalLM.from_pretrained(str(tmp_path / "m"))
    document = fusion_document(tmp_path / "chat", max_steps=1)
    document["objective"] = {"chat_template": True}
    run(document, parts=Parts(model, load_tokenizer(str(tmp_path / "m")), tokenizer))
    config = json.loads((tmp_path / "chat" / "config.json").read_text())
    assert config["prompt_template"] == "[user]{prompt}[/][answer]"
    assert config["eos_token_id"] == 2
    model.config.eos_token_id = [7, 2]
    run(document, parts=Parts(model, load_tokenizer(str(tmp_path / "m")), tokenizer))
    config = json.loads((tmp_path / "chat" / "config.json").read_text())
    assert config["eos_token_id"] == [2, 7], "the end token that closed the targets comes first"
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="has no chat template"):
        run(document, parts=Parts(model, load_tokenizer(str(tmp_path / "m")), tokenizer))


def test_a_bos_that_also_starts_turns_stays_in_the_template(tmp_path):
    tokenizer = train_tokenizer(["some text to train on"] * 9, 60)
    turn = "{% for m in messages %}{{ bos_token }}{{ m.role }}:{{ m.content }}{% endfor %}"
    tokenizer.chat_template = turn + "{% if add_generation_prompt %}{{ bos_token }}answer:{% endif %}"
    assert chat_prompt_template(tokenizer) == "<s>user:{prompt}<s>answer:"
    tokenizer.chat_template = turn
    assert chat_prompt_template(tokenizer) == "user:{prompt}"


def test_a_step_is_the_same_however_it_is_cut(tmp_path):
    """Gradient accumulation weights tokens, not micro-batches."""
    curves = []
    for name, batch, accumulation, checkpointing in (("a", 8, 1, False), ("b", 2, 4, False), ("c", 4, 2, True)):
        document = swcm_document(tmp_path / name, max_steps=4, batch_size=batch, gradient_accumulation=accumulation,
                                 gradient_checkpointing=checkpointing)  # fmt: skip
        document["model"]["encoder"] = {**TINY_ENCODER, **NO_DROPOUT}
        document["model"]["tokenizer"] = str(tmp_path / "a") if name != "a" else {"vocab_size": 600}
        document["data"]["group_by_length"] = False
        curves.append([loss for _, loss in run(document).train_loss])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)


def test_training_stops_when_the_time_is_up_with_the_learning_rate_at_its_end(tmp_path):
    result = run(classifier_document(tmp_path / "m", max_steps=100_000, max_seconds=1.5, batch_size=2))
    assert result.stopped_by == "seconds" and 0 < result.steps < 100_000
    assert result.seconds < 15
    rates = [entry["learning_rate"] for entry in result.log_history if "learning_rate" in entry]
    assert rates[-1] < 0.2 * max(rates)
    assert (tmp_path / "m" / "config.json").is_file()


def test_batches_come_in_the_order_of_the_plan(tmp_path):
    class First(TrainerCallback):
        def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
            planned, collate = train_dataloader.dataset, train_dataloader.collate_fn
            for number, batch in zip(range(3), train_dataloader, strict=False):
                expected = collate([planned[4 * number + index] for index in range(4)])
                assert batch["input_ids"].equal(expected["input_ids"])
            self.batches = number + 1

    first = First()
    run(swcm_document(tmp_path / "m", max_steps=3), callbacks=[first])
    assert first.batches == 3


def test_worker_processes_change_nothing(tmp_path):
    curves = []
    for workers in (0, 2):
        document = swcm_document(tmp_path / str(workers), max_steps=3, workers=workers)
        document["model"]["tokenizer"] = str(tmp_path / "0") if workers else {"vocab_size": 600}
        curves.append(run(document).train_loss)
    assert curves[0] == curves[1]


class Watch(TrainerCallback):
    """What a model does in training: the dtypes that linear layers give, how often each of those inside a Transformer
    layer runs, the gradients' norm as the optimizer meets it."""

    def __init__(self):
        self.dtypes, self.runs, self.norms = set(), {}, []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(lambda module, _, output: self.dtypes.add(output.dtype))
                if re.search(r"\.layers?\.\d+\.", name):
                    self.runs[name] = 0
                    # before the forward: a recomputation stops as soon as it has what it needs
                    module.register_forward_pre_hook(lambda *_, name=name: self.count(name))

    def count(self, name):
        self.runs[name] += 1

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
        self.norms.append(float(torch.stack(norms).norm()))


DOCUMENTS = {"swcm": swcm_document, "fusion": fusion_document, "classifier": classifier_document}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_bfloat16_computes_in_bfloat16_and_stores_float32(tmp_path, kind, monkeypatch):
    for bf16 in (True, False):
        # transformers 4 leaves its choice here, for every later run of the process
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        watch = Watch()
        run(DOCUMENTS[kind](tmp_path / str(bf16), max_steps=2, bf16=bf16), callbacks=[watch])
        assert watch.dtypes == {torch.bfloat16 if bf16 else torch.float32}
    assert {tensor.dtype for tensor in load_file(tmp_path / "True" / "model.safetensors").values()} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_bfloat16_needs_no_word_about_the_cpu_where_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    watch = Watch()
    run(swcm_document(tmp_path, max_steps=1, bf16=True, device="auto"), callbacks=[watch])
    assert watch.dtypes == {torch.bfloat16}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_gradient_checkpointing_runs_layers_again(tmp_path, kind):
    runs = []
    for wanted in (False, True):
        watch = Watch()
        document = DOCUMENTS[kind](tmp_path / str(wanted), max_steps=2, gradient_checkpointing=wanted)
        if kind == "fusion":
            document["model"].update(freeze_encoder=False, freeze_llm=False)
        run(document, callbacks=[watch])
        runs.append(watch.runs)
    assert len(runs[0]) >= 12 and set(runs[0].values()) == {2}
    assert runs[1] == {name: 4 for name in runs[0]}


def test_the_optimizer_meets_clipped_gradients(tmp_path):
    norms = {}
    for clip in (1e-3, 1e6):
        watch = Watch()
        document = swcm_document(tmp_path / str(clip), max_steps=2)
        document["optimizer"]["clip"] = clip
        result = run(document, callbacks=[watch])
        norms[clip] = watch.norms
        unclipped = [entry["grad_norm"] for entry in result.log_history if "grad_norm" in entry]
        assert min(unclipped) > 0.1
    assert norms[1e-3] == pytest.approx([1e-3] * 2, rel=1e-2)
    assert norms[1e6] == pytest.approx(unclipped, rel=1e-3)


def test_tensorboard_gets_the_curve(tmp_path):
    run(classifier_document(tmp_path / "m", max_steps=3, tensorboard=True))
    assert list((tmp_path / "m" / "tensorboard").glob("events*"))


def test_what_the_model_cannot_do_is_said_before_training(tmp_path):
    document = swcm_document(tmp_path / "m")
    document["data"]["max_source_length"] = 65
    with pytest.raises(DataError, match="data.max_source_length: 65 tokens, but the encoder has positions for 64"):
        run(document)
    document = swcm_document(tmp_path / "m")
    document["model"]["options"] = {"norm_style": "pots"}
    with pytest.raises(DataError, match="model.options: norm_style 'pots'"):
        run(document)
    document["model"]["options"] = {"colour": 1, "sharing": "some"}
    with pytest.raises(DataError, match="model.options"):
        run(document)
    document = swcm_document(tmp_path / "m")
    document["model"]["encoder"] = "/no/such/encoder"
    document["model"]["tokenizer"] = None
    with pytest.raises(DataError, match="/no/such/encoder"):
        run(document)
    document = classifier_document(tmp_path / "m")
    document["data"]["train"][0]["limit"] = 30
    with pytest.raises(DataError, match="only one label, 'smileys-emotion'"):
        run(document)
    document = swcm_document(tmp_path / "m")
    document["objective"] = {"language_tags": {"template": "uyghur"}}
    with pytest.raises(DataError, match=r"has no \{language\}"):
        run(document)


def test_denoising_rows_reach_the_model_with_masks(tmp_path):
    run(swcm_document(tmp_path / "m", max_steps=1))
    tokenizer = load_tokenizer(str(tmp_path / "m"))
    model = SwcmForConditionalGeneration.from_pretrained(str(tmp_path / "m"))
    make = SwcmFeatures(tokenizer, 2, Limits(40, 40), TrainConfig.from_dict(
        swcm_document(tmp_path)).objective.noise, model.config.source_prefixes)  # fmt: skip
    assert make.mask_id == tokenizer.convert_tokens_to_ids("<mask>")
    with torch.no_grad():
        assert model(input_ids=torch.tensor([[0, make.mask_id, 2]]), labels=torch.tensor([[5, 2]])).loss.isfinite()
