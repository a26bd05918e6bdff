"""`lrengine evaluate --recipe`: baselines, intervals, seeds; statistics against the libraries that define them."""

import json
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
import yaml
from training_support import EMOJI, SAMPLE, UI, classifier_document, swcm_document, write_lines

from lrengine.cli import main
from lrengine.data.examples import Example
from lrengine.data.overlap import overlap
from lrengine.evaluation import baselines, metrics
from lrengine.evaluation.bootstrap import Bootstrap, interval
from lrengine.evaluation.evaluate import predict
from lrengine.evaluation.statistics import CLASSIFICATION, TEXT
from lrengine.training import TrainConfig, train

OURS = ["the lazy dog", "ئۇيغۇر تىلى", "", "今天天气", "a", "same text"]
THEIRS = ["the lazy cat", "ئۇيغۇر", "x y", "今天 天气好", "bcd", "same text"]


def examples(count, group=False, tasks=("t",)):
    labels = "ab"
    return [
        Example(f"{task} {n}", labels[n % 2], task, "labels", group=str(n) if group else "")
        for task in tasks
        for n in range(count)
    ]


def test_statistics_give_the_library_scores():
    for name, theirs in (("chrf", metrics.chrf), ("rouge_l", metrics.mean_rouge_l), ("exact", metrics.exact_match)):
        for chosen in (slice(None), slice(1, 3), slice(4, 5)):
            ours, references = OURS[chosen], THEIRS[chosen]
            value = TEXT[name].finish(TEXT[name].rows(ours, references).sum(0))
            assert float(value) == pytest.approx(theirs(ours, references), abs=1e-3), name
    chrf = TEXT["chrf"]
    assert float(chrf.finish(chrf.rows(OURS, THEIRS).sum(0))) == pytest.approx(
        sacrebleu.corpus_chrf(OURS, [THEIRS]).score, abs=1e-3
    )


@pytest.mark.parametrize("language", [None, "kk", "zh", "dz"])
def test_bleu_as_sums_is_the_library_score(language):
    """Also where an order has no match (smoothed), no n-gram at all (0), or no word is right (0)."""
    bleu = TEXT["bleu"]
    ours = ["open the file again, please", "今天天气很好 abc", "close all of them now", "བོད་ཡིག་གི་དཔེ་མཛོད"]
    theirs = ["open the file again", "今天 天气好 abc", "close them now", "བོད་ཡིག་གི་དེབ"]
    assert metrics.bleu(ours, theirs, language) > 10
    for chosen in (slice(None), slice(0, 1), slice(1, 3), slice(2, 3)):
        value = bleu.finish(bleu.rows(ours[chosen], theirs[chosen], language).sum(0))
        assert float(value) == pytest.approx(metrics.bleu(ours[chosen], theirs[chosen], language), abs=1e-6)
    for first, second in ((["a b"], ["a b"]), (["a b c d e"], ["v w x y z"]), ([""], ["a"])):
        value = bleu.finish(bleu.rows(first, second, language).sum(0))
        assert float(value) == pytest.approx(metrics.bleu(first, second, language)) == 0.0
    if language != "dz":
        library = sacrebleu.corpus_bleu(ours, [theirs], tokenize="zh" if language == "zh" else "13a").score
        assert metrics.bleu(ours, theirs, language) == pytest.approx(library, abs=1e-9)


def test_an_interval_is_that_of_the_binomial():
    wanted = examples(400)
    right = [example.target if n % 4 else "c" for n, example in enumerate(wanted)]
    found = interval(Bootstrap(wanted, 4000, 1).scores(right, CLASSIFICATION["accuracy"])["t"])
    half = 196 * np.sqrt(0.75 * 0.25 / 400)
    assert found.value == pytest.approx(75) and found.low < found.high
    assert found.low == pytest.approx(75 - half, abs=0.5) and found.high == pytest.approx(75 + half, abs=0.5)


def test_examples_of_one_group_are_drawn_together():
    """The same answers in four languages say no more than in one; as if independent, the interval would be half."""
    widths = {}
    for grouped in (False, True):
        wanted = examples(200, grouped, ("en", "ug", "kk", "mn"))
        answers = [example.target if int(example.source.split()[1]) % 3 else "c" for example in wanted]
        found = interval(Bootstrap(wanted, 2000).scores(answers, CLASSIFICATION["accuracy"])["mean"])
        widths[grouped] = found.high - found.low
    assert widths[True] == pytest.approx(2 * widths[False], rel=0.15)


def test_a_difference_is_paired():
    wanted = examples(300)
    first = [example.target if n % 2 else "c" for n, example in enumerate(wanted)]
    second = [example.target if n % 2 or n % 20 == 0 else "c" for n, example in enumerate(wanted)]
    bootstrap = Bootstrap(wanted, 1000)
    scores = [bootstrap.scores(answers, CLASSIFICATION["accuracy"])["t"] for answers in (first, second)]
    assert interval(scores[0]).high > interval(scores[1]).low  # each alone says nothing
    assert interval(scores[1] - scores[0]).excludes_zero
    assert not interval(scores[0] - scores[0]).excludes_zero


def test_logistic_regression_is_the_minimum():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    labels = (features[:, 0] + 0.3 * torch.randn(60, generator=generator) > 0).long() + (features[:, 1] > 1).long()
    weight = baselines.logistic_regression(features, labels, 3).requires_grad_()
    loss = torch.nn.functional.cross_entropy(features @ weight[:-1] + weight[-1], labels, reduction="sum")
    loss = loss + weight[:-1].square().sum() / (2 * baselines.INVERSE_REGULARISATION)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 0.02
    sparse = baselines.logistic_regression(features.to_sparse_coo(), labels, 3)
    torch.testing.assert_close(sparse, weight.detach(), atol=1e-2, rtol=1e-2)


def test_baselines_on_a_case_that_can_be_counted():
    known = [
        Example("red apple", "fruit", "en", "labels"), Example("green apple", "fruit", "en", "labels"),
        Example("red car", "car", "en", "labels"), Example("ripe pear", "fruit", "en", "labels"),
    ]  # fmt: skip
    asked = [Example("apples", "fruit", "x", "labels"), Example("cars", "car", "x", "labels")]
    assert baselines.majority(known, asked) == ["fruit", "fruit"]
    assert baselines.tfidf_classifier(known, asked) == ["fruit", "car"]
    assert baselines.copy_source(known, asked) == ["apples", "cars"]
    memory = [Example("open file", "öffnen", "en-de", "translation"), Example("close", "zu", "en-de", "translation")]
    asked = [Example("open files", "", "en-de", "translation"), Example("open file", "", "en-fr", "translation")]
    assert baselines.nearest_translation(memory, asked) == ["öffnen", ""]


def test_test_strings_in_training_data_are_counted():
    known = [Example("Open file 3", "x", "t", "task"), Example("Close", "x", "t", "task")]
    asked = [Example(text, "x", "t", "task") for text in ("Close", "open  file...", "open", "7")]
    assert overlap(known, asked) == {"same": 1, "near": 1}


def test_answers_stand_where_their_sources_stood():
    class Echo:
        def classify(self, sources):
            assert [len(source.encode()) for source in sources] == sorted(len(source.encode()) for source in sources)
            return [source.upper() for source in sources]

        def generate(self, sources, prompts):
            return [f"{source}|{prompt}" for source, prompt in zip(sources, prompts, strict=True)]

    asked = [Example(text, "x", "t", "task", target_language="kk", prompt=text * 2) for text in ("ccc", "a", "", "bb")]
    echo = Echo()
    assert predict(echo, {"model_type": "layer_fusion_classifier"}, asked) == ["CCC", "A", "", "BB"]
    tagged = {"model_type": "swcm", "source_prefixes": {"kk": "<2kk> "}}
    assert predict(echo, tagged, asked) == ["<2kk> ccc|cccccc", "<2kk> a|aa", "<2kk> |", "<2kk> bb|bbbb"]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """Recipe files of a classifier (two seeds) and a SWCM, trained."""
    root = tmp_path_factory.mktemp("recipes")
    names = [json.loads(line) for line in Path(EMOJI).read_text(encoding="utf-8").splitlines()]
    few = [row for row in names if row["split"] == "test"][:40]
    emoji = {"kind": "labels", "text": "text", "label": "label", "group": "id"}
    sets = [{**emoji, "path": write_lines(root / "en.jsonl", few), "language": "en"}]
    sets.append({**emoji, "path": str(SAMPLE / "emoji" / "ug.jsonl"), "language": "ug", "limit": 40})
    document = classifier_document(root / "classifier-0", max_steps=20)
    document["data"]["train"][0].update(where={"split": "train"}, limit=200)
    document["evaluation"] = {"data": sets, "task": "classification", "resamples": 200}
    for seed in (0, 1):
        document["run"].update(seed=seed, output_dir=str(root / f"classifier-{seed}"))
        train(TrainConfig.from_dict(document))
    (root / "classifier.yaml").write_text(yaml.safe_dump(document))
    document = swcm_document(root / "swcm")
    pairs = {"kind": "parallel", "path": UI, "languages": ["zh", "ug"], "pivot": "zh", "where": {"split": "test"}}
    document["evaluation"] = {
        "data": [{**pairs, "limit": 6}],
        "task": "translation",
        "resamples": 50,
        "max_new_tokens": 8,
    }
    train(TrainConfig.from_dict(document))
    (root / "swcm.yaml").write_text(yaml.safe_dump(document))
    return root


@pytest.mark.parametrize(
    ("name", "directories", "systems"),
    [
        ("classifier", ["classifier-0", "classifier-1"], ["majority", "tfidf", "linear"]),
        ("swcm", [], ["copy", "nearest"]),
    ],
)
def test_engine_and_pytorch_give_the_same_table(recipes, tmp_path, name, directories, systems, capsys):
    found = {}
    for backend in ("engine", "torch"):
        out = tmp_path / "scores.json"
        models = [str(recipes / directory) for directory in directories]
        arguments = ["evaluate", "--recipe", str(recipes / f"{name}.yaml"), *models, "--backend", backend]
        written = tmp_path / "answers.jsonl"
        assert main([*arguments, "--json", str(out), "--predictions", str(written)]) == 0
        answers = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
        found[backend] = json.loads(out.read_text())
        assert "95% intervals" in capsys.readouterr().out
    assert len(answers) == sum(found["torch"]["examples"].values())
    assert {"task", "source", "reference", *systems, *found["torch"]["directories"]} == answers[0].keys()
    right = {"swcm": "exact", "classifier": "accuracy"}[name]
    for system in systems:
        for task, score in found["torch"]["scores"][right][system].items():
            rows = [row for row in answers if row["task"] == task]
            if rows:  # not the mean
                equal = [row[system].strip() == row["reference"].strip() for row in rows]
                assert score["value"] == pytest.approx(100 * np.mean(equal))
    for metric, scores in found["engine"]["scores"].items():
        assert list(scores) == ["model", *systems]
        for system, tasks in scores.items():
            for task, score in tasks.items():
                for key, value in score.items():
                    other = found["torch"]["scores"][metric][system][task][key]
                    assert round(value, 3) == round(other, 3), (metric, system, task, key)
                assert score["low"] <= score["value"] <= score["high"]
        seeds = found["engine"]["seeds"][metric]
        assert len(seeds) == max(len(directories), 1)
        mean = np.mean([tasks["mean"] for tasks in seeds.values()])
        assert mean == pytest.approx(scores["model"]["mean"]["value"])
        lead = found["engine"]["gains"][metric][systems[0]]["mean"]["value"]
        assert lead == pytest.approx(scores["model"]["mean"]["value"] - scores[systems[0]]["mean"]["value"])


def test_mistakes_end_with_a_message(recipes, tmp_path, capsys):
    document = yaml.safe_load((recipes / "swcm.yaml").read_text())
    cases = [
        ({**document, "evaluation": {**document["evaluation"], "baselines": ["tfidf"]}}, "none of a translation's"),
        ({**document, "evaluation": {**document["evaluation"], "resamples": 1}}, "is not 10 or more"),
        ({**document, "evaluation": {**document["evaluation"], "takss": "x"}}, "takss"),
        ({key: value for key, value in document.items() if key != "evaluation"}, "has no section 'evaluation'"),
    ]
    for changed, message in cases:
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(changed))
        assert main(["evaluate", "--recipe", str(tmp_path / "r.yaml")]) == 2
        assert message in capsys.readouterr().err
    assert main(["evaluate", str(recipes / "swcm")]) == 2
    assert "--recipe" in capsys.readouterr().err
