"""lrengine_onnx.json (docs/ONNX.md), checked: by itself, and against the graphs and files that it names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrengine.errors import ModelFileError, UnsupportedModelError
from lrengine.export.onnx_file import OnnxFile, Value, read_onnx_file
from lrengine.request import describe

NAME = "lrengine_onnx.json"
FORMAT_VERSION = 1
REQUIRED_GRAPHS = {
    "swcm": ("encoder", "decoder_with_past"),
    "layer_fusion": ("prefix", "llm_with_past"),
    "layer_fusion_classifier": ("classifier",),
}


@dataclass(frozen=True)
class GraphFile:
    path: Path
    inputs: dict[str, Value]
    outputs: dict[str, Value]

    def size(self, name: str, axis: int) -> int | None:
        """Of an input's axis; None: it varies."""
        size = self.inputs[name].shape[axis]
        return size if isinstance(size, int) else None


@dataclass(frozen=True)
class Cache:
    """Of decoders: K and V of every layer are [slots, kv_heads, head_dim]; capacity: positions of a row in the static
    form. cross_heads, cross_dim: of cross-attention, 0 without."""

    layers: int
    kv_heads: int
    head_dim: int
    type: str
    capacity: int | None
    cross_heads: int
    cross_dim: int
    cross_type: str


@dataclass(frozen=True)
class Manifest:
    model_type: str
    dtype: str
    vocab_size: int
    source_vocab_size: int
    max_source: int
    max_target: int
    eos: list[int]
    pad: int
    source_pad: int
    decoder_start: int | None
    labels: list[str]
    prompt_template: str
    source_tokenizer: str | None
    target_tokenizer: str | None
    cache: Cache | None
    graphs: dict[str, GraphFile]
    profiles: dict[str, Any]
    opset: int


class _Fields:
    """The members of one JSON object; every wrong one is a ModelFileError that names it."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, dict):
            raise ModelFileError(f"{where}: found {describe(values)}, expected an object")
        self.values, self.where = values, where

    def refuse(self, name: str, expected: str) -> ModelFileError:
        found = describe(self.values[name]) if name in self.values else "nothing"
        return ModelFileError(f"{self.where}: {name}: found {found}, expected {expected}")

    def integer(self, name: str, least: int = 0, most: int = 2**31 - 1) -> int:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refuse(name, f"an integer from {least} to {most}")
        return value

    def integer_or_none(self, name: str, least: int = 0) -> int | None:
        return None if self.values.get(name) is None else self.integer(name, least)

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.refuse(name, "text")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.values.get(name) is None else self.text(name)

    def items(self, name: str, kind: type, expected: str) -> list[Any]:
        value = self.values.get(name)
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise self.refuse(name, expected)
        return value

    def part(self, name: str) -> _Fields:
        return _Fields(self.values.get(name), f"{self.where}: {name}")


def load_manifest(directory: Path) -> Manifest:
    """ModelFileError or UnsupportedModelError say what is wrong with which file, and what to do about it."""
    path = directory / NAME
    try:
        fields = _Fields(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read: {error.strerror}; `lrengine export onnx DIR OUT` writes such a directory"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not JSON: {error}") from error
    version = fields.integer("format_version")
    if version != FORMAT_VERSION:
        raise UnsupportedModelError(
            f"{path}: format_version {version}, this lrengine reads {FORMAT_VERSION}; export the model again"
        )
    manifest = _read(fields, directory)
    if manifest.cache is not None:
        _check_decoder(manifest, str(path))
    return manifest


def _read(fields: _Fields, directory: Path) -> Manifest:
    model_type = fields.text("model_type")
    if model_type not in REQUIRED_GRAPHS:
        raise UnsupportedModelError(
            f"{fields.where}: model_type {model_type!r}, expected one of {', '.join(REQUIRED_GRAPHS)}"
        )
    generates = model_type != "layer_fusion_classifier"
    ids = fields.part("special_ids")
    tokenizer = fields.part("tokenizer")
    template = fields.text_or_none("prompt_template")
    if template is not None and "{prompt}" not in template:
        raise fields.refuse("prompt_template", "null or text with {prompt} in it")
    return Manifest(
        model_type=model_type,
        dtype=fields.text("dtype"),
        vocab_size=fields.integer("vocab_size", 1) if generates else 0,
        source_vocab_size=fields.integer("source_vocab_size", 1),
        max_source=fields.integer_or_none("max_source") or 0,
        max_target=(fields.integer_or_none("max_target") or 0) if generates else 0,
        eos=ids.items("eos", int, "a list of ids") if generates else [],
        pad=ids.integer_or_none("pad") or 0,
        source_pad=ids.integer_or_none("source_pad") or 0,
        decoder_start=ids.integer("decoder_start") if model_type == "swcm" else None,
        labels=[] if generates else fields.items("labels", str, "a list of texts"),
        prompt_template=template or "{prompt}",
        source_tokenizer=_file_inside(tokenizer, "source", directory),
        target_tokenizer=_file_inside(tokenizer, "target", directory),
        cache=_read_cache(fields) if generates else None,
        graphs=_read_graphs(fields, directory, REQUIRED_GRAPHS[model_type]),
        profiles=fields.part("profiles").values if fields.values.get("profiles") is not None else {},
        opset=fields.integer("opset", 1),
    )


def _read_cache(fields: _Fields) -> Cache:
    cache = fields.part("cache")
    cross = cache.part("cross") if cache.values.get("cross") is not None else None
    return Cache(
        layers=cache.integer("layers", 1, 10_000),
        kv_heads=cache.integer("kv_heads", 1),
        head_dim=cache.integer("head_dim", 1),
        type=cache.text("type"),
        capacity=cache.integer_or_none("capacity", 1),
        cross_heads=cross.integer("heads", 1) if cross else 0,
        cross_dim=cross.integer("head_dim", 1) if cross else 0,
        cross_type=(cross.text_or_none("type") or cache.text("type")) if cross else cache.text("type"),
    )


def _file_inside(fields: _Fields, name: str, directory: Path) -> str | None:
    """A file of the export: no way out of the directory, neither by name nor by link."""
    value = fields.text_or_none(name)
    if value is None:
        return None
    _stay_inside(directory, value, f"{fields.where}: {name}")
    return value


def _stay_inside(directory: Path, name: str, where: str) -> Path:
    path = directory / name
    if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelFileError(f"{where}: {name!r} leads out of the directory; export the model again")
    if not path.is_file():
        raise ModelFileError(f"{where}: there is no file {path}; the export is incomplete: export the model again")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ModelFileError(f"{where}: {path} is a link out of the directory; copy what it points to")
    return path


def _read_graphs(fields: _Fields, directory: Path, required: tuple[str, ...]) -> dict[str, GraphFile]:
    listed = fields.part("graphs")
    for name in required:
        if name not in listed.values:
            raise listed.refuse(name, "a graph that this model_type needs")
    opset = fields.integer("opset", 1)
    graphs = {}
    for name in listed.values:
        graph = listed.part(name)
        path = _stay_inside(directory, graph.text("file"), graph.where)
        found = read_onnx_file(path)
        if found.opset != opset:
            raise ModelFileError(
                f"{path}: operator set {found.opset}, {NAME} says {opset}: the files are of different exports"
            )
        _check_external_data(found, path, directory)
        _check_values(graph, "inputs", found.inputs)
        _check_values(graph, "outputs", found.outputs)
        graphs[name] = GraphFile(path, {v.name: v for v in found.inputs}, {v.name: v for v in found.outputs})
    return graphs


def _check_external_data(found: OnnxFile, path: Path, directory: Path) -> None:
    sizes: dict[str, int] = {}
    for data in found.external:
        if data.location not in sizes:
            sizes[data.location] = _stay_inside(directory, data.location, f"{path}: external data").stat().st_size
        end = data.offset + (data.length or 0)
        if data.offset < 0 or (data.length or 0) < 0 or end > sizes[data.location]:
            raise ModelFileError(
                f"{path}: external data of bytes {data.offset} to {end} in {data.location}, which has "
                f"{sizes[data.location]}; the files are cut off or of different exports: export the model again"
            )


def _check_values(graph: _Fields, kind: str, found: list[Value]) -> None:
    """The manifest's list is the file's: names, types, and sizes that do not vary."""
    listed = {}
    for item in graph.items(kind, dict, "a list of objects"):
        value = _Fields(item, f"{graph.where}: {kind}")
        shape = item.get("shape")
        if not isinstance(shape, list) or not all(type(size) in (int, str) for size in shape):
            raise value.refuse("shape", "a list of sizes")
        listed[value.text("name")] = (value.text("type"), tuple(shape))
    for value in found:
        expected = listed.pop(value.name, None)
        if expected is None or expected[0] != value.type or not _same_shape(expected[1], value.shape):
            said = "nothing" if expected is None else f"{expected[0]} {list(expected[1])}"
            raise ModelFileError(
                f"{graph.where}: {kind}: {value.name}: found {said}, the graph has {value.type} {list(value.shape)}; "
                "the files are of different exports: export the model again"
            )
    if listed:
        raise ModelFileError(f"{graph.where}: {kind}: {next(iter(listed))} is not in the graph; export the model again")


def _same_shape(said: tuple[int | str, ...], found: tuple[int | str, ...]) -> bool:
    def fixed(size: int | str) -> int | None:
        return size if isinstance(size, int) else None

    return len(said) == len(found) and all(fixed(a) == fixed(b) for a, b in zip(said, found, strict=True))


def _check_decoder(manifest: Manifest, where: str) -> None:
    names = ("llm_with_past", "llm_prefill") if manifest.model_type == "layer_fusion" else ("decoder_with_past",)
    for name in names:
        if name in manifest.graphs:
            _check_step(manifest, name, where)


def _check_step(manifest: Manifest, name: str, where: str) -> None:
    """A graph's inputs and outputs are what the cache, the vocabulary and the model type ask for."""
    cache, graph = manifest.cache, manifest.graphs[name]
    assert cache is not None
    fused = manifest.model_type == "layer_fusion"

    def need(values: dict[str, Value], value: str, type_: str, fits: Callable[[tuple[int | str, ...]], bool]) -> None:
        found = values.get(value)
        if found is None or found.type != type_ or not fits(found.shape):
            said = "nothing" if found is None else f"{found.type} {list(found.shape)}"
            raise ModelFileError(f"{where}: graph {name} and the cache do not fit: {value}: found {said}")

    head = (cache.kv_heads, cache.head_dim)
    for layer in range(cache.layers):
        for part in ("key", "value"):
            need(graph.inputs, f"past_{part}_{layer}", cache.type, lambda s: len(s) == 3 and s[1:] == head)
            need(graph.outputs, f"new_{part}_{layer}", cache.type, lambda s: s[-2:] == head)
            if not fused:
                need(graph.inputs, f"cross_{part}_{layer}", cache.cross_type, lambda s: s[1] == cache.cross_heads)
    need(graph.inputs, "input_ids", "int64", lambda s: len(s) == 2)
    need(graph.inputs, "position", "int64", lambda s: len(s) == 1)
    need(graph.inputs, "cache_rows", "int64", lambda s: len(s) == 2)
    need(graph.outputs, "logits", "float32", lambda s: len(s) == 2 and s[1] == manifest.vocab_size)
    if fused:
        need(graph.inputs, "embeds", "float32", lambda s: len(s) == 3)
        need(graph.inputs, "logit_rows", "int64", lambda s: len(s) == 1)
