"""What every exported graph must pass before its directory appears."""

from __future__ import annotations

from pathlib import Path

import onnx

from lrengine.errors import UnsupportedModelError

# The operators that the graphs may use: each is in TensorRT 10's list of supported ONNX operators
# (github.com/onnx/onnx-tensorrt, docs/operators.md). If, Loop and Scan are on that list and left out all the same: a
# branch or a loop around a decoder is what engines fail to build from.
# fmt: off
TENSORRT_OPERATORS = frozenset({
    "Add", "Cast", "Concat", "Cos", "DequantizeLinear", "Div", "Equal", "Erf", "Expand", "Gather", "Gelu", "Gemm",
    "Greater", "Identity", "LayerNormalization", "Less", "MatMul", "Max", "Min", "Mul", "Neg", "Pad", "Pow",
    "QuantizeLinear", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Sin",
    "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
})
# fmt: on
BRANCHES = frozenset({"If", "Loop", "Scan"})


def operators(model: onnx.ModelProto) -> set[str]:
    """Operator types, those of other domains with the domain before them."""
    return {f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph.node}


def check_graph(path: Path, for_tensorrt: bool) -> None:
    """onnx's full check of types and shapes, and no tensor of unknown rank; `for_tensorrt`: no operator outside
    TENSORRT_OPERATORS; never a branch or a loop. Raises UnsupportedModelError: the fault is the exporter's or the
    config's, and nothing is written."""
    model = onnx.load(path, load_external_data=False)
    used = operators(model)
    if foreign := used - TENSORRT_OPERATORS if for_tensorrt else used & BRANCHES:
        raise UnsupportedModelError(f"{path.name}: uses {', '.join(sorted(foreign))}, which TensorRT does not read")
    standard = not any("::" in name for name in used)
    try:
        onnx.checker.check_model(path, full_check=standard)
        vague = unknown_ranks(model) if standard else []
    except onnx.checker.ValidationError as error:
        raise UnsupportedModelError(f"{path.name}: is no valid ONNX graph: {error}") from error
    except onnx.shape_inference.InferenceError as error:
        raise UnsupportedModelError(f"{path.name}: config and weights have other shapes: {error}") from error
    if vague:
        raise UnsupportedModelError(f"{path.name}: the ranks of {', '.join(vague[:3])} cannot be inferred")


def unknown_ranks(model: onnx.ModelProto) -> list[str]:
    """Outputs of nodes that shape inference has no rank for."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    graph = inferred.graph
    known = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
    }
    return [name for node in graph.node for name in node.output if name and name not in known]
