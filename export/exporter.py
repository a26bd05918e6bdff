"""A model directory to a directory of ONNX graphs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from lrengine.atomic_directory import atomic_directory
from lrengine.errors import InvalidRequestError, LrengineError, ModelFileError, UnsupportedModelError
from lrengine.export.checks import check_graph
from lrengine.export.graph import NARROW_TYPES, Graph
from lrengine.export.manifest import MANIFEST, manifest
from lrengine.export.options import DEFAULT_OPSET, ExportOptions, Profile
from lrengine.export.plan import Plan, plan_export
from lrengine.export.products import BlockInt8Products, FloatProducts, QdqInt8Products
from lrengine.export.smoothing import RecordedProducts, smoothing_scales
from lrengine.export.weights import WEIGHTS_FILE, ModelWeights, WeightFile
from lrengine.request import rows
from lrengine.safetensors_directory import SafetensorsDirectory
from lrengine.safetensors_io import parse_json
from lrengine.text import TextCodec

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def export_onnx(
    directory: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    static: Profile | None = None,
    opset: int = DEFAULT_OPSET,
    optimize: str = "none",
    calibration: Sequence[str] | Sequence[Sequence[int]] | None = None,
    force: bool = False,
) -> Path:
    """Writes the model `directory` as ONNX graphs to `destination`, which appears whole or not at all.

    Options: ExportOptions. calibration: sources (texts or ids), for int8 with fixed ranges of activations (Q/DQ pairs)
    in place of ranges found in every run. `force` replaces an earlier export. Raises ModelFileError for files that
    contradict the config, UnsupportedModelError for what cannot be exported, InvalidRequestError for options."""
    source, target = Path(directory), Path(destination)
    options = ExportOptions(dtype, static, opset, optimize, calibration is not None)
    config = _config(source)
    products = _products(source, options, calibration)
    with atomic_directory(target, force, MANIFEST) as partial:
        _write(source, partial, config, options, products)
    return target


def _products(source: Path, options: ExportOptions, calibration: Any) -> FloatProducts:
    if options.dtype != "int8":
        return FloatProducts()
    from lrengine.export.calibrate import measure_columns

    sources = None if calibration is None else _calibration_rows(source, calibration)
    with tempfile.TemporaryDirectory() as folder:
        plain, recorded = Path(folder), RecordedProducts()
        _write(source, plain, _config(source), ExportOptions(opset=options.opset), recorded)
        largest = measure_columns(plain, sources, recorded.written)
    smooth = smoothing_scales(recorded, largest)
    if sources is None:
        return BlockInt8Products(smooth)
    ranges = {
        name: [float((found / smooth[each.weight]).max()) for each, found in zip(written, largest[name], strict=True)]
        for name, written in recorded.written.items()
    }
    return QdqInt8Products(smooth, ranges)


def _calibration_rows(source: Path, calibration: Any) -> list[list[int]]:
    codec = TextCodec.load(source)

    def encode(text: str) -> list[int]:
        if codec is None:
            raise InvalidRequestError(f"calibration: {source} has no tokenizer.json to read text with: give ids")
        return codec.source(text)

    found = [row.tolist() for row in rows(calibration, "calibration", encode)]
    if not found or not all(found):
        raise InvalidRequestError("calibration: expected some sources, none of them empty")
    return found


def _write(
    source: Path, partial: Path, config: dict[str, Any], options: ExportOptions, products: FloatProducts
) -> None:
    """Everything of an export, into the empty directory `partial`."""
    try:
        plan = plan_export(config, options)
        graphs = _write_graphs(source, partial, plan, options, products)
        fields = manifest(config, plan.facts, graphs, options, _copy_tokenizers(source, partial))
    except LrengineError:
        raise
    except KeyError as error:
        raise ModelFileError(f"{source / 'config.json'}: field {error} is missing") from error
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{source / 'config.json'}: has a field that cannot be, or that the weights contradict: {error}"
        ) from error
    (partial / MANIFEST).write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def _write_graphs(
    source: Path, partial: Path, plan: Plan, options: ExportOptions, products: FloatProducts
) -> dict[str, Graph]:
    """weights.bin and the graphs, checked."""
    narrow = "float32" if options.dtype == "int8" else options.dtype
    with SafetensorsDirectory(source) as tensors, WeightFile(partial / WEIGHTS_FILE) as file:
        weights = ModelWeights(tensors, file, NARROW_TYPES[narrow][1])
        graphs = {
            name: Graph(name, weights, narrow, options.opset, products, plan.fixed_in(name)) for name in plan.builds
        }
        for name, build in plan.builds.items():
            build(graphs[name])
            onnx.save(graphs[name].model(), partial / f"{name}.onnx")
    if options.optimize == "ort":
        from lrengine.export.fuse import fuse_for_onnxruntime

        fuse_for_onnxruntime(partial, list(graphs))
    for name in graphs:
        check_graph(partial / f"{name}.onnx", options.for_tensorrt)
    return graphs


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
