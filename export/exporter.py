"""A model directory to a directory of ONNX graphs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.export.checks import check_graph
from lrengine.export.graph import NARROW_TYPES, Graph
from lrengine.export.manifest import MANIFEST, manifest
from lrengine.export.options import DEFAULT_OPSET, ExportOptions, Profile
from lrengine.export.plan import plan_export
from lrengine.export.weights import WEIGHTS_FILE, ModelWeights, WeightFile
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import parse_json

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
            plan = plan_export(config, options)
            with WeightFile(partial / WEIGHTS_FILE) as file:
                weights = ModelWeights(tensors, file, NARROW_TYPES[options.dtype][1])
                graphs = {name: Graph(name, weights, options.dtype, opset, plan.fixed) for name in plan.builds}
                for name, build in plan.builds.items():
                    build(graphs[name])
                    onnx.save(graphs[name].model(), partial / f"{name}.onnx")
            for name in graphs:
                check_graph(partial / f"{name}.onnx", standard_only=optimize != "ort")
        except KeyError as error:
            raise ModelFileError(f"{source / 'config.json'}: field {error} is missing") from error
        text = json.dumps(manifest(config, plan.facts, graphs, options, _copy_tokenizers(source, partial)), indent=1)
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
