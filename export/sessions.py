"""Graphs in ONNX Runtime, and tensors bound to them by address: nothing is copied by the host between two runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrengine.errors import DeviceError, LrengineError, ModelFileError, OutOfMemoryError, UnsupportedModelError
from lrengine.export.manifest_reader import GraphFile
from lrengine.export.providers import Provider, import_onnxruntime

# TensorProto.DataType and bytes of an element.
_ONNX_TYPES = {"float32": (1, 4), "int64": (7, 8), "float16": (10, 2), "bfloat16": (16, 2)}


class DeviceTensor:
    """Zeros of a shape on the provider's device; parts of it (along the first axis) are bound by address."""

    def __init__(self, shape: tuple[int, ...], type_: str, provider: Provider) -> None:
        self.shape, self.type, self.memory = shape, type_, provider.memory
        self._element, size = _ONNX_TYPES[type_]
        self.row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * size
        try:
            zeros = np.zeros(shape[0] * self.row_bytes, np.uint8)
            self._held: Any = zeros
            if self.memory == "cpu":
                self._address = zeros.ctypes.data
            else:
                self._held = import_onnxruntime().OrtValue.ortvalue_from_numpy(zeros, self.memory, 0)
                self._address = self._held.data_ptr()
        except (MemoryError, ValueError, RuntimeError) as error:
            raise OutOfMemoryError(f"no memory for {shape} of {type_} on {self.memory}: {error}") from error

    def part(self, first: int, shape: tuple[int, ...]) -> tuple[str, int, int, tuple[int, ...], int]:
        """What binding a tensor of `shape` takes that begins at row `first`."""
        return (self.memory, 0, self._element, shape, self._address + first * self.row_bytes)

    @property
    def whole(self) -> tuple[str, int, int, tuple[int, ...], int]:
        return self.part(0, self.shape)


class Binding:
    """The inputs and outputs of one request's runs of a graph. One thread at a time."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._binding = graph.session.io_binding()
        self._held: dict[str, NDArray[Any]] = {}

    def give(self, **arrays: NDArray[Any]) -> None:
        """Inputs from the host's memory, read in place on the CPU."""
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            self._held[name] = array
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def read(self, name: str, part: tuple[str, int, int, tuple[int, ...], int]) -> None:
        self._binding.bind_input(name, *part)

    def write(self, name: str, part: tuple[str, int, int, tuple[int, ...], int]) -> None:
        self._binding.bind_output(name, *part)

    def fill(self, name: str, array: NDArray[Any]) -> None:
        """An output that the run writes to the host's memory."""
        self._held[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        self._graph.guarded(lambda: self._graph.session.run_with_iobinding(self._binding))


class Graph:
    """One graph of an export, opened when it is first used: a model that only translates never opens what only
    score() needs. Threads may share it."""

    def __init__(self, file: GraphFile, open_session: Callable[[GraphFile], Any]) -> None:
        self.file = file
        self._open = open_session
        self._session: Any = None
        self._lock = threading.Lock()

    @property
    def session(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = self._open(self.file)
            return self._session

    def bind(self) -> Binding:
        return Binding(self)

    def run(self, outputs: list[str], **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Arrays in, arrays out."""
        found: list[NDArray[Any]] = self.guarded(lambda: self.session.run(outputs, inputs))
        return found

    def guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except LrengineError:
            raise
        except Exception as error:  # ONNX Runtime has a class of its own for every status
            raise _typed(error, f"{self.file.path.name}: ONNX Runtime stopped") from error


def open_session(file: GraphFile, providers: list[tuple[str, dict[str, str]]], threads: int | None, opset: int) -> Any:
    """Raises ModelFileError, UnsupportedModelError, OutOfMemoryError, or DeviceError if the first provider does not
    start: ONNX Runtime alone would go on with the next one."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(file.path), options, providers=providers)
    except Exception as error:  # as in Graph.guarded()
        message = str(error).lower()
        if "opset" in message:
            raise UnsupportedModelError(
                f"{file.path}: operator set {opset} is not what ONNX Runtime {onnxruntime.__version__} runs ({error}); "
                "export again with a lower --opset, or install a newer ONNX Runtime"
            ) from error
        if "not_implemented" in message:
            raise UnsupportedModelError(
                f"{file.path}: {providers[0][0]} cannot run it ({error}); export with another --dtype, or with "
                "--optimize none"
            ) from error
        if any(word in message for word in ("cuda", "cudnn", "tensorrt")):
            raise DeviceError(f"{providers[0][0]} did not start: {error}") from error
        raise _typed(error, f"{file.path}: ONNX Runtime cannot open it", ModelFileError) from error
    if providers[0][0] not in session.get_providers():
        raise DeviceError(
            f"{providers[0][0]} did not start, though this build of ONNX Runtime has it: a library of CUDA, cuDNN or "
            "TensorRT is missing or of another version (docs/EDGE.md says which it needs)"
        )
    return session


def _typed(error: Exception, what: str, otherwise: type[LrengineError] = DeviceError) -> LrengineError:
    message = str(error)
    memory = isinstance(error, MemoryError) or any(
        sign in message for sign in ("bad_alloc", "Failed to allocate memory", "out of memory", "bad allocation")
    )
    return (OutOfMemoryError if memory else otherwise)(f"{what}: {message}")
