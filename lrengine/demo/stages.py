"""The demo's training stages. Encoder and LLM are made by pretrain.py, the three models by `lrengine.training`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from lrengine.data.tokenization import TextEncoder, load_tokenizer, save_tokenizer, train_tokenizer
from lrengine.demo.align import AlignmentBatches, AlignmentModel, SpecialIds, small_encoder
from lrengine.demo.given import LOG
from lrengine.demo.language_model import TextBatches, small_llm
from lrengine.demo.pretrain import Budget, LossTicker, pretrain
from lrengine.demo.recipe import Recipe
from lrengine.demo.results import Stage
from lrengine.demo.sample import EMOJI_LANGUAGES, PIVOT, TRANSLATED, Sample
from lrengine.training import TrainConfig, train

Tick = Callable[[str], None]
TAG = "<2{language}> "  # what tells the translator which language to write
LONGEST_TRAINED = 60  # characters of a string: short ones teach more in the same time
DEV_ROWS = 25  # of the dev split: each row is six examples, and the time counts as training
LABEL_MARK = " ="  # what stands between a name and its group in the LLM's training text


MODELS = ("encoder", "llm", "swcm", "fusion", "classifier")


@dataclass(frozen=True)
class Places:
    """Where everything lies. `models/NAME` are the model directories; encoder and llm may be given ones."""

    sample: Path
    out: Path

    @property
    def models(self) -> Path:
        return self.out / "models"

    @property
    def log(self) -> Path:
        return self.out / LOG

    def clear(self) -> None:
        """Forget the models of an earlier run."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.log.write_text("", encoding="utf-8")
        for name in MODELS:
            shutil.rmtree(self.models / name, ignore_errors=True)


class Workshop:
    """One method a training stage. Each needs the files of those before it and nothing of their memory, so that stages
    can run in processes of their own."""

    def __init__(self, places: Places, recipe: Recipe, tick: Tick) -> None:
        self.sample = Sample(places.sample)
        self.recipe = recipe
        self.models = places.models
        self.log = places.log
        self.tick = tick
        self.encoder = recipe.encoder or str(self.models / "encoder")
        self.llm = recipe.llm or str(self.models / "llm")
        torch.manual_seed(recipe.seed)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    # ------------------------------------------------------------------------------------------ own encoder, own LLM

    def _make_tokenizer(self) -> None:
        """A Unigram tokenizer of the demo's languages, XLM-R's ids, a piece for every language tag."""
        groups = self.sample.groups("train")
        texts = [text for group in groups for code, text in group.texts.items() if code in EMOJI_LANGUAGES]
        tags = [TAG.format(language=language).strip() for language in (PIVOT, *TRANSLATED)]
        save_tokenizer(train_tokenizer(texts, self.recipe.vocabulary, tags), Path(self.encoder))

    def make_encoder(self) -> Stage:
        """The small encoder and its tokenizer, pretrained so that its languages align."""
        self._make_tokenizer()
        tokenizer = load_tokenizer(self.encoder)
        text = TextEncoder.of(tokenizer)
        groups = [
            {code: text.bare(value) for code, value in group.texts.items() if code in EMOJI_LANGUAGES}
            for group in self.sample.groups("train")
        ]
        groups = [group for group in groups if len(group) > 1]
        ids = SpecialIds(
            tokenizer.bos_token_id,
            tokenizer.pad_token_id,
            tokenizer.eos_token_id,
            tokenizer.mask_token_id,
            first_piece=4,
        )
        encoder = small_encoder(len(tokenizer), self.recipe.encoder_width, self.recipe.encoder_layers)
        model = AlignmentModel(encoder)
        batches = AlignmentBatches(groups, len(tokenizer), ids, self.recipe.batch["encoder"])
        done = pretrain(model, batches.make, self._budget("encoder"), 2e-3, self.models, self.tick)
        encoder.eval().save_pretrained(self.encoder)
        return Stage(
            "encoder", "Encoder", "translation ranking and masked translation LM (TLM)",
            f"{sum(map(len, groups)):,} texts in {len(EMOJI_LANGUAGES)} languages, {len(groups):,} meanings",
            steps=done.steps, trained_parameters=count_parameters(encoder), loss=done.loss,
        )  # fmt: skip

    def make_llm(self) -> Stage:
        """The small English LLM: English training texts, and names with their group. Frozen afterwards."""
        plain = [group.texts["en"] for group in self.sample.groups("train") if "en" in group.texts]
        labelled = [f"{name.text}{LABEL_MARK} {name.label}" for name in self.sample.emoji_names("en", "train")]
        tokenizer = train_tokenizer([*plain, *labelled], self.recipe.llm_vocabulary)
        save_tokenizer(tokenizer, Path(self.llm))
        text = TextEncoder.of(tokenizer)
        rows = [[tokenizer.bos_token_id, *text.bare(line)[:80], tokenizer.eos_token_id] for line in [*plain, *labelled]]
        model = small_llm(len(tokenizer), self.recipe.llm_width, self.recipe.llm_layers)
        batches = TextBatches(rows, tokenizer.pad_token_id, self.recipe.batch["llm"])
        done = pretrain(model, batches.make, self._budget("llm"), 2e-3, self.models, self.tick)
        model.eval().save_pretrained(self.llm)
        return Stage(
            "llm", "English LLM", "next token",
            f"{len(rows):,} English texts, {len(labelled):,} of them names with their group",
            steps=done.steps, trained_parameters=count_parameters(model), loss=done.loss,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ the three models

    def train_translator(self) -> Stage:
        """SWCM from the encoder: Chinese to and from the others, and denoising in all four languages."""
        interface = str(self.sample.directory / "ui.jsonl")
        languages = [PIVOT, *TRANSLATED]
        of_split = {"where": {"split": "train"}}
        parallel = {"kind": "parallel", "languages": languages, "pivot": PIVOT}
        plain = {"kind": "text", "languages": languages}
        config: dict[str, Any] = {
            "model": {
                "type": "swcm",
                "encoder": self.encoder,
                "options": {
                    "normal_layer_interval": 3,
                    "norm_style": "post",
                    "sharing": "init",
                    # An output of its own learns faster, and a small vocabulary can afford it.
                    "tie_word_embeddings": self.recipe.encoder is not None,
                },
            },
            "data": {
                "train": [
                    {**parallel, "path": interface, **of_split},
                    {**plain, "path": interface, **of_split},
                ],
                "dev": [{**parallel, "path": interface, "where": {"split": "dev"}, "limit": DEV_ROWS}],
                "max_source_length": 64,
                "max_target_length": 64,
                "max_characters": LONGEST_TRAINED,
            },
            "objective": {
                "alpha": 1.0,
                "mix": {"translation": 0.95, "denoising": 0.05},
                "language_tags": {"style": "token", "template": TAG},
            },
            "optimizer": {
                "learning_rate": 2e-3 if self.recipe.encoder is None else 5e-4,  # trained weights bear smaller steps
                "schedule": "linear",
                "weight_decay": 0.01,
                "beta2": 0.98,
            },
        }
        return self._train(config, "swcm", "SWCM translator", "translation and denoising")

    def train_fusion(self) -> Stage:
        """Layer fusion: mixer, mapper and boundary learn to make the frozen LLM write an English name's group."""
        config: dict[str, Any] = {
            "model": {
                "type": "layer_fusion",
                "encoder": self.encoder,
                "llm": self.llm,
                "options": {"mixer": "transformer", "mapper": "linear"},
            },
            "data": {"train": [self._names("train", "pairs")], "dev": [self._names("dev", "pairs")]},
            "optimizer": {"learning_rate": 1e-3, "schedule": "linear"},
        }
        return self._train(config, "fusion", "Layer fusion", "the label's tokens")

    def train_classifier(self) -> Stage:
        """Encoder, mixer, mean, linear head. A given encoder stays frozen: it knows more than these names can teach."""
        config: dict[str, Any] = {
            "model": {
                "type": "layer_fusion_classifier",
                "encoder": self.encoder,
                "options": {"mixer": "global"},
                "freeze_encoder": self.recipe.encoder is not None,
            },
            "data": {"train": [self._names("train", "labels")], "dev": [self._names("dev", "labels")]},
            "optimizer": {"learning_rate": 2e-3 if self.recipe.encoder is not None else 5e-4, "schedule": "linear"},
        }
        return self._train(config, "classifier", "Classifier", "cross-entropy on the label")

    def _names(self, split: str, kind: str) -> dict[str, Any]:
        """The English emoji names of a split as a source of `kind`."""
        path = str(self.sample.directory / "emoji" / "en.jsonl")
        columns = {"source": "text", "target": "label"} if kind == "pairs" else {"text": "text", "label": "label"}
        return {"kind": kind, "path": path, "where": {"split": split}, "name": "group", **columns}

    def _train(self, config: dict[str, Any], key: str, title: str, objective: str) -> Stage:
        budget = self._budget(key)
        config["run"] = {
            "output_dir": str(self.models / key), "seed": self.recipe.seed, "max_steps": budget.most_steps,
            "max_seconds": budget.seconds, "batch_size": self.recipe.batch_size(key), "log_every": 5,
            "resume": "never", "device": "cpu", "tensorboard": False, "progress": False,
        }  # fmt: skip
        with self.log.open("a", encoding="utf-8") as log, redirect_stdout(log):
            result = train(TrainConfig.from_dict(config), callbacks=[LossTicker(self.tick)])
        report = result.data_report
        kept = sum(sum(source.kept.values()) for source in report.sources if source.split == "train")
        held_out = [(int(entry["step"]), float(entry["eval_loss"])) for entry in result.eval_history]
        return Stage(
            key, title, objective, f"{kept:,} examples", steps=result.steps, loss=result.train_loss, held_out=held_out,
            trained_parameters=trained_parameters(self.models / key, self._frozen(key)),
        )  # fmt: skip

    def _frozen(self, key: str) -> tuple[str, ...]:
        """Parts that a stage leaves as they were: str.startswith takes them."""
        if key == "fusion":
            return ("encoder.", "llm.")
        return ("encoder.",) if key == "classifier" and self.recipe.encoder is not None else ()

    def _budget(self, stage: str) -> Budget:
        return Budget(self.recipe.seconds_of(stage), self.recipe.steps)


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def trained_parameters(directory: Path, frozen: tuple[str, ...]) -> int:
    """Elements of a saved model's tensors, but for those whose names begin with one of `frozen`."""
    from safetensors import safe_open

    total = 0
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(str(file), framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dict)
                if not name.startswith(frozen):
                    shape = tensors.get_slice(name).get_shape()
                    total += int(torch.Size(shape).numel())
    return total
