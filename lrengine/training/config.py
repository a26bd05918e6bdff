"""`TrainConfig`: everything a training run is made of, as it stands in the YAML file.

Defaults are the papers' (MODELS.md): where they differ between the model types the field is None here and
`resolved()` fills it. Numbers that depend on the machine (batch_size, workers) have small defaults.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lrengine.data.denoising import NoiseConfig
from lrengine.data.sources import SourceConfig
from lrengine.data.template import nearest
from lrengine.errors import DataError
from lrengine.training.schema import load_yaml, parse

OBJECTIVES = ("denoising", "translation", "task", "labels")
ModelType = Literal["swcm", "layer_fusion", "layer_fusion_classifier"]


@dataclass
class TokenizerTraining:
    """Train a tokenizer on the training texts: for models from scratch. Unigram with XLM-R's special tokens."""

    vocab_size: int = 4000


@dataclass
class ModelSection:
    """What to train. Either `path` (continue from a model directory), or `encoder` (and `llm`).

    encoder, llm: a directory or hub name for trained weights, or a Hugging Face config as a mapping
    (`{model_type: xlm-roberta, hidden_size: 128, ...}`) for random ones; vocab_size is then the tokenizer's.
    options: passed to the model's config (norm_style, sharing, normal_layer_interval, mixer, mapper, ...).
    """

    type: ModelType
    path: str | None = None
    encoder: str | dict[str, Any] | None = None
    llm: str | dict[str, Any] | None = None
    tokenizer: str | TokenizerTraining | None = None  # default: the one beside the encoder
    llm_tokenizer: str | TokenizerTraining | None = None  # default: the one beside the LLM
    options: dict[str, Any] = field(default_factory=dict)
    freeze_encoder: bool | None = None  # default: true for layer_fusion, false for the others
    freeze_llm: bool = True
    keep_encoder_states: bool = False  # run a frozen encoder once for each text and keep its states in memory


@dataclass
class DataSection:
    """Files and limits. Lengths are in tokens, special tokens included; longer texts are cut, and the report says how
    many were."""

    train: list[SourceConfig]
    dev: list[SourceConfig] = field(default_factory=list)
    max_source_length: int | None = None  # default: 256; layer_fusion: 512 (both papers)
    max_target_length: int = 256
    max_prompt_length: int = 128
    dedup: bool = True
    min_script_share: float | None = None  # drop texts with a smaller share of their language's script
    min_characters: int = 1
    max_characters: int | None = None
    max_length_ratio: float | None = None
    group_by_length: bool = True


@dataclass
class LanguageTags:
    """How a SWCM decoder is told which language to write: the source starts with a tag of the target language.

    `text`: the template is plain text and the tokenizer cuts it as it likes. `token`: each tag becomes one new token.
    Denoising carries the tag of its own language. The tags are saved in config.json as `source_prefixes`
    {language: text}; whoever runs the model puts the text before the source, as `lrengine evaluate` does.
    """

    style: Literal["none", "text", "token"] = "text"
    template: str = "<2{language}> "


@dataclass
class ScheduledSampling:
    """Probability of feeding the decoder its own prediction instead of the gold token (training/scheduled_sampling.py).

    linear: 0 up to `start`, growing to `max_probability` at `end` (both parts of the run, 0 to 1).
    inverse_sigmoid: max_probability * (1 - k / (k + exp(step / k))), k in optimizer steps (arXiv 1506.03099, 2.4).
    """

    schedule: Literal["none", "linear", "inverse_sigmoid"] = "none"
    max_probability: float = 0.5
    start: float = 0.25
    end: float = 1.0
    k: float = 1000.0


@dataclass
class ObjectiveSection:
    """noise, scheduled_sampling, language_tags and label_smoothing belong to swcm; chat_template to layer_fusion.

    alpha: exponent of the language sampling (default 0.3 for swcm, 1 for the others). mix: weight of each objective
    (denoising, translation, task, labels), equal where it is not given.
    chat_template: put the prompt through the LLM tokenizer's chat template (as the user's turn, the answer following).
    """

    alpha: float | None = None
    mix: dict[str, float] = field(default_factory=dict)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    language_tags: LanguageTags = field(default_factory=LanguageTags)
    scheduled_sampling: ScheduledSampling = field(default_factory=ScheduledSampling)
    label_smoothing: float = 0.0
    chat_template: bool = False


@dataclass
class OptimizerSection:
    """AdamW. Defaults: swcm lr 1e-4, betas (0.9, 0.999), weight decay 0.01; layer_fusion lr 3e-5, betas (0.8, 0.999),
    weight decay 3e-7; classifier lr 5e-5, betas (0.9, 0.999), weight decay 0.01."""

    learning_rate: float | None = None
    mixer_learning_rate: float | None = None  # of the layer mixer, where it is to differ
    beta1: float | None = None
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float | None = None
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05  # part of the run
    clip: float = 1.0  # gradient norm; 0: none


@dataclass
class RunSection:
    """The run itself. With max_seconds, training stops (and the learning rate arrives at its end) when the time is up.

    resume: `auto` continues from the last whole checkpoint of output_dir if there is one; `never` starts anew in an
    output_dir without checkpoints; anything else is the path of a checkpoint.
    """

    output_dir: str
    seed: int = 0
    epochs: float = 1.0
    max_steps: int | None = None  # optimizer steps; overrides epochs
    max_seconds: float | None = None
    batch_size: int = 16  # a device
    gradient_accumulation: int = 1
    bf16: bool = False
    gradient_checkpointing: bool = False
    log_every: int = 10
    eval_every: int | None = None  # steps; None: only at the end
    save_every: int | None = None  # steps; None: no checkpoints, only the finished model
    keep_checkpoints: int = 2
    keep_best: bool = False  # the finished model is the checkpoint with the lowest dev loss
    resume: str = "auto"
    workers: int = 0
    device: Literal["auto", "cpu"] = "auto"
    tensorboard: bool = True
    progress: bool = True  # show the data report, progress bars and losses


@dataclass
class EvaluationSection:
    """What `lrengine evaluate --recipe` does with the finished model; training does not read it.

    baselines: of majority, tfidf, linear (classification), copy, nearest (text); all of the task's if not given.
    resamples: of the bootstrap; seed: of its draws. batch_size, max_new_tokens, num_beams: as in `lrengine evaluate`.
    """

    data: list[SourceConfig]
    task: Literal["translation", "generation", "classification"]
    baselines: list[str] | None = None
    resamples: int = 1000
    seed: int = 0
    batch_size: int = 16
    max_new_tokens: int = 128
    num_beams: int = 1


@dataclass
class TrainConfig:
    model: ModelSection
    data: DataSection
    run: RunSection
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    evaluation: EvaluationSection | None = None

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainConfig:
        """Parse and check a YAML file. Relative paths in it are relative to the working directory."""
        return cls.from_dict(load_yaml(path), str(path))

    @classmethod
    def from_dict(cls, document: dict[str, Any], where: str = "config") -> TrainConfig:
        return parse(cls, document, where)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def resolved(self) -> TrainConfig:
        """A copy with the model type's defaults filled in, checked. Raises DataError."""
        kind = self.model.type
        rate, beta1, decay, alpha, length = {
            "swcm": (1e-4, 0.9, 0.01, 0.3, 256),
            "layer_fusion": (3e-5, 0.8, 3e-7, 1.0, 512),
            "layer_fusion_classifier": (5e-5, 0.9, 0.01, 1.0, 256),
        }[kind]
        copy = dataclasses.replace(
            self,
            model=_filled(self.model, freeze_encoder=kind == "layer_fusion"),
            data=_filled(self.data, max_source_length=length),
            optimizer=_filled(self.optimizer, learning_rate=rate, beta1=beta1, weight_decay=decay),
            objective=_filled(self.objective, alpha=alpha),
        )
        copy._check()
        return copy

    def _check(self) -> None:
        _check_model(self.model)
        _check_ranges(self)
        kinds = {source.kind for source in [*self.data.train, *self.data.dev]}
        allowed = {
            "swcm": {"parallel", "pairs", "text"},
            "layer_fusion": {"pairs", "parallel"},
            "layer_fusion_classifier": {"labels"},
        }[self.model.type]
        for kind in sorted(kinds - allowed):
            raise DataError(
                f"data: a {self.model.type} model cannot be trained on '{kind}' sources, only {sorted(allowed)}"
            )
        if not self.data.train:
            raise DataError("data.train: no source given")
        if self.run.keep_best and not (
            self.data.dev and self.run.eval_every and self.run.save_every == self.run.eval_every
        ):
            raise DataError("run.keep_best: needs data.dev and eval_every equal to save_every")
        if self.model.keep_encoder_states and (self.model.type == "swcm" or not self.model.freeze_encoder):
            raise DataError("model.keep_encoder_states: needs a fusion or classifier model and freeze_encoder: true")
        if self.optimizer.mixer_learning_rate is not None and self.model.type == "swcm":
            raise DataError("optimizer.mixer_learning_rate: a swcm model has no mixer")
        _check_belonging(self.objective, self.model.type)
        for name in self.objective.mix:
            if name not in OBJECTIVES:
                raise DataError(f"objective.mix: unknown objective '{name}'{nearest(name, OBJECTIVES)}")


def _filled(section: Any, **defaults: Any) -> Any:
    missing = {name: value for name, value in defaults.items() if getattr(section, name) is None}
    return dataclasses.replace(section, **missing)


def _check_model(model: ModelSection) -> None:
    if model.path is not None:
        if model.encoder is not None or model.llm is not None:
            raise DataError("model: give either 'path' or 'encoder'/'llm', not both")
        if model.options:
            raise DataError("model.options: a model that continues from 'path' keeps its own")
        return
    if model.encoder is None:
        raise DataError("model: needs 'encoder' (a directory, a hub name or a config) or 'path'")
    if model.type == "layer_fusion" and model.llm is None:
        raise DataError("model.llm: a layer_fusion model needs one (a directory, a hub name or a config)")
    for field_name, part, tokenizer in (
        ("model.tokenizer", model.encoder, model.tokenizer),
        ("model.llm_tokenizer", model.llm, model.llm_tokenizer),
    ):
        if isinstance(part, dict) and tokenizer is None:
            raise DataError(
                f"{field_name}: a model with random weights has none of its own; give a directory or vocab_size"
            )


def _check_belonging(objective: ObjectiveSection, kind: str) -> None:
    """What a model type has no use for is an error, not ignored."""
    default = ObjectiveSection()
    owners = {
        "noise": "swcm",
        "scheduled_sampling": "swcm",
        "language_tags": "swcm",
        "label_smoothing": "swcm",
        "chat_template": "layer_fusion",
    }
    for name, owner in owners.items():
        if kind != owner and getattr(objective, name) != getattr(default, name):
            raise DataError(f"objective.{name}: belongs to {owner} models, not to {kind}")


def _check_ranges(config: TrainConfig) -> None:
    noise, objective, run = config.objective.noise, config.objective, config.run
    sampling = objective.scheduled_sampling
    limits: list[tuple[str, float | None, float, float]] = [
        ("data.max_source_length", config.data.max_source_length, 2, 1 << 20),
        ("data.max_target_length", config.data.max_target_length, 2, 1 << 20),
        ("data.max_prompt_length", config.data.max_prompt_length, 1, 1 << 20),
        ("data.min_script_share", config.data.min_script_share, 0, 1),
        ("data.max_length_ratio", config.data.max_length_ratio, 1, 1e6),
        ("objective.alpha", objective.alpha, 0, 10),
        ("objective.noise.mask_ratio", noise.mask_ratio, 0, 0.95),
        ("objective.noise.poisson_lambda", noise.poisson_lambda, 0.1, 100),
        ("objective.label_smoothing", objective.label_smoothing, 0, 0.9),
        ("objective.scheduled_sampling.max_probability", sampling.max_probability, 0, 1),
        ("objective.scheduled_sampling.start", sampling.start, 0, 1),
        ("objective.scheduled_sampling.end", sampling.end, sampling.start, 1),
        ("objective.scheduled_sampling.k", sampling.k, 1, 1e9),
        ("optimizer.learning_rate", config.optimizer.learning_rate, 0, 10),
        ("optimizer.mixer_learning_rate", config.optimizer.mixer_learning_rate, 0, 10),
        ("optimizer.beta1", config.optimizer.beta1, 0, 0.99999),
        ("optimizer.beta2", config.optimizer.beta2, 0, 0.9999999),
        ("optimizer.eps", config.optimizer.eps, 0, 1),
        ("optimizer.weight_decay", config.optimizer.weight_decay, 0, 10),
        ("optimizer.warmup", config.optimizer.warmup, 0, 1),
        ("optimizer.clip", config.optimizer.clip, 0, 1e9),
        ("run.epochs", run.epochs, 1e-6, 1e6),
        ("run.max_steps", run.max_steps, 1, 1 << 40),
        ("run.max_seconds", run.max_seconds, 0.001, 1e9),
        ("run.batch_size", run.batch_size, 1, 1 << 20),
        ("run.gradient_accumulation", run.gradient_accumulation, 1, 1 << 20),
        ("run.log_every", run.log_every, 1, 1 << 40),
        ("run.eval_every", run.eval_every, 1, 1 << 40),
        ("run.save_every", run.save_every, 1, 1 << 40),
        ("run.keep_checkpoints", run.keep_checkpoints, 1, 1 << 20),
        ("run.workers", run.workers, 0, 256),
        ("run.seed", run.seed, 0, (1 << 32) - 1),
    ]
    limits += [(f"objective.mix.{name}", weight, 0, 1e9) for name, weight in objective.mix.items()]
    for name, value, low, high in limits:
        if value is not None and not low <= value <= high:
            raise DataError(f"{name}: {value} is not in [{low:g}, {high:g}]")
    if objective.mix and not any(objective.mix.values()):
        raise DataError("objective.mix: all weights are zero")
