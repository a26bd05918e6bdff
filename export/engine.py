"""OnnxEngine: an ONNX export with the same methods as lrengine.Engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lrengine.engine import Engine
from lrengine.errors import DeviceError, InvalidRequestError
from lrengine.export.manifest_reader import GraphFile, Manifest, load_manifest
from lrengine.export.providers import Provider, candidates, logger, provider_options
from lrengine.export.runner import OnnxModel
from lrengine.export.sessions import Graph, open_session
from lrengine.request import describe
from lrengine.text import TextCodec


class OnnxEngine(Engine):
    """What `lrengine export onnx` wrote (docs/ONNX.md), run by ONNX Runtime: on the CPU, by CUDA or by TensorRT.

    generate(), stream(), classify(), score() and encode() are those of lrengine.Engine and give what they give: the
    search is the engine's own. device says which provider runs."""

    @classmethod
    def load(  # type: ignore[override]  # where it runs is a provider, and an export has one dtype
        cls, path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None
    ) -> OnnxEngine:
        """Opens an export; every file is checked against its manifest first.

        provider: "cpu", "cuda", "tensorrt", or "auto": CUDA where it works, else the CPU. threads: of the CPU; None: as
        many as there are cores. Raises ModelFileError, UnsupportedModelError, InvalidRequestError, DeviceError or
        OutOfMemoryError."""
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InvalidRequestError(f"threads: found {describe(threads)}, expected None or a positive integer")
        directory = Path(path)
        to_try = candidates(provider)
        manifest = load_manifest(directory)
        for index, candidate in enumerate(to_try):
            try:
                model = _open(manifest, directory, candidate, threads)
                break
            except DeviceError as error:
                if index + 1 == len(to_try):
                    raise
                logger.info("provider auto: %s does not work here (%s); using %s", candidate.name, error, "cpu")
        source = _codec(directory, manifest.source_tokenizer)
        same = manifest.target_tokenizer == manifest.source_tokenizer
        target = source if same else _codec(directory, manifest.target_tokenizer)
        return cls(model, source, target, manifest.prompt_template)


def _codec(directory: Path, file: str | None) -> TextCodec | None:
    return None if file is None else TextCodec.load((directory / file).parent)


def _open(manifest: Manifest, directory: Path, provider: Provider, threads: int | None) -> OnnxModel:
    """The graph that every request needs is opened now, so that a provider that does not start is known at once."""

    def session(file: GraphFile) -> Any:
        name = next(name for name, each in manifest.graphs.items() if each is file)
        options = provider_options(provider, directory, trt_profile(manifest.profiles.get(name)))
        return open_session(file, options, threads, manifest.opset)

    graphs = {name: Graph(file, session) for name, file in manifest.graphs.items()}
    first = {"swcm": "encoder", "layer_fusion": "prefix"}.get(manifest.model_type, "classifier")
    _ = graphs[first].session
    files = {file.path for file in manifest.graphs.values()}
    weights = [path for path in directory.iterdir() if path.suffix in (".bin", ".data")]
    return OnnxModel(manifest, graphs, provider, sum(path.stat().st_size for path in [*files, *weights]))


def trt_profile(shapes: Any) -> dict[str, str]:
    """TensorRT's provider options for the least, usual and largest shapes of a graph's inputs."""
    if not isinstance(shapes, dict):
        return {}

    def spelled(which: str) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, sizes[which]))}" for name, sizes in shapes.items())

    return {f"trt_profile_{which}_shapes": spelled(which) for which in ("min", "opt", "max")}
