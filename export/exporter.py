"""A model directory to a directory of ONNX graphs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.export.checks import check_graph
from lrengine.export.encoders import max_source
from lrengine.export.graph import NARROW_TYPES, Graph
from lrengine.export.manifest import MANIFEST, Facts, manifest
from lrengine.export.options import DEFAULT_OPSET, ExportOptions, Profile
from lrengine.export.swcm import Swcm
from lrengine.export.weights import WEIGHTS_FILE, ModelWeights, WeightFile
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import parse_json

Build = Callable[[Graph], None]
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def export_onnx(
    directory: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    static: Profile | None = None,
    opset: int = DEFAULT_OPSET,
    optimize: str = "none",
    force: bool = False,
) -> Path:
    """Writes the model `directory` as ONNX graphs to `destination`, which appears whole or not at all.

    Options: ExportOptions. `force` replaces an earlier export. Raises ModelFileError for files that contradict the
    config, UnsupportedModelError for what cannot be exported, InvalidRequestError for options."""
    source, target = Path(directory), Path(destination)
    options = ExportOptions(dtype, static, opset, optimize)
    config = _config(source)
    with atomic_directory(target, force, MANIFEST) as partial, SafetensorsDirectory(source) as tensors:
        try:
            facts, builds, fixed = _plan(config, options)
            with WeightFile(partial / WEIGHTS_FILE) as file:
                weights = ModelWeights(tensors, file, NARROW_TYPES[options.dtype][1])
                graphs = {name: Graph(name, weights, options.dtype, opset, fixed) for name in builds}
                for name, build in builds.items():
                    build(graphs[name])
                    onnx.save(graphs[name].model(), partial / f"{name}.onnx")
            for name in graphs:
                check_graph(partial / f"{name}.onnx", standard_only=optimize != "ort")
        except KeyError as error:
            raise ModelFileError(f"{source / 'config.json'}: field {error} is missing") from error
        text = json.dumps(manifest(config, facts, graphs, options, _copy_tokenizers(source, partial)), indent=1)
        (partial / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return target


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        config = parse_json(path, path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    if config.get("quantization") is not None:
        raise UnsupportedModelError(
            f"{path}: the model is quantised; export what `lrengine quantize DIR NEW --dtype float32` makes of it"
        )
    return config


def _plan(config: dict[str, Any], options: ExportOptions) -> tuple[Facts, dict[str, Build], dict[str, int]]:
    """What the manifest says, the graphs by name, and the dimensions that a static export knows."""
    kind = config.get("model_type")
    if kind == "swcm":
        return _plan_swcm(Swcm(config), options)
    raise UnsupportedModelError(f"model_type '{kind}' cannot be exported")


def _plan_swcm(swcm: Swcm, options: ExportOptions) -> tuple[Facts, dict[str, Build], dict[str, int]]:
    profile, layers = options.static, len(swcm.layers())
    kind = options.dtype if options.dtype != "int8" else "float32"
    shape = {"layers": layers, "heads": swcm.heads, "kv_heads": swcm.heads, "head_dim": swcm.head_dim, "type": kind}
    capacity = min(profile.target, swcm.max_target) if profile else None
    rows = profile.batch * profile.beams if profile else 0
    cache = {**shape, "slots": rows * capacity if capacity else None, "capacity": capacity, "cross": shape}
    facts = Facts(
        swcm.config["vocab_size"], max_source(swcm.encoder), capacity or swcm.max_target, cache, source_pad(swcm.config)
    )
    builds = {"encoder": swcm.build_encoder, "decoder_with_past": swcm.build_decoder_with_past}
    if profile is None or capacity is None:
        return facts, {**builds, "decoder": swcm.build_decoder}, {}
    fixed = {
        "batch": profile.batch, "source": profile.source, "rows": rows, "past": capacity, "slots": rows * capacity,
    }  # fmt: skip
    return facts, builds, fixed


def source_pad(config: dict[str, Any]) -> int:
    """Any id does, since padding is masked; the encoder's own where it has one."""
    pad = config["encoder"].get("pad_token_id")
    return pad if isinstance(pad, int) else 0


def _copy_tokenizers(source: Path, destination: Path) -> dict[str, str | None]:
    """Copies what there is; {"source", "target"}: the tokenizer.json of each."""
    found: dict[str, str | None] = {}
    for folder in (".", "llm"):
        for name in _TOKENIZER_FILES:
            if (source / folder / name).is_file():
                (destination / folder).mkdir(exist_ok=True)
                shutil.copyfile(source / folder / name, destination / folder / name)
        name = Path(folder, "tokenizer.json").as_posix()
        found[folder] = name if (destination / name).is_file() else None
    return {"source": found["."], "target": found["llm"] or found["."]}
