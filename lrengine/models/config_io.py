"""config.json as a contract: every field spelled out, whatever library version wrote it.

transformers drops fields that equal its own defaults, and its defaults and spellings change between versions
(RoPE moved from `rope_theta` + `rope_scaling` to `rope_parameters` in 5.0). A file written here holds complete
sub-model configs and both spellings, so that 4.57, 5.x and the C++ engine read the same numbers.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import AutoConfig, GenerationConfig, PretrainedConfig

from lrengine.errors import UnsupportedModelError

# Sampling and beam defaults are a request's options, not the model's; 4.x writes them into model configs, 5.x refuses
# to write them there.
_KEPT_TOKEN_FIELDS = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "use_cache"}
_REQUEST_FIELDS = set(GenerationConfig().to_dict()) - _KEPT_TOKEN_FIELDS - {"transformers_version"}
_RUNTIME_FIELDS = {"_name_or_path", "torchscript", "pruned_heads", "output_attentions", "output_hidden_states"}


def complete_dict(config: PretrainedConfig) -> dict[str, Any]:
    """`config` with all its fields and those of its sub-configs; RoPE in both spellings."""
    fields = {
        name: value
        for name, value in PretrainedConfig.to_dict(config).items()
        if name not in _REQUEST_FIELDS and name not in _RUNTIME_FIELDS
    }
    for name in getattr(config, "sub_configs", {}):
        fields[name] = complete_dict(getattr(config, name))
        for outer_field in ("transformers_version", "dtype"):  # one of each a directory
            fields[name].pop(outer_field, None)
    if "rope_theta" in fields or "rope_parameters" in fields:
        fields.update(_rope_in_both_spellings(fields))
    return fields


def require_floats(config: PretrainedConfig) -> None:
    """Raises UnsupportedModelError for a quantised directory's config: PyTorch would take its levels for numbers."""
    quantization = getattr(config, "quantization", None)
    if quantization is not None:
        raise UnsupportedModelError(
            f"the model is quantised ({quantization}): lrengine.Engine opens it as it is, PyTorch after "
            "`lrengine quantize DIR NEW --dtype float32`"
        )


def sub_config(value: PretrainedConfig | dict[str, Any] | None, field: str) -> PretrainedConfig:
    """A sub-model's config from what config.json or a caller holds. Raises ValueError naming `field`."""
    if isinstance(value, PretrainedConfig):
        return copy.deepcopy(value)  # the outer config sets fields of its sub-configs; `value` may be a live model's
    if not isinstance(value, dict) or "model_type" not in value:
        raise ValueError(
            f"config field '{field}' must be a complete Hugging Face config with a model_type, not {value!r}"
        )
    fields = {name: copy.deepcopy(item) for name, item in value.items() if name != "model_type"}
    return AutoConfig.for_model(value["model_type"], **fields)


def _rope_in_both_spellings(fields: dict[str, Any]) -> dict[str, Any]:
    """From either spelling: {"rope_theta", "rope_scaling" (None when unscaled), "rope_parameters"}.
    4.x keeps the truth in rope_theta; 5.x has no such field, so its presence tells which spelling is current."""
    if fields.get("rope_theta") is not None:
        theta, scaling = fields["rope_theta"], dict(fields.get("rope_scaling") or {})
    else:
        scaling = dict(fields.get("rope_parameters") or {})
        theta = scaling.get("rope_theta", 10000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    scaling = {name: item for name, item in scaling.items() if name not in ("rope_type", "type", "rope_theta")}
    return {
        "rope_theta": theta,
        "rope_scaling": None if kind == "default" else {"rope_type": kind, **scaling},
        "rope_parameters": {"rope_type": kind, "rope_theta": theta, **scaling},
    }
