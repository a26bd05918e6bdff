"""Everything before the first step: texts, tokenizers, model, features, sampling, number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrengine.data.examples import Example, TextNeeds, chunk_documents, load_examples
from lrengine.data.features import ClassifierFeatures, FusionFeatures, Limits, MakeFeatures, SwcmFeatures
from lrengine.data.report import DataReport, TokenReport, quantiles
from lrengine.data.sampling import mixture
from lrengine.data.tokenization import TextEncoder, save_tokenizer
from lrengine.errors import DataError
from lrengine.training.build import (
    build_classifier,
    build_fusion,
    build_swcm,
    choose_tokenizer,
    label_ids,
    source_prefixes,
)
from lrengine.training.chat import chat_prompt_template
from lrengine.training.config import TokenizerTraining, TrainConfig
from lrengine.training.model_directory import Parts
from lrengine.training.processes import Processes

MEASURED = 2000  # examples of a split whose tokens are counted for the report


@dataclass
class Setup:
    parts: Parts
    examples: list[Example]
    dev_examples: list[Example]
    make_features: MakeFeatures
    report: DataReport
    steps: int
    global_batch: int
    pad_id: int
    prompt_pad_id: int
    compute_metrics: Callable[[Any], dict[str, float]] | None


def prepare(config: TrainConfig, parts: Parts | None, checkpoint: Path | None, processes: Processes) -> Setup:
    """Read and build. Weights of a resumed run come later, from the checkpoint, by the Trainer."""
    report = DataReport()
    examples, dev_examples = read_data(config, report)
    tags = config.objective.language_tags
    languages = sorted({e.target_language for e in [*examples, *dev_examples] if e.target_language})
    prefixes = source_prefixes(tags, languages) if config.model.type == "swcm" else {}
    if parts is None:
        parts = _build(config, examples, prefixes, checkpoint, processes)
    elif config.model.type == "swcm":
        parts.model.config.source_prefixes = prefixes
    counter = TextEncoder.of(parts.tokenizer)
    assert config.data.max_source_length is not None
    room = config.data.max_source_length - 8  # special tokens and a language tag
    examples = chunk_documents(examples, room, lambda text: len(counter.bare(text)))
    dev_examples = chunk_documents(dev_examples, room, lambda text: len(counter.bare(text)))
    make = _features(config, parts)
    for split, members in (("train", examples), ("dev", dev_examples)):
        if members:
            report.tokens.append(measure_tokens(split, members, make, parts, config))
    sizes, objectives = _task_sizes(examples)
    report.sampling = mixture(sizes, objectives, config.objective.alpha or 0.0, config.objective.mix)
    global_batch = config.run.batch_size * config.run.gradient_accumulation * processes.count
    steps = config.run.max_steps or max(1, round(config.run.epochs * len(examples) / global_batch))
    return Setup(
        parts=parts,
        examples=examples,
        dev_examples=dev_examples,
        make_features=make,
        report=report,
        steps=steps,
        global_batch=global_batch,
        pad_id=int(parts.tokenizer.pad_token_id),
        prompt_pad_id=_prompt_pad_id(parts),
        compute_metrics=accuracy if config.model.type == "layer_fusion_classifier" else None,
    )


def read_data(config: TrainConfig, report: DataReport) -> tuple[list[Example], list[Example]]:
    """Examples to train on and of dev, counted in `report`. Raises DataError for files and rows that a run would stop
    at."""
    data = config.data
    needs = TextNeeds(
        data.min_characters, data.max_characters, data.max_length_ratio, data.dedup, data.min_script_share
    )
    examples = load_examples(data.train, needs, report, "train")
    dev_examples = load_examples(data.dev, needs, report, "dev") if data.dev else []
    seen = {(example.source, example.target) for example in examples}
    report.overlap = sum((example.source, example.target) in seen for example in dev_examples)
    return examples, dev_examples


def _build(
    config: TrainConfig,
    examples: Sequence[Example],
    prefixes: dict[str, str],
    checkpoint: Path | None,
    processes: Processes,
) -> Parts:
    section = config.model
    output_dir = Path(config.run.output_dir)

    def saved(choice: str | TokenizerTraining | None, folder: str) -> Path | None:
        """Where a tokenizer lies that was trained before the run was killed, or by the first process."""
        if not isinstance(choice, TokenizerTraining) or (checkpoint is None and processes.is_first):
            return None
        return (checkpoint if checkpoint is not None else output_dir) / folder

    extra = [prefix.strip() for prefix in prefixes.values()] if config.objective.language_tags.style == "token" else []
    beside = section.path if section.path is not None else section.encoder
    texts = [text for example in examples for text in (example.source, example.target) if text]
    tokenizer = choose_tokenizer(section.tokenizer, beside, saved(section.tokenizer, ""), texts, extra)
    if tokenizer.pad_token_id is None:
        raise DataError("model.tokenizer: has no padding token")
    if section.type == "swcm":
        parts = build_swcm(section, tokenizer, prefixes)
    elif section.type == "layer_fusion_classifier":
        parts = build_classifier(section, tokenizer, sorted({str(example.target) for example in examples}))
    else:
        llm_beside = f"{section.path}/llm" if section.path is not None else section.llm
        targets = [text for example in examples for text in (example.prompt, example.target) if text]
        llm_saved = saved(section.llm_tokenizer, "llm")
        llm_tokenizer = choose_tokenizer(section.llm_tokenizer, llm_beside, llm_saved, targets)
        parts = build_fusion(section, tokenizer, llm_tokenizer)
        if processes.is_first and isinstance(section.llm_tokenizer, TokenizerTraining):
            save_tokenizer(llm_tokenizer, output_dir / "llm")
    if processes.is_first and isinstance(section.tokenizer, TokenizerTraining):
        save_tokenizer(tokenizer, output_dir)
    return parts


def _features(config: TrainConfig, parts: Parts) -> MakeFeatures:
    data = config.data
    assert data.max_source_length is not None
    limits = Limits(data.max_source_length, data.max_target_length, data.max_prompt_length)
    if config.model.type == "swcm":
        model_config = parts.model.config
        _check_positions(model_config, limits)
        prefixes = getattr(model_config, "source_prefixes", None) or {}
        eos = _first(model_config.eos_token_id)
        return SwcmFeatures(parts.tokenizer, eos, limits, config.objective.noise, prefixes)
    if config.model.type == "layer_fusion_classifier":
        return ClassifierFeatures(parts.tokenizer, limits, label_ids(parts.model))
    if config.objective.chat_template:
        parts.model.config.prompt_template = chat_prompt_template(parts.llm_tokenizer)
    template = getattr(parts.model.config, "prompt_template", None)
    return FusionFeatures(parts.tokenizer, parts.llm_tokenizer, _end_token(parts), limits, template)


def _end_token(parts: Parts) -> int:
    """The LLM tokenizer's end token, which closes every target. It becomes the first of the config's: the
    engine closes the targets that it scores with that one."""
    eos = parts.llm_tokenizer.eos_token_id
    if eos is None:
        raise DataError("model.llm_tokenizer: has no end-of-sequence token")
    config = parts.model.config
    known = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    others = [token for token in known if token not in (eos, None)]
    config.eos_token_id = [int(eos), *others] if others else int(eos)
    return int(eos)


def _check_positions(config: Any, limits: Limits) -> None:
    room = int(config.max_target_positions)
    for name, length in (("max_source_length", limits.source), ("max_target_length", limits.target)):
        if length > room:
            raise DataError(f"data.{name}: {length} tokens, but the encoder has positions for {room}")


def _prompt_pad_id(parts: Parts) -> int:
    if parts.llm_tokenizer is None:
        return 0
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(parts.llm_tokenizer, name)
        if value is not None:
            return int(value)
    return 0


def _task_sizes(examples: Sequence[Example]) -> tuple[dict[str, int], dict[str, str]]:
    sizes: dict[str, int] = {}
    objectives: dict[str, str] = {}
    for example in examples:
        sizes[example.task] = sizes.get(example.task, 0) + 1
        if objectives.setdefault(example.task, example.objective) != example.objective:
            raise DataError(
                f"task '{example.task}' is used for {objectives[example.task]} and for {example.objective}; "
                "give one of the sources another name"
            )
    return sizes, objectives


def _first(token_id: int | list[int]) -> int:
    return token_id[0] if isinstance(token_id, list) else token_id


def measure_tokens(
    split: str, examples: Sequence[Example], make: MakeFeatures, parts: Parts, config: TrainConfig
) -> TokenReport:
    """Lengths after cutting, and the share that was cut, of up to MEASURED evenly spread examples."""
    chosen = [examples[index] for index in np.linspace(0, len(examples) - 1, min(MEASURED, len(examples))).astype(int)]
    features = [make(example, np.random.default_rng(index)) for index, example in enumerate(chosen)]
    sources = [len(item["input_ids"]) for item in features]
    targets = [len(item["labels"]) if isinstance(item["labels"], list) else 1 for item in features]
    unknown_id = parts.tokenizer.unk_token_id
    unknown = sum(token == unknown_id for item in features for token in item["input_ids"])
    source_limit, target_limit = config.data.max_source_length or 0, config.data.max_target_length
    return TokenReport(
        split=split,
        source=quantiles(sources),
        target=quantiles(targets),
        source_truncated=float(np.mean([length >= source_limit for length in sources])),
        target_truncated=float(np.mean([length >= target_limit for length in targets])),
        unknown_share=unknown / max(sum(sources), 1),
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of right labels, for the Trainer's evaluation of a classifier."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return {"accuracy": float((np.argmax(logits, axis=-1) == prediction.label_ids).mean())}
