"""Multiply-accumulates of an ONNX file at batch 1, whoever made it: float, with Q/DQ pairs, in integers, or packed."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

_PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "Gemm": 1, "DynamicQuantizeMatMul": 1, "MatMulIntegerToFloat": 1}
_CONVOLUTIONS = {"Conv", "ConvInteger"}
_RECURRENT = {"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"}


def macs(path: Path) -> int:
    """Products with weights and of activations with one another; what takes no product counts nothing."""
    import onnx
    from onnx import shape_inference

    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes.setdefault(value.name, tuple(max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim))
    return sum(_of(node, shapes) for node in graph.node)


def _of(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type in _CONVOLUTIONS:
        weight, output = shapes[node.input[1]], shapes[node.output[0]]
        return prod(output) * prod(weight[1:])
    if node.op_type in _PRODUCTS:
        return prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type in _RECURRENT:
        steps = shapes[node.input[0]][0]
        return steps * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))
    return 0
