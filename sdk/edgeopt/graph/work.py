"""Counts what a network has to compute from its file: products, bytes, operators; nothing is run."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from edgeopt.core.work import Work
from edgeopt.errors import ModelError
from edgeopt.graph.dataflow import Dataflow, members
from edgeopt.graph.inspect import tensor_bytes

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset(
    {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulNBits"}
    | {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
_NARROW = frozenset(
    {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul"}
    | {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM"}
)
_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND", "GatherBlockQuantized"})
_SMALL = 1024  # elements of constants whose values shape inference may need


class Shapes:
    """Element type and shape of the tensors that inference finds, as the file leaves them and with free sizes at 1."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @cached_property
    def known(self) -> dict[str, tuple[Any, tuple[int | None, ...]]]:
        """As the file leaves them; ``None`` for free sizes."""
        return _inferred(self._model)

    @cached_property
    def of_one(self) -> dict[str, tuple[Any, tuple[int | None, ...]]]:
        """Of one sample."""
        import onnx

        fixed = onnx.ModelProto()
        fixed.CopyFrom(self._model)
        del fixed.graph.value_info[:]
        for value in [*fixed.graph.input, *fixed.graph.output]:
            for dimension in value.type.tensor_type.shape.dim:
                if not dimension.dim_value > 0:
                    dimension.dim_value = 1
        return _inferred(fixed)

    def elements(self, name: str) -> int:
        """Of one sample; 0 where the shape is not known."""
        return prod(size or 1 for size in self.of_one[name][1]) if name in self.of_one else 0

    def size_bytes(self, name: str) -> int:
        """Of one sample; 0 where the shape is not known."""
        return self.elements(name) * int(self.of_one[name][0].itemsize) if name in self.of_one else 0


def _inferred(model: Any) -> dict[str, tuple[Any, tuple[int | None, ...]]]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        if tensor.elem_type and tensor.elem_type != onnx.TensorProto.STRING and tensor.HasField("shape"):
            sizes = tuple(size.dim_value if size.dim_value > 0 else None for size in tensor.shape.dim)
            found[value.name] = (onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), sizes)
    return found


def node_weight_bytes(flow: Dataflow, number: int) -> int:
    """Of a node and the constant nodes (such as DequantizeLinear) that it reads."""
    reads = {name for one in members(flow.with_constants(1 << number)) for name in flow.reads[one]}
    return sum(tensor_bytes(flow.weights[name]) for name in reads if name in flow.weights)


def node_macs(flow: Dataflow, number: int, shapes: Shapes) -> int:
    """Of one sample: elements of the output times what each sums up; recurrent layers by their weights and steps."""
    node = flow.nodes[number]
    out = shapes.elements(node.output[0]) if node.output else 0
    second = _sizes(flow, shapes, node.input[1]) if len(node.input) > 1 else ()
    first = _sizes(flow, shapes, node.input[0]) if node.input else ()
    kind = node.op_type
    if kind in _CONVOLUTIONS:
        weight = _sizes(flow, shapes, node.input[3]) if kind == "QLinearConv" else second
        return out * prod(weight[1:])
    if kind == "ConvTranspose":
        return prod(first) * prod(second[1:])
    if kind in _PRODUCTS:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return out * (first[0 if transposed else -1] if first else 0)
    if kind in _RECURRENT:
        steps = first[0] * first[1] if len(first) == 3 else 1
        return steps * (prod(second) + prod(_sizes(flow, shapes, node.input[2])))
    return 0


def _sizes(flow: Dataflow, shapes: Shapes, name: str) -> tuple[int, ...]:
    if name in flow.weights:
        return tuple(flow.weights[name].dims)
    return tuple(size or 1 for size in shapes.of_one[name][1]) if name in shapes.of_one else ()


def work_of(path: Path) -> Work | None:
    """What one sample of a network takes; ``None`` where the file cannot be counted.

    Inner graphs, and operators whose sizes nobody can work out, count without their products: too little, never too
    much.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        _without_values(model)
        return _counted(Dataflow(model), Shapes(model))
    except (OSError, ValueError, IndexError, TypeError, ModelError, onnx.shape_inference.InferenceError):
        return None
    except Exception as error:  # protobuf's DecodeError is not importable from a stable place
        if type(error).__name__ == "DecodeError":
            return None
        raise


def _counted(flow: Dataflow, shapes: Shapes) -> Work:
    compute = list(members(flow.alive & ~flow.constant))
    macs = {number: node_macs(flow, number, shapes) for number in compute}
    narrow = {number for number in compute if _is_narrow(flow, number)}
    outputs = [name for number in compute for name in flow.nodes[number].output if name]
    reads = {name for one in members(flow.alive) for name in flow.reads[one] if name in flow.weights}
    return Work(
        macs=sum(count for number, count in macs.items() if number not in narrow),
        narrow_macs=sum(count for number, count in macs.items() if number in narrow),
        spared_macs=sum(count for number, count in macs.items() if _may_be_spared(flow, number)),
        weight_bytes=sum(tensor_bytes(flow.weights[name]) for name in reads),
        activation_bytes=sum(map(shapes.size_bytes, outputs)),
        operators=dict(sorted(Counter(flow.nodes[number].op_type for number in compute).items())),
        table_bytes=sum(tensor_bytes(flow.weights[name]) for name in reads if _is_table(flow, name)),
        uncounted=sum(any(name and name not in shapes.of_one for name in flow.nodes[one].output) for one in compute),
    )


def _is_table(flow: Dataflow, name: str) -> bool:
    """Whether rows are looked up in a tensor, or in what it is once it is dequantised, and nothing else reads it."""
    readers = [flow.nodes[number] for number in members(flow.readers.get(name, 0) & flow.alive)]
    return bool(readers) and all(
        node.input[0] == name
        and (node.op_type in _LOOKUPS or (node.op_type == "DequantizeLinear" and _is_table(flow, node.output[0])))
        for node in readers
    )


def _is_narrow(flow: Dataflow, number: int) -> bool:
    """Whether a product is one of 8 bits, or would be once a runtime has merged it with its Q/DQ pairs."""
    node = flow.nodes[number]
    if node.op_type in _NARROW:
        return True
    sides = [flow.maker.get(name) for name in node.input[:2]]
    return node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose") and all(
        side is not None and flow.nodes[side].op_type == "DequantizeLinear" for side in sides
    )


def _may_be_spared(flow: Dataflow, number: int) -> bool:
    """Whether a convolution is one that Winograd's algorithms apply to: 3x3, stride 1, all channels together."""
    node = flow.nodes[number]
    given = {attribute.name: list(attribute.ints) or attribute.i for attribute in node.attribute}
    plain = set(given.get("strides") or [1]) | set(given.get("dilations") or [1]) == {1}
    return node.op_type == "Conv" and given.get("kernel_shape") == [3, 3] and plain and given.get("group", 1) == 1


def _without_values(model: Any) -> None:
    """Forget the values of large weights: their sizes are all that is counted, and inference copies the model."""
    for tensor in model.graph.initializer:
        if prod(tensor.dims) > _SMALL:
            for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(name)
