"""What an ONNX file says of itself: inputs, outputs, operator set, files that hold its weights.

Read from the file (protocol buffers: https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto), so
that it can be checked before a runtime opens it, on machines that have ONNX Runtime and not the `onnx` package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lrengine.errors import ModelFileError

# TensorProto.DataType
ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16"}

_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 5, 6, 10, 11
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_DEEPEST = 16  # graphs inside of nodes

Message = memoryview


@dataclass(frozen=True)
class Value:
    """An input or output. shape: sizes, and names of those that vary."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ExternalData:
    """A tensor's bytes in another file; length None: to its end."""

    location: str
    offset: int
    length: int | None


@dataclass
class OnnxFile:
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    opset: int = 0
    external: list[ExternalData] = field(default_factory=list)


def read_onnx_file(path: Path) -> OnnxFile:
    """ModelFileError if there is no such file or it is no ONNX model."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}; export the model again") from error
    found = OnnxFile()
    graphs = 0
    try:
        for number, value in _fields(memoryview(data)):
            if number == _MODEL_GRAPH:
                graphs += 1
                _read_graph(_message(value), found, 0)
            elif number == _MODEL_OPSET:
                _read_opset(_message(value), found)
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: not an ONNX model: {error}") from error
    if graphs != 1:
        raise ModelFileError(f"{path}: not an ONNX model: {graphs} graphs in it, expected one")
    return found


def _fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """(number, value) of every field: an int, or the bytes of what has a length. ValueError where they run out."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of unknown kind {kind}")
        if size > len(message) - position:
            raise ValueError(f"a field of {size} bytes ends after its message")
        yield tag >> 3, message[position : position + size]
        position += size


def _varint(message: Message, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is cut off")


def _message(value: int | Message) -> Message:
    if isinstance(value, int):
        raise ValueError("a number where a message is expected")
    return value


def _text(value: int | Message) -> str:
    return bytes(_message(value)).decode("utf-8")


def _number(value: int | Message) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number is expected")
    return value


def _read_opset(message: Message, found: OnnxFile) -> None:
    domain, version = "", 0
    for number, value in _fields(message):
        if number == 1:
            domain = _text(value)
        elif number == 2:
            version = _number(value)
    if domain in ("", "ai.onnx"):
        found.opset = version


def _read_graph(message: Message, found: OnnxFile, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("graphs are nested too deep")
    for number, value in _fields(message):
        if number == _GRAPH_INITIALIZER:
            _read_tensor(_message(value), found)
        elif number == _GRAPH_NODE:
            _read_node(_message(value), found, depth)
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and depth == 0:
            (found.inputs if number == _GRAPH_INPUT else found.outputs).append(_read_value(_message(value)))


def _read_node(message: Message, found: OnnxFile, depth: int) -> None:
    for number, attribute in _fields(message):
        if number != _NODE_ATTRIBUTE:
            continue
        for part, value in _fields(_message(attribute)):
            if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _read_tensor(_message(value), found)
            elif part in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                _read_graph(_message(value), found, depth + 1)


def _read_tensor(message: Message, found: OnnxFile) -> None:
    entries: dict[str, str] = {}
    external = False
    for number, value in _fields(message):
        if number == _TENSOR_EXTERNAL:
            parts = {part: _text(text) for part, text in _fields(_message(value))}
            entries[parts.get(1, "")] = parts.get(2, "")
        elif number == _TENSOR_LOCATION:
            external = _number(value) == 1
    if external or entries:
        length = entries.get("length")
        found.external.append(
            ExternalData(
                entries.get("location", ""), int(entries.get("offset", "0")), None if length is None else int(length)
            )
        )


def _read_value(message: Message) -> Value:
    """ValueInfoProto: name, and type.tensor_type.{elem_type, shape.dim}."""
    name, element, shape = "", 0, []
    for number, value in _fields(message):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor in _fields(_message(value)):
                if kind != 1:
                    continue
                for part, content in _fields(_message(tensor)):
                    if part == 1:
                        element = _number(content)
                    elif part == 2:
                        shape = [_read_size(_message(size)) for size_field, size in _fields(_message(content))]
    return Value(name, ELEMENT_TYPES.get(element, f"type {element}"), tuple(shape))


def _read_size(message: Message) -> int | str:
    for number, value in _fields(message):
        if number == 1:
            return _number(value)
        if number == 2:
            return _text(value)
    return "?"
