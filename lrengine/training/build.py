"""From `ModelSection` to a model and its tokenizers: trained weights from a directory or hub name, or random ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lrengine.data.tokenization import load_tokenizer, train_tokenizer
from lrengine.errors import DataError
from lrengine.training.config import LanguageTags, ModelSection, TokenizerTraining
from lrengine.training.model_directory import Parts


def choose_tokenizer(
    choice: str | TokenizerTraining | None,
    beside: str | dict[str, Any] | None,
    saved: Path | None,
    texts: Iterable[str],
    extra_tokens: Sequence[str] = (),
) -> Any:
    """The tokenizer in `saved` (a checkpoint being resumed) if given; else the chosen one, trained on `texts` if the
    choice says so; else the one `beside` the weights. `extra_tokens` are added to it."""
    if saved is not None:
        return load_tokenizer(str(saved))
    if isinstance(choice, TokenizerTraining):
        return train_tokenizer(texts, choice.vocab_size, extra_tokens)
    tokenizer = load_tokenizer(choice if choice is not None else str(beside))
    missing = [token for token in extra_tokens if token not in tokenizer.get_vocab()]
    if missing:
        tokenizer.add_special_tokens({"additional_special_tokens": missing})
    return tokenizer


def source_prefixes(tags: LanguageTags, languages: Iterable[str]) -> dict[str, str]:
    """Target language -> what stands before the source text. Raises DataError for a template without `{language}`."""
    if tags.style == "none":
        return {}
    if "{language}" not in tags.template:
        raise DataError(f"objective.language_tags.template: '{tags.template}' has no {{language}}")
    return {language: tags.template.replace("{language}", language) for language in languages}


def build_swcm(section: ModelSection, tokenizer: Any, prefixes: dict[str, str]) -> Parts:
    """SWCM from `path`, or from an encoder. The word embedding grows with tokens added to the tokenizer."""
    from lrengine.models import SwcmForConditionalGeneration

    if section.path is not None:
        model = SwcmForConditionalGeneration.from_pretrained(section.path, dtype="float32")
        if model.config.vocab_size < len(tokenizer):
            raise DataError(
                f"model.path: {section.path} has {model.config.vocab_size} embeddings, its tokenizer with the tags "
                f"{len(tokenizer)}; use language_tags.style: text"
            )
        prefixes = {**(getattr(model.config, "source_prefixes", None) or {}), **prefixes}
    else:
        encoder = _encoder(section, tokenizer)
        model = _checked(
            "model.options",
            lambda: SwcmForConditionalGeneration.from_encoder(encoder, tokenizer=tokenizer, **section.options),
        )
    model.config.source_prefixes = prefixes
    model.encoder.requires_grad_(not section.freeze_encoder)
    return Parts(model, tokenizer)


def build_fusion(section: ModelSection, tokenizer: Any, llm_tokenizer: Any) -> Parts:
    """Layer fusion from `path`, or from an encoder and an LLM, each frozen unless the config says otherwise."""
    from lrengine.models import LayerFusionForCausalLM

    if section.path is not None:
        model = LayerFusionForCausalLM.from_pretrained(section.path, dtype="float32")
    else:
        encoder = _encoder(section, tokenizer)
        llm = _llm(section, llm_tokenizer)
        options = section.options
        model = _checked("model.options", lambda: LayerFusionForCausalLM.from_pretrained_parts(encoder, llm, **options))
    model.config.freeze_llm = section.freeze_llm
    model.llm.requires_grad_(not section.freeze_llm)
    _freeze_encoder(model, section)
    return Parts(model, tokenizer, llm_tokenizer)


def build_classifier(section: ModelSection, tokenizer: Any, labels: Sequence[str]) -> Parts:
    """Encoder, mixer, pooling and a head over `labels` (those of the training data, sorted); from `path` the labels
    are the model's own."""
    from lrengine.models import LayerFusionForSequenceClassification

    if len(labels) < 2:
        raise DataError(f"data.train: only one label, '{labels[0]}', in all examples: nothing to learn")
    if section.path is not None:
        model = LayerFusionForSequenceClassification.from_pretrained(section.path, dtype="float32")
    else:
        encoder = _encoder(section, tokenizer)
        options = section.options
        model = _checked(
            "model.options",
            lambda: LayerFusionForSequenceClassification.from_encoder(encoder, labels, **options),
        )
    _freeze_encoder(model, section)
    return Parts(model, tokenizer)


def label_ids(model: Any) -> dict[str, int]:
    return {name: int(number) for number, name in model.config.id2label.items()}


def _encoder(section: ModelSection, tokenizer: Any) -> Any:
    from lrengine.models.encoders import build_encoder, load_encoder

    if isinstance(section.encoder, dict):
        config = _checked("model.encoder", lambda: _hf_config(section.encoder, tokenizer, "model.encoder"))
        encoder = _checked("model.encoder", lambda: build_encoder(config))
    else:
        name = str(section.encoder)
        encoder = _checked(f"model.encoder: {name}", lambda: load_encoder(name, "float32"))
    if len(tokenizer) > encoder.config.vocab_size:
        encoder.resize_token_embeddings(len(tokenizer))
    return encoder


def _llm(section: ModelSection, tokenizer: Any) -> Any:
    from transformers import AutoModelForCausalLM

    if isinstance(section.llm, dict):
        config = _checked("model.llm", lambda: _hf_config(section.llm, tokenizer, "model.llm"))
        return _checked("model.llm", lambda: AutoModelForCausalLM.from_config(config))
    name = str(section.llm)
    return _checked(f"model.llm: {name}", lambda: AutoModelForCausalLM.from_pretrained(name, dtype="float32"))


def _hf_config(fields: Any, tokenizer: Any, where: str) -> Any:
    """A config with the tokenizer's size and special ids, unless `fields` has its own."""
    from transformers import AutoConfig

    given = dict(fields)
    model_type = given.pop("model_type", None)
    if model_type is None:
        raise DataError(f"{where}: a config needs 'model_type'")
    given.setdefault("vocab_size", len(tokenizer))
    for name in ("bos_token_id", "pad_token_id", "eos_token_id"):
        given.setdefault(name, getattr(tokenizer, name))
    if given["vocab_size"] < len(tokenizer):
        raise DataError(f"{where}: vocab_size {given['vocab_size']} is smaller than the tokenizer's {len(tokenizer)}")
    return AutoConfig.for_model(model_type, **given)


def _freeze_encoder(model: Any, section: ModelSection) -> None:
    """As the models do it themselves: by the config, which train() follows."""
    from lrengine.models.kept_states import KeptStates

    frozen = bool(section.freeze_encoder)
    model.kept_states = KeptStates() if section.keep_encoder_states else None
    model.config.freeze_encoder = frozen
    model.encoder.requires_grad_(not frozen)
    model.train()


def _checked(where: str, make: Any) -> Any:
    """`make()`, with whatever it raises for wrong values turned into a DataError that says where they stand."""
    try:
        return make()
    except DataError:
        raise
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise DataError(f"{where}: {error}") from error
