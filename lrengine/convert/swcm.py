"""The published SWCM checkpoint (MODELS.md, A): one state dict, its decoder made of nn.MultiheadAttention."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import PretrainedConfig

from lrengine.convert.configs import infer_xlm_roberta, read_config
from lrengine.convert.options import ConvertOptions
from lrengine.convert.output import ConvertedModel
from lrengine.convert.stored_tensor import SourceTensors, StoredTensor
from lrengine.convert.tokenizer_files import has_tokenizer
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.models import SwcmConfig, SwcmForConditionalGeneration

_EMBEDDING_COPIES = ("embed_layer.", "decoder.embed_layer.")
_FEED_FORWARDS = {"custom": ("ffn1", "ffn2"), "normal": ("ffn",)}
_NORMS = {"custom": 4, "normal": 2}


def is_swcm(source: SourceTensors) -> bool:
    return "decoder.last_linear.weight" in source


def convert_swcm(source: SourceTensors, options: ConvertOptions) -> ConvertedModel:
    """Raises ModelFileError for tensors that are missing, superfluous or unequal copies, UnsupportedModelError for an
    order of layers that no interval explains."""
    source.drop(r"(encoder\.embeddings|embed_layer|decoder\.embed_layer)\.(position_ids|token_type_ids)")
    source.drop(r"encoder\.pooler\..*")
    encoder = source.take_prefix("encoder.")
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    aliases = []
    for prefix in _EMBEDDING_COPIES:
        for name, tensor in source.take_prefix(prefix).items():
            original = f"encoder.embeddings.{name}"
            if original not in tensors:
                raise ModelFileError(f"{tensor}: is a copy of {original}, which is missing")
            aliases.append((tensor, original))
    kinds = _layer_kinds(source)
    for index, kind in enumerate(kinds):
        tensors |= _decoder_layer(source, f"decoder.layers.{index}.", kind)
    tensors["lm_head.weight"] = source.take("decoder.last_linear.weight")
    tensors["lm_head.bias"] = source.take("decoder.last_linear.bias")
    source.check_all_used()
    config = _config(_encoder_config(encoder, options, source.where), kinds, options, source.where)
    tokenizer = options.tokenizer or options.encoder_config
    tokenizers = {"": tokenizer} if tokenizer and (options.tokenizer or has_tokenizer(tokenizer)) else {}
    return ConvertedModel(config, SwcmForConditionalGeneration, tensors, aliases, tokenizers)


def _layer_kinds(source: SourceTensors) -> list[str]:
    """`custom` or `normal` for each decoder layer: custom ones have two feed-forward blocks."""
    indices = {int(match[1]) for name in source if (match := re.match(r"decoder\.layers\.(\d{1,6})\.", name))}
    if indices != set(range(len(indices))) or not indices:
        raise ModelFileError(
            f"{source.where}: decoder layers {sorted(indices)[:20]}, expected 0, 1, 2 ... without gaps"
        )
    return [
        "custom" if f"decoder.layers.{index}.ffn1.0.weight" in source else "normal" for index in range(len(indices))
    ]


def _decoder_layer(source: SourceTensors, prefix: str, kind: str) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for attention in ("self_attention", "cross_attention"):
        for part in ("weight", "bias"):
            stacked = source.take(f"{prefix}{attention}.in_proj_{part}")  # [3D, D] or [3D]: q, k, v
            for projection, tensor in zip(("q_proj", "k_proj", "v_proj"), stacked.row_parts(3), strict=True):
                tensors[f"{prefix}{attention}.{projection}.{part}"] = tensor
            tensors[f"{prefix}{attention}.out_proj.{part}"] = source.take(f"{prefix}{attention}.out_proj.{part}")
    for block in _FEED_FORWARDS[kind]:
        for ours, theirs in (("fc_in", "0"), ("fc_out", "2")):
            for part in ("weight", "bias"):
                tensors[f"{prefix}{block}.{ours}.{part}"] = source.take(f"{prefix}{block}.{theirs}.{part}")
    for number in range(1, _NORMS[kind] + 1):
        for part in ("weight", "bias"):
            tensors[f"{prefix}norm{number}.{part}"] = source.take(f"{prefix}norm{number}.{part}")
    return tensors


def _encoder_config(encoder: dict[str, StoredTensor], options: ConvertOptions, where: Path) -> PretrainedConfig:
    if options.encoder_config is None:
        return infer_xlm_roberta(encoder, where, options.encoder_heads)
    config = read_config(options.encoder_config, "--encoder-config")
    activation = getattr(config, "hidden_act", None)
    if activation != "gelu":
        # The published decoder has it hard-coded, and ours takes the encoder's.
        raise UnsupportedModelError(f"{options.encoder_config}: found hidden_act {activation!r}, expected 'gelu'")
    return config


def _config(encoder: PretrainedConfig, kinds: list[str], options: ConvertOptions, where: Path) -> SwcmConfig:
    interval, after_last = _interval(kinds, where)
    try:
        return SwcmConfig(
            encoder=encoder,
            normal_layer_interval=interval,
            normal_after_last=after_last,
            norm_style="published",
            sharing="init",
            tie_word_embeddings=False,
            output_bias=True,
            decoder_layer_norm_eps=1e-5,  # nn.LayerNorm's default, whatever the encoder's is
            bos_token_id=_first(options.bos_id, encoder.bos_token_id, 0),
            pad_token_id=_first(options.pad_id, encoder.pad_token_id, 1),
            eos_token_id=_one_or_list(options.eos_id, encoder.eos_token_id, 2),
        )
    except ValueError as error:
        raise UnsupportedModelError(f"{where}: {error}") from error


def _interval(kinds: list[str], where: Path) -> tuple[int, bool]:
    """X and whether a normal layer follows the last custom one."""
    customs = kinds.count("custom")
    interval = kinds.index("normal") if "normal" in kinds else 0
    for after_last in (False, True):
        expected: list[str] = []
        for done in range(1, customs + 1):
            expected.append("custom")
            if interval and done % interval == 0 and (done < customs or after_last):
                expected.append("normal")
        if expected == kinds:
            return interval, after_last
    order = "".join(kind[0] for kind in kinds)
    raise UnsupportedModelError(
        f"{where}: decoder layers {order} (c custom, n normal): no fixed interval between normals"
    )


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _one_or_list(given: list[int] | None, *defaults: int | None) -> int | list[int] | None:
    if given:
        return given[0] if len(given) == 1 else given
    return _first(*defaults)
