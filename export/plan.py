"""Which graphs a model becomes, and what the manifest says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lrengine.errors import InvalidRequestError, UnsupportedModelError
from lrengine.export.classifier import FusedEncoder, build_classifier
from lrengine.export.encoders import max_source
from lrengine.export.graph import Graph
from lrengine.export.llm import Llm
from lrengine.export.manifest import Facts
from lrengine.export.options import ExportOptions, Profile
from lrengine.export.prefix import build_prefix, prefix_tokens
from lrengine.export.swcm import Swcm

Build = Callable[[Graph], None]


@dataclass(frozen=True)
class Plan:
    """builds: graphs by name; fixed: the dimensions that a static export knows, by symbol; fixed_of: those that one
    graph has otherwise."""

    facts: Facts
    builds: dict[str, Build]
    fixed: dict[str, int] = field(default_factory=dict)
    fixed_of: dict[str, dict[str, int]] = field(default_factory=dict)

    def fixed_in(self, graph: str) -> dict[str, int]:
        return self.fixed | self.fixed_of.get(graph, {})


def plan_export(config: dict[str, Any], options: ExportOptions) -> Plan:
    """Raises UnsupportedModelError, InvalidRequestError for a profile that the model has no positions for, and KeyError
    for a field that config.json lacks."""
    plans = {"swcm": _swcm, "layer_fusion": _layer_fusion, "layer_fusion_classifier": _classifier}
    kind = config.get("model_type")
    if kind not in plans:
        raise UnsupportedModelError(f"model_type '{kind}' cannot be exported: expected one of {', '.join(plans)}")
    longest = max_source(config["encoder"])
    if options.static and longest is not None and options.static.source > longest:
        raise InvalidRequestError(f"static: source is {options.static.source}, the model's positions end at {longest}")
    return plans[kind](config, options)


def _swcm(config: dict[str, Any], options: ExportOptions) -> Plan:
    swcm, profile = Swcm(config), options.static
    capacity = _capacity(profile, 0, swcm.max_target)
    shape = _cache_shape(len(swcm.layers()), swcm.heads, swcm.heads, swcm.head_dim, options)
    cache = {**shape, **_cache_size(profile, capacity), "cross": shape}
    facts = Facts(
        config["vocab_size"], max_source(swcm.encoder), capacity or swcm.max_target, cache, _source_pad(config)
    )
    builds: dict[str, Build] = {"encoder": swcm.build_encoder, "decoder_with_past": swcm.build_decoder_with_past}
    if profile is None:
        builds["decoder"] = swcm.build_decoder
    return Plan(facts, builds, _fixed(profile, capacity))


def _layer_fusion(config: dict[str, Any], options: ExportOptions) -> Plan:
    llm, profile = Llm(config["llm"]), options.static
    prefix = prefix_tokens(config, profile.source if profile else None) or 0
    capacity = _capacity(profile, prefix, llm.max_length)
    shape = _cache_shape(llm.layers, llm.heads, llm.kv_heads, llm.head_dim, options)
    size = _cache_size(profile, capacity, prefix)
    cache = {**shape, **size, "cross": None}
    facts = Facts(
        config["llm"]["vocab_size"],
        max_source(config["encoder"]),
        capacity or llm.max_length,
        cache,
        _source_pad(config),
    )
    builds: dict[str, Build] = {
        "prefix": partial(build_prefix, config=config),
        "llm_with_past": llm.build,
        "encode": FusedEncoder(config).build_encode,
    }
    fixed = _fixed(profile, capacity)
    if profile is None:
        return Plan(facts, builds, fixed)
    rows, batch = profile.batch * profile.beams, profile.batch
    fixed |= {"length": 1, "wanted": rows, "slots": size["slots"] or 0}
    builds["llm_prefill"] = llm.build
    # A slot of nothing for its past: not every runtime takes empty tensors.
    first = {"rows": batch, "length": prefix, "wanted": batch, "past": 1}
    return Plan(facts, builds, fixed, {"llm_prefill": first})


def _classifier(config: dict[str, Any], options: ExportOptions) -> Plan:
    encoder = FusedEncoder(config)
    facts = Facts(config["encoder"]["vocab_size"], max_source(config["encoder"]), None, None, _source_pad(config))
    builds: dict[str, Build] = {
        "classifier": partial(build_classifier, encoder=encoder),
        "encode": encoder.build_encode,
    }
    return Plan(facts, builds, _fixed(options.static, None))


def _capacity(profile: Profile | None, prefix: int, longest: int) -> int | None:
    """Tokens of a row that a static cache holds."""
    if profile is None:
        return None
    if prefix + profile.target > longest:
        raise InvalidRequestError(
            f"static: {prefix} tokens of the source and {profile.target} of the target, "
            f"the model's positions end at {longest}"
        )
    return prefix + profile.target


def _cache_shape(layers: int, heads: int, kv_heads: int, head_dim: int, options: ExportOptions) -> dict[str, Any]:
    kind = "float32" if options.dtype == "int8" else options.dtype
    return {"layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "type": kind}


def _cache_size(profile: Profile | None, capacity: int | None, prefilled: int = 0) -> dict[str, int | None]:
    """Both None where they vary. prefilled: tokens of every source that a prefill writes, padding included."""
    if profile is None or capacity is None:
        return {"slots": None, "capacity": None}
    return {"slots": profile.batch * (profile.beams * capacity + prefilled), "capacity": capacity}


def _fixed(profile: Profile | None, capacity: int | None) -> dict[str, int]:
    if profile is None:
        return {}
    fixed = {"batch": profile.batch, "source": profile.source}
    if capacity is not None:
        rows = profile.batch * profile.beams
        fixed |= {"rows": rows, "past": capacity, "slots": rows * capacity}
    return fixed


def _source_pad(config: dict[str, Any]) -> int:
    """Any id does, since padding is masked; the encoder's own where it has one."""
    pad = config["encoder"].get("pad_token_id")
    return pad if isinstance(pad, int) else 0
