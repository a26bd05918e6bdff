"""Where graphs run: names of ours ("auto", "cpu", "cuda", "tensorrt") to ONNX Runtime's execution providers."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrengine.errors import DeviceError, InvalidRequestError
from lrengine.request import describe

logger = logging.getLogger("lrengine")

EXECUTION_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_HOW_TO_GET = (
    "desktop: pip install onnxruntime-gpu in place of onnxruntime; Jetson: the wheel for its JetPack (docs/EDGE.md)"
)


@dataclass(frozen=True)
class Provider:
    """`name`: cpu, cuda or tensorrt. `memory`: ONNX Runtime's name of where its tensors lie."""

    name: str

    @property
    def memory(self) -> str:
        return "cpu" if self.name == "cpu" else "cuda"

    @property
    def execution_provider(self) -> str:
        return EXECUTION_PROVIDERS[self.name]


def import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"ONNX Runtime is not here ({error}); pip install onnxruntime, or onnxruntime-gpu") from error
    return onnxruntime


def candidates(provider: object) -> list[Provider]:
    """What to try, in this order. InvalidRequestError for an unknown name, DeviceError for a provider that this build
    of ONNX Runtime does not have."""
    if not isinstance(provider, str) or provider not in ("auto", *EXECUTION_PROVIDERS):
        names = ", ".join(("auto", *EXECUTION_PROVIDERS))
        raise InvalidRequestError(f"provider: found {describe(provider)}, expected one of {names}")
    there = import_onnxruntime().get_available_providers()
    if provider == "auto":
        gpu = [Provider("cuda")] if EXECUTION_PROVIDERS["cuda"] in there else []
        return [*gpu, Provider("cpu")]
    wanted = Provider(provider)
    if wanted.execution_provider not in there:
        raise DeviceError(
            f"provider {provider!r}: this build of ONNX Runtime has {', '.join(there)} and not "
            f"{wanted.execution_provider}; {_HOW_TO_GET}"
        )
    return [wanted]


def provider_options(provider: Provider, directory: Path, profile: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The providers of a session, best first; what one cannot run goes to the next. TensorRT keeps the engines it
    builds in `directory`/tensorrt, or where LRENGINE_TENSORRT_CACHE says: building takes minutes. profile: the least,
    usual and largest shapes of a graph's inputs, as the provider's options spell them."""
    chain: list[tuple[str, dict[str, str]]] = []
    if provider.name == "tensorrt":
        cache = os.environ.get("LRENGINE_TENSORRT_CACHE", str(directory / "tensorrt"))
        engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": cache, "trt_timing_cache_enable": "1"}
        chain.append((EXECUTION_PROVIDERS["tensorrt"], {**engines, **profile}))
    if provider.memory == "cuda":
        chain.append((EXECUTION_PROVIDERS["cuda"], {}))
    return [*chain, (EXECUTION_PROVIDERS["cpu"], {})]
