"""What the two published forms of layer fusion have in common: an encoder, an LLM, token ids and tokenizers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from lrengine.convert.configs import read_config, read_json
from lrengine.convert.options import ConvertOptions
from lrengine.convert.output import ConvertedModel
from lrengine.convert.stored_tensor import SourceTensors, StoredTensor
from lrengine.convert.tokenizer_files import has_tokenizer
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models import LayerFusionConfig, LayerFusionForCausalLM
from lrengine.models.encoders import ENCODER_TYPES
from lrengine.models.fusion_config import LLM_TYPES

_T5_TYPES = ("t5", "mt5", "umt5")
_LLM_EMBEDDING = "llm.model.embed_tokens.weight"


@dataclass
class FusionParts:
    """Tensors under our names, and copies that must equal one of them."""

    encoder_config: PretrainedConfig
    llm_config: PretrainedConfig
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    aliases: list[tuple[StoredTensor, str]] = field(default_factory=list)

    @classmethod
    def read(cls, options: ConvertOptions) -> FusionParts:
        """With the sub-configs from the local files that `options` name."""
        encoder = read_config(options.encoder_config, "--encoder-config")
        llm = read_config(options.llm_config, "--llm-config")
        for config, path, known in (
            (encoder, options.encoder_config, ENCODER_TYPES),
            (llm, options.llm_config, LLM_TYPES),
        ):
            if config.model_type not in known:
                found = f"found model_type {config.model_type!r}, expected one of {', '.join(known)}"
                raise UnsupportedModelError(f"{path}: {found}")
        return cls(encoder, llm)

    def add(self, name: str, tensor: StoredTensor) -> None:
        """Under our name; a second tensor for the same name must be its equal."""
        if name in self.tensors:
            self.aliases.append((tensor, name))
        else:
            self.tensors[name] = tensor

    def add_encoder(self, source: SourceTensors, prefix: str) -> None:
        """The tensors of the encoder below `prefix`; of T5 either the encoder model or its bare stack."""
        unused = r"(pooler\..*|.*position_ids|.*token_type_ids|embed_positions\.weights)"
        source.drop(re.escape(prefix) + unused)
        found = source.take_prefix(prefix)
        is_t5 = self.encoder_config.model_type in _T5_TYPES
        is_stack = "final_layer_norm.weight" in found
        for name, tensor in found.items():
            if is_t5 and is_stack and not name.startswith("shared."):
                name = f"encoder.{name}"
            if is_t5 and name == "encoder.embed_tokens.weight":
                name = "shared.weight"
            self.add(f"encoder.{name}", tensor)

    def add_llm(self, source: SourceTensors, body: str, head: str, embedding_copy: str) -> None:
        """The LLM's layers below `body`, its output projection and one more name that its word embedding may have."""
        source.drop(re.escape(body) + r".*rotary_emb\.inv_freq")
        for name, tensor in source.take_prefix(body).items():
            self.add(f"llm.model.{name}", tensor)
        if embedding_copy in source:
            self.add(_LLM_EMBEDDING, source.take(embedding_copy))
        if self.llm_config.tie_word_embeddings:
            if head in source:
                self.add(_LLM_EMBEDDING, source.take(head))
        else:
            self.add("llm.lm_head.weight", source.take(head))

    def finish(
        self, source: SourceTensors, options: ConvertOptions, mixer: dict[str, Any], mapper: dict[str, Any]
    ) -> ConvertedModel:
        """Raises ModelFileError when tensors are left over or an id is unknown."""
        source.check_all_used()
        ids = _token_ids(self.llm_config, options)
        try:
            config = LayerFusionConfig(
                encoder=self.encoder_config,
                llm=self.llm_config,
                mixer=mixer,
                mapper=mapper,
                **ids,
            )
        except ValueError as error:
            raise UnsupportedModelError(f"{source.where}: {error}") from error
        tokenizers = _tokenizers(source.where, options)
        return ConvertedModel(config, LayerFusionForCausalLM, self.tensors, self.aliases, tokenizers)


def _token_ids(llm: PretrainedConfig, options: ConvertOptions) -> dict[str, Any]:
    """From the options, else from generation_config.json beside the LLM's config, else from that config."""
    fields: dict[str, Any] = {}
    if options.llm_config is not None:
        folder = options.llm_config if options.llm_config.is_dir() else options.llm_config.parent
        if (folder / "generation_config.json").is_file():
            fields = read_json(folder / "generation_config.json")
    ids: dict[str, Any] = {}
    for name, given in (("bos", options.bos_id), ("eos", options.eos_id), ("pad", options.pad_id)):
        key = f"{name}_token_id"
        value = given if given is not None else fields.get(key, getattr(llm, key, None))
        ids[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
    if ids["eos_token_id"] is None:
        raise ModelFileError("no token ends an output: the LLM's configs name none; give --eos-id")
    return ids


def _tokenizers(where: Path, options: ConvertOptions) -> dict[str, Path]:
    """Of the source text: as told, else beside the checkpoint, else beside the encoder's config. Of the LLM alike."""
    beside = where if where.is_dir() else None
    found: dict[str, Path] = {}
    for folder, given, places in (
        ("", options.tokenizer, (beside, options.encoder_config)),
        ("llm", options.llm_tokenizer, (options.llm_config,)),
    ):
        place = given or next((path for path in places if path is not None and has_tokenizer(path)), None)
        if place is not None:
            found[folder] = place
    return found
