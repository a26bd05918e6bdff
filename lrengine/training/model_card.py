"""The model card (README.md) of a finished model: what it is, what it was trained on and under which licence, how it
scored, what it cannot do, how large it is. Everything comes from the run itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lrengine.data.report import DataReport, SourceReport
from lrengine.training.config import TrainConfig

CARD_FILE = "README.md"
MARK = "<!-- written by lrengine train: a file without this line is left alone -->"
NOT_GIVEN = "not given"
KINDS = {
    "swcm": "a sequence-to-sequence model whose decoder starts from its encoder's weights",
    "layer_fusion": "a language model that reads all layers of a multilingual encoder, mixed",
    "layer_fusion_classifier": "a classifier on all layers of a multilingual encoder, mixed",
}


def write_model_card(
    directory: Path, config: TrainConfig, model: Any, report: DataReport, outcome: Mapping[str, Any]
) -> None:
    """README.md in `directory`, unless one without MARK lies there. `outcome`: steps, seconds, train_loss, metrics
    (of the dev data, may be empty)."""
    path = directory / CARD_FILE
    if path.exists() and MARK not in path.read_text(encoding="utf-8"):
        return
    sections = [
        _front(config, report),
        f"{MARK}\n# {directory.resolve().name}\n\n`{config.model.type}`: {KINDS[config.model.type]}. {_origin(config)}",
        _data(config, report),
        _training(config, outcome),
        _metrics(outcome),
        _limits(config, report),
        _sizes(directory, model),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _front(config: TrainConfig, report: DataReport) -> str:
    lines = ["---", "library_name: lrengine", f"tags: [{config.model.type}]"]
    languages = _languages(config)
    if languages:
        lines.append(f"language: [{', '.join(repr(name) for name in languages)}]")  # quoted: YAML reads no as false
    if isinstance(config.model.encoder, str):
        lines.append(f"base_model: {config.model.encoder}")
    return "\n".join([*lines, "---"])


def _languages(config: TrainConfig) -> list[str]:
    """Of the training data, as far as the config names them."""
    found: set[str | None] = set()
    for source in config.data.train:
        directions = source.resolved_directions() if source.kind == "parallel" else []
        found.update(language for pair in directions for language in pair)
        found.update([source.language, source.source_language, source.target_language])
        if source.kind == "text":
            found.update(source.language_columns())
    return sorted(name for name in found if name)


def _origin(config: TrainConfig) -> str:
    if config.model.path is not None:
        return f"Training went on from `{config.model.path}`."
    parts = {"encoder": config.model.encoder, "LLM": config.model.llm}
    told = [
        f"{name} `{part}`" if isinstance(part, str) else f"{name} of random weights"
        for name, part in parts.items()
        if part is not None
    ]
    options = ", ".join(f"{name} {value}" for name, value in config.model.options.items())
    return f"Started from: {', '.join(told)}." + (f" Options: {options}." if options else "")


def _data(config: TrainConfig, report: DataReport) -> str:
    lines = ["## Data", "| split | source | licence | rows | examples |", "| --- | --- | --- | --- | --- |"]
    licences = {(split, source.title): source.licence for split, members in _splits(config) for source in members}
    for read in report.sources:
        licence = licences.get((read.split, read.title)) or NOT_GIVEN
        lines.append(f"| {read.split} | {read.title} | {licence} | {read.rows - read.filtered:,} | {_kept(read)} |")
    if any(licence is None for licence in licences.values()):
        lines.append("\nA licence that is not given is not a free one: ask whoever made the data.")
    lines.append(f"\nDev examples that are also in train: {report.overlap:,}.")
    return "\n".join(lines)


def _splits(config: TrainConfig) -> Iterable[tuple[str, Any]]:
    return (("train", config.data.train), ("dev", config.data.dev))


def _kept(read: SourceReport) -> str:
    return ", ".join(f"{task} {count:,}" for task, count in read.kept.items()) or "none"


def _training(config: TrainConfig, outcome: Mapping[str, Any]) -> str:
    run, optimizer = config.run, config.optimizer
    batch = run.batch_size * run.gradient_accumulation
    lines = [
        "## Training",
        f"{outcome['steps']:,} steps of {batch} examples a process in {outcome['seconds']:,.0f} s, seed {run.seed}, "
        f"learning rate {optimizer.learning_rate:g} ({optimizer.schedule}), "
        f"{'bfloat16 products' if run.bf16 else 'float32'}. All of it: `train_config.yaml`.",
    ]
    frozen = [name for name, still in (("encoder", config.model.freeze_encoder), ("LLM", config.model.freeze_llm))
              if still and (name == "encoder" or config.model.llm is not None)]  # fmt: skip
    if frozen:
        lines.append(f"Frozen: {', '.join(frozen)}.")
    return "\n".join(lines)


def _metrics(outcome: Mapping[str, Any]) -> str:
    lines = ["## Metrics"]
    if outcome.get("train_loss") is not None:
        lines.append(f"Last training loss: {outcome['train_loss']:.4f}.")
    scores = {name: value for name, value in outcome["metrics"].items() if name in ("eval_loss", "eval_accuracy")}
    if scores:
        lines += ["", "| dev | |", "| --- | --- |"]
        lines += [f"| {name.removeprefix('eval_')} | {value:.4f} |" for name, value in scores.items()]
    else:
        lines.append("There was no dev data.")
    lines.append("\nNo test score is claimed here: `lrengine evaluate` and `evaluate --recipe` measure them.")
    return "\n".join(lines)


def _limits(config: TrainConfig, report: DataReport) -> str:
    lines = ["## Limits"]
    lines.append(f"- Trained on {', '.join(_languages(config)) or 'languages that the config does not name'} only.")
    lines.append(f"- Sources were cut to {config.data.max_source_length} tokens"
                 + ("." if config.model.type == "layer_fusion_classifier"
                    else f", targets to {config.data.max_target_length}."))  # fmt: skip
    for tokens in report.tokens:
        lines.append(f"- {tokens.split}: half of the sources have up to {tokens.source['p50']} tokens, 95% up to "
                     f"{tokens.source['p95']}; {tokens.unknown_share:.1%} of them are `<unk>`.")  # fmt: skip
    lines += [f"- Warning: {warning}." for warning in report.warnings()]
    return "\n".join([*lines, "- Texts of another register or length than these were not tried."])


def _sizes(directory: Path, model: Any) -> str:
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    return f"## Size\n{total:,} parameters, {trained:,} of them trained; {size / 1e6:,.1f} MB of weights."
