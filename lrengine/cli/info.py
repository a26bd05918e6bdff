"""`lrengine info DIR`: what a model directory holds, after it has been opened and checked."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from lrengine import _engine
from lrengine.cli.engine_arguments import add_engine_arguments
from lrengine.engine import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    start = time.perf_counter()
    engine = Engine.load(args.directory, device=args.device, dtype=args.dtype, threads=args.threads)
    seconds = time.perf_counter() - start
    facts = {**describe(engine, args.directory), "seconds_to_open": round(seconds, 3)}
    if args.json:
        print(json.dumps(facts, ensure_ascii=False))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):{width}}  {_shown(value)}")
    return 0


def describe(engine: Engine, directory: Path) -> dict[str, Any]:
    """Facts about an open model directory, by name."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    facts: dict[str, Any] = {"model_type": engine.model_type, "encoder": _sizes(config["encoder"])}
    if "llm" in config:
        facts["llm"] = _sizes(config["llm"])
    for part in ("mixer", "mapper"):
        if part in config:
            facts[part] = config[part]["type"]
    for field in ("norm_style", "sharing", "normal_layer_interval", "prompt_template"):
        if config.get(field) is not None:
            facts[field] = config[field]
    if engine.labels:
        facts["labels"] = engine.labels
    return {
        **facts,
        "weights": engine.dtype,
        "memory_bytes": engine.memory_bytes,
        "device": engine.device,
        "instruction_set": _engine.cpu_isa(),
    }


def _sizes(config: dict[str, Any]) -> str:
    """Type, layers, width and vocabulary of a sub-model; families name these fields differently."""

    def first(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), "?")

    layers = first("num_hidden_layers", "encoder_layers", "num_layers")
    width = first("hidden_size", "d_model")
    return f"{config.get('model_type')}, {layers} layers, width {width}, vocabulary {first('vocab_size')}"


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
