"""`evaluate(directory, sources, ...)`: predictions of a model on a split, scored per language or direction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lrengine.data.examples import Example, TextNeeds, load_examples
from lrengine.data.report import DataReport
from lrengine.data.sources import SourceConfig
from lrengine.errors import DataError
from lrengine.evaluation import metrics
from lrengine.evaluation.model_config import read_config
from lrengine.evaluation.predictors import DecodingOptions, EnginePredictor, Predictor, TorchPredictor

Task = Literal["translation", "generation", "classification"]


@dataclass
class Evaluation:
    """`scores`: group ("zh-ug", "ug", ...) -> metric -> value, in the order of the table; "mean" is over the groups."""

    model: str
    task: Task
    backend: str
    scores: dict[str, dict[str, float]]
    seconds: float
    predictions: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "task": self.task,
            "backend": self.backend,
            "seconds": round(self.seconds, 3),
            "examples": len(self.predictions),
            "scores": {group: {k: round(v, 4) for k, v in values.items()} for group, values in self.scores.items()},
        }

    def table(self) -> str:
        names = list(dict.fromkeys(name for values in self.scores.values() for name in values))
        rows = [["", *names]]
        for group, values in self.scores.items():
            cells = [f"{values[name]:.0f}" if name == "examples" else f"{values[name]:.1f}" for name in names]
            rows.append([group, *cells])
        widths = [max(len(row[column]) for row in rows) for column in range(len(names) + 1)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*lines, f"{len(self.predictions)} examples in {self.seconds:.1f} s ({self.backend})"])


def evaluate(
    directory: str | Path,
    sources: Sequence[SourceConfig],
    task: Task,
    backend: Literal["engine", "torch"] = "engine",
    options: DecodingOptions | None = None,
) -> Evaluation:
    """Run the model in `directory` on all examples of `sources`, each once. Raises DataError, ModelFileError, and
    what the backend raises."""
    directory = Path(directory)
    config = read_config(directory)
    options = options or DecodingOptions()
    examples = load_examples(sources, TextNeeds(dedup=False), DataReport(), "evaluation")
    if any(example.target is None for example in examples):
        raise DataError("evaluation needs references: a 'text' source has none")
    predictor: Predictor = (EnginePredictor if backend == "engine" else TorchPredictor)(directory, options)
    started = time.monotonic()
    predictions = predict(predictor, config, examples)
    seconds = time.monotonic() - started
    return Evaluation(
        model=str(directory),
        task=task,
        backend=backend,
        scores=score(examples, predictions, task),
        seconds=seconds,
        predictions=[
            {"task": e.task, "source": e.source, "prediction": prediction, "reference": str(e.target)}
            for e, prediction in zip(examples, predictions, strict=True)
        ],
    )


def predict(predictor: Predictor, config: dict[str, Any], examples: Sequence[Example]) -> list[str]:
    """Labels from a classifier model, generated text from the others. Sources get the prefix of their target language
    that the model was trained with (config.json, `source_prefixes`). Sources of like length are run together: a batch
    takes as long as its longest answer."""
    prefixes = config.get("source_prefixes") or {}
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].source.encode()))
    chosen = [examples[index] for index in order]
    texts = [prefixes.get(example.target_language or "", "") + example.source for example in chosen]
    with_prompts = config.get("prompt_template") is not None or any(example.prompt for example in examples)
    if config["model_type"] == "layer_fusion_classifier":
        found = predictor.classify(texts)
    else:
        found = predictor.generate(texts, [example.prompt for example in chosen] if with_prompts else None)
    answers = [""] * len(examples)
    for index, answer in zip(order, found, strict=True):
        answers[index] = answer
    return answers


def score(examples: Sequence[Example], predictions: Sequence[str], task: Task) -> dict[str, dict[str, float]]:
    """Metrics of each group and their mean. translation, generation: BLEU, chrF, ROUGE-L, exact match; classification
    (a generated label counts if the text equals it, arXiv 2508.09091): accuracy, macro-F1, the majority's share."""
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.task, []).append(index)
    scores: dict[str, dict[str, float]] = {}
    for group, indices in groups.items():
        ours = [predictions[index] for index in indices]
        theirs = [str(examples[index].target) for index in indices]
        scores[group] = {"examples": float(len(indices))}
        if task == "classification":
            ours = [text.strip() for text in ours]
            scores[group]["accuracy"] = metrics.accuracy(ours, theirs)
            scores[group]["macro_f1"] = metrics.macro_f1(ours, theirs)
            scores[group]["majority"] = metrics.majority_share(theirs)
        else:
            scores[group]["bleu"] = metrics.bleu(ours, theirs, examples[indices[0]].target_language)
            scores[group]["chrf"] = metrics.chrf(ours, theirs)
            scores[group]["rouge_l"] = metrics.mean_rouge_l(ours, theirs)
            scores[group]["exact"] = metrics.exact_match(ours, theirs)
    if len(scores) > 1:
        names = list(next(iter(scores.values())))
        mean = {name: sum(values[name] for values in scores.values()) / len(scores) for name in names}
        mean["examples"] = float(len(examples))
        scores["mean"] = mean
    return scores
