"""What every exported graph must pass before its directory appears."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from lrengine.errors import UnsupportedModelError

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_NUMBERS = _FLOATS | {TensorProto.INT32, TensorProto.INT64}
_ANY = _NUMBERS | {TensorProto.BOOL}

# The operators that the graphs may use, and the types that TensorRT's ONNX parser documents for each
# (github.com/onnx/onnx-tensorrt, docs/operators.md of TensorRT 10.6, commit 0137504e, which reads operator sets 9 to
# 22; of these operators that of 10.15, which reads 9 to 24, says the same). int8 is there a type of quantised values
# alone: what QuantizeLinear writes and DequantizeLinear reads, nothing else. If, Loop and Scan are on that list and
# left out all the same: a branch or a loop around a decoder is what engines fail to build from.
TENSORRT_OPERATORS: dict[str, frozenset[int]] = {
    **dict.fromkeys(
        ("Cos", "Erf", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Sigmoid", "Sin", "Softmax", "Sqrt", "Tanh"),
        _FLOATS,
    ),
    **dict.fromkeys(("Pow", "QuantizeLinear"), _FLOATS),
    **dict.fromkeys(
        ("Add", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Neg", "Pad", "Range", "ReduceMax",
         "ReduceMean", "ReduceSum", "Relu", "Sub"),
        _NUMBERS,
    ),
    **dict.fromkeys(
        ("Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Shape", "Slice", "Squeeze", "Transpose",
         "Unsqueeze", "Where"),
        _ANY,
    ),
    "DequantizeLinear": frozenset({TensorProto.INT8}),
}  # fmt: skip
BRANCHES = frozenset({"If", "Loop", "Scan"})
_FIXED_AXES = frozenset({"ReduceMax", "ReduceMean", "ReduceSum", "Squeeze", "Unsqueeze"})  # axes: an initializer


def operators(model: onnx.ModelProto) -> set[str]:
    """Operator types, those of other domains with the domain before them."""
    return {f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.node}


def check_graph(path: Path, for_tensorrt: bool) -> None:
    """onnx's full check of types and shapes, and no tensor of unknown rank; `for_tensorrt`: nothing that
    tensorrt_refuses(); never a branch or a loop. Raises UnsupportedModelError: the fault is the exporter's or the
    config's, and nothing is written."""
    model = onnx.load(path, load_external_data=False)
    if branches := operators(model) & BRANCHES:
        raise UnsupportedModelError(f"{path.name}: uses {', '.join(sorted(branches))}")
    standard = not any("::" in name for name in operators(model))
    try:
        onnx.checker.check_model(path, full_check=standard)
        vague = unknown_ranks(model) if standard else []
        refused = tensorrt_refuses(model) if for_tensorrt else []
    except onnx.checker.ValidationError as error:
        raise UnsupportedModelError(f"{path.name}: is no valid ONNX graph: {error}") from error
    except onnx.shape_inference.InferenceError as error:
        raise UnsupportedModelError(f"{path.name}: config and weights have other shapes: {error}") from error
    if vague:
        raise UnsupportedModelError(f"{path.name}: the ranks of {', '.join(vague[:3])} cannot be inferred")
    if refused:
        raise UnsupportedModelError(f"{path.name}: TensorRT does not read {'; '.join(refused[:3])}")


def unknown_ranks(model: onnx.ModelProto) -> list[str]:
    """Outputs of nodes that shape inference has no rank for."""
    graph = _inferred(model)
    known = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
    }
    return [name for node in graph.node for name in node.output if name and name not in known]


def tensorrt_refuses(model: onnx.ModelProto) -> list[str]:
    """What TensorRT's documentation excludes: operators, types that flow into one, axes that are computed, zero points
    other than 0."""
    if foreign := operators(model) - set(TENSORRT_OPERATORS):
        return sorted(foreign)
    graph = _inferred(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    found = []
    for node in graph.node:
        data = node.input[1 if node.op_type == "Where" else 0]  # Where's first is the condition
        if types[data] not in TENSORRT_OPERATORS[node.op_type]:
            found.append(f"{node.op_type} of {TensorProto.DataType.Name(types[data])}")
        if node.op_type in _FIXED_AXES and any(name not in constants for name in node.input[1:]):
            found.append(f"{node.op_type} with axes that are computed")
        if node.op_type.endswith("tizeLinear") and any(_not_zero(constants.get(name)) for name in node.input[2:]):
            found.append(f"{node.op_type} with a zero point")
    return sorted(set(found))


def _not_zero(zero_point: onnx.TensorProto | None) -> bool:
    return zero_point is None or bool(onnx.numpy_helper.to_array(zero_point).any())


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
