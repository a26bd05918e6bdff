"""`lrengine evaluate --recipe FILE [DIR ...]`: models of one recipe, each a seed, beside baselines, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lrengine.data.examples import Example, TextNeeds, load_examples
from lrengine.data.overlap import overlap
from lrengine.data.report import DataReport
from lrengine.errors import DataError
from lrengine.evaluation import baselines
from lrengine.evaluation.bootstrap import Bootstrap, Interval, interval, mean_over_seeds
from lrengine.evaluation.evaluate import predict
from lrengine.evaluation.model_config import read_config
from lrengine.evaluation.predictors import DecodingOptions, EnginePredictor, Predictor, TorchPredictor
from lrengine.evaluation.statistics import CLASSIFICATION, TEXT, Rows, Statistic
from lrengine.training.config import EvaluationSection, TrainConfig

MODEL = "model"


@dataclass
class RecipeEvaluation:
    """`scores`: metric -> system -> task -> interval; "model" is the mean over `directories`, `seeds` the scores of
    each of them (metric -> directory -> task -> value). `gains`: metric -> baseline -> task -> the model's lead.
    `leaked`: test sources that are training sources too, and near ones (what near means: data/overlap.py).
    `predictions`: an entry an example, what each directory and each baseline answered; not part of `as_dict`."""

    directories: list[str]
    backend: str
    examples: dict[str, int]
    scores: dict[str, dict[str, dict[str, Interval]]]
    seeds: dict[str, dict[str, dict[str, float]]]
    gains: dict[str, dict[str, dict[str, Interval]]]
    leaked: dict[str, int]
    predictions: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        del fields["predictions"]
        return fields

    def table(self) -> str:
        """One block a metric: a row a task, a column a system; the lead over each baseline in the row of the mean."""
        blocks = []
        for metric, systems in self.scores.items():
            tasks = list(systems[MODEL])
            rows = [[metric, *systems]]
            rows += [[task, *(_shown(systems[name][task]) for name in systems)] for task in tasks]
            lead = {name: self.gains[metric][name][tasks[-1]] for name in systems if name != MODEL}
            rows.append([f"lead, {tasks[-1]}", "", *(_shown(lead[name]) for name in lead)])
            widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
            blocks += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
            for directory, values in self.seeds[metric].items():
                blocks.append(f"{directory}: {values[tasks[-1]]:.1f}")
            blocks.append("")
        counts = f"{sum(self.examples.values())} examples, {self.leaked}, 95% intervals ({self.backend})"
        return "\n".join([*blocks, counts])


def evaluate_recipe(
    config: TrainConfig, directories: Sequence[Path], backend: Literal["engine", "torch"], threads: int | None = None
) -> RecipeEvaluation:
    """Raises DataError for a recipe without `evaluation` or with a baseline that does not fit its task."""
    section = _section(config)
    examples = load_examples(section.data, TextNeeds(dedup=False), DataReport(), "evaluation")
    if any(example.target is None for example in examples):
        raise DataError("evaluation needs references: a 'text' source has none")
    train = [e for e in load_examples(config.data.train, TextNeeds(), DataReport(), "train") if e.target is not None]
    answers = {str(directory): _answers(directory, examples, backend, section, threads) for directory in directories}
    rivals = {name: _baseline(name, train, examples, directories[0]) for name in _names(section)}
    bootstrap = Bootstrap(examples, section.resamples, section.seed)
    statistics = CLASSIFICATION if section.task == "classification" else TEXT
    counts, leaked = _sizes(examples), overlap(train, examples)
    rows = _listed(examples, answers, rivals)
    result = RecipeEvaluation(list(answers), backend, counts, {}, {}, {}, leaked, rows)
    for metric, statistic in statistics.items():
        _add(result, metric, statistic, bootstrap, answers, rivals)
    return result


def _section(config: TrainConfig) -> EvaluationSection:
    section = config.evaluation
    if section is None:
        raise DataError("the recipe has no section 'evaluation'")
    allowed = baselines.NAMES[section.task]
    for name in section.baselines or ():
        if name not in allowed:
            raise DataError(f"evaluation.baselines: '{name}' is none of a {section.task}'s: {', '.join(allowed)}")
    if section.resamples < 10:
        raise DataError(f"evaluation.resamples: {section.resamples} is not 10 or more")
    return section


def _names(section: EvaluationSection) -> Sequence[str]:
    return baselines.NAMES[section.task] if section.baselines is None else section.baselines


def _answers(
    directory: Path, examples: Sequence[Example], backend: str, section: EvaluationSection, threads: int | None
) -> list[str]:
    options = DecodingOptions(section.max_new_tokens, section.num_beams, section.batch_size, threads)
    predictor: Predictor = (EnginePredictor if backend == "engine" else TorchPredictor)(directory, options)
    return predict(predictor, read_config(directory), examples)


def _baseline(name: str, train: Sequence[Example], wanted: Sequence[Example], directory: Path) -> list[str]:
    if name == "linear":
        return baselines.linear_probe(train, wanted, PooledStates(directory))
    functions = {
        "majority": baselines.majority,
        "tfidf": baselines.tfidf_classifier,
        "copy": baselines.copy_source,
        "nearest": baselines.nearest_translation,
    }
    return functions[name](train, wanted)


class PooledStates:
    """The mean over the tokens of a model's last encoder layer, in PyTorch."""

    def __init__(self, directory: Path, batch_size: int = 32) -> None:
        from lrengine.evaluation.torch_model import TorchModel

        self.model, self.batch_size = TorchModel(directory, "cpu"), batch_size

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """[n, D], in the order of `texts`; texts of like length are run together."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            states, mask = self.model.last_states([texts[index] for index in chosen])
            pooled = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
            for place, index in enumerate(chosen):
                found[index] = pooled[place]
        return torch.stack(found)


def _add(
    result: RecipeEvaluation,
    metric: str,
    statistic: Statistic,
    bootstrap: Bootstrap,
    answers: dict[str, list[str]],
    rivals: dict[str, list[str]],
) -> None:
    runs = {name: bootstrap.scores(predictions, statistic) for name, predictions in answers.items()}
    model = mean_over_seeds(list(runs.values()))
    others = {name: bootstrap.scores(predictions, statistic) for name, predictions in rivals.items()}
    result.scores[metric] = {name: _intervals(scores) for name, scores in {MODEL: model, **others}.items()}
    result.seeds[metric] = {
        name: {task: float(row[0]) for task, row in scores.items()} for name, scores in runs.items()
    }
    result.gains[metric] = {
        name: {task: interval(model[task] - row) for task, row in scores.items()} for name, scores in others.items()
    }


def _intervals(scores: dict[str, Rows]) -> dict[str, Interval]:
    return {task: interval(row) for task, row in scores.items()}


def _listed(examples: Sequence[Example], *systems: dict[str, list[str]]) -> list[dict[str, str]]:
    columns = {name: answers for part in systems for name, answers in part.items()}
    return [
        {"task": example.task, "source": example.source, "reference": str(example.target)}
        | {name: answers[place] for name, answers in columns.items()}
        for place, example in enumerate(examples)
    ]


def _sizes(examples: Sequence[Example]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for example in examples:
        sizes[example.task] = sizes.get(example.task, 0) + 1
    return sizes


def _shown(score: Interval) -> str:
    return f"{score.value:.1f} [{score.low:.1f}, {score.high:.1f}]"
