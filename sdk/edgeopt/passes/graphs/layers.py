"""The layers of an ONNX graph that have constant weights, and reading and writing these in one form for all operators.

Weights are always [O, I / groups, *kernel], outputs first, whatever the operator stores; biases are always [O]. A
network starts best from `graphs.prepare.prepare`, where batch norms are folded and transposed weights are constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeopt.passes.graphs.questions import reads, save_sorted

OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that are layers where their second input is constant."""

Array = NDArray[Any]

_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Layer:
    """A node with constant weights.

    Attributes:
        name: The node's name.
        operator: ``Conv``, ``Gemm`` or ``MatMul``.
        input: Tensor that it reads.
        outputs: Output channels.
        inputs: Input channels over all groups.
        groups: Groups of a convolution, else 1.
        kernel: Spatial extents of a convolution's kernel, else ().
    """

    name: str
    operator: str
    input: str
    outputs: int
    inputs: int
    groups: int = 1
    kernel: tuple[int, ...] = ()

    @property
    def depthwise(self) -> bool:
        """Whether each input channel has filters of its own."""
        return self.groups > 1 and self.groups == self.inputs


class Network:
    """A graph and its layers; writes go into the model that it was given.

    Args:
        model: The model; changed by the setters.

    Attributes:
        model: The same.
        layers: In topological order.
        skipped: Why a node of `OPERATORS` with constant weights is not among them, by its name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.skipped: dict[str, str] = {}
        self._index()
        self.layers: tuple[Layer, ...] = tuple(self._find())

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read an ONNX file."""
        return cls(onnx.load(path))

    def save(self, path: Path) -> None:
        """Write the model, without the operator sets and the constants that no node uses."""
        unused = [tensor for tensor in self.model.graph.initializer if not self._uses[tensor.name]]
        for tensor in unused:
            self.model.graph.initializer.remove(tensor)
        used = {node.domain for node in self.model.graph.node} | {"", "ai.onnx"}
        kept = [entry for entry in self.model.opset_import if entry.domain in used]
        del self.model.opset_import[:]
        self.model.opset_import.extend(kept)
        save_sorted(self.model, path)

    def node(self, name: str) -> onnx.NodeProto:
        """The node of that name."""
        return self._nodes[name]

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; ``None`` for inputs and constants."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """Nodes that read a tensor, those with a subgraph that does included."""
        return self._consumers.get(tensor, [])

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor, once; ``None`` where there are more, or where it is an output."""
        found = self.consumers(tensor)
        if len(found) != 1 or tensor in self._outputs or list(reads(found[0])).count(tensor) != 1:
            return None
        return found[0]

    def constant(self, name: str) -> Array | None:
        """The value of an initialiser; ``None`` where there is none of that name."""
        tensor = self._initialisers.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def set_constant(self, node: onnx.NodeProto, index: int, values: Array) -> None:
        """Give input `index` of a node another value; what others read under the same name stays."""
        name = node.input[index] if index < len(node.input) else ""
        if name and self._uses[name] == 1:
            self._initialisers[name].CopyFrom(numpy_helper.from_array(values, name))
            return
        own = self._free_name(f"{name or f'{node.name}_bias'}")
        self.model.graph.initializer.append(numpy_helper.from_array(values, own))
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = own
        self._index()

    def weight(self, layer: Layer) -> Array:
        """Weights of a layer, float32 [O, I / groups, *kernel]."""
        node = self._nodes[layer.name]
        stored = numpy_helper.to_array(self._initialisers[node.input[1]])
        return np.array(stored.T if _stored_transposed(node) else stored)

    def set_weight(self, layer: Layer, values: Array) -> None:
        """Write weights [O, I / groups, *kernel]."""
        node = self._nodes[layer.name]
        form = values.T if _stored_transposed(node) else values
        self.set_constant(node, 1, np.ascontiguousarray(form, dtype=np.float32))

    def has_bias(self, layer: Layer) -> bool:
        """Whether there is a bias, or room for one that costs no node."""
        return layer.operator != "MatMul" or self._bias_place(layer) is not None

    def bias(self, layer: Layer) -> Array:
        """Biases of a layer, float32 [O]; zeros where it has none."""
        place = self._bias_place(layer)
        if place is None:
            return np.zeros(layer.outputs, dtype=np.float32)
        stored = self.constant(place[0].input[place[1]])
        assert stored is not None
        return np.array(np.broadcast_to(stored.reshape(-1), (layer.outputs,)))

    def set_bias(self, layer: Layer, values: Array) -> None:
        """Write biases [O]; a MatMul without gets an Add behind it, so that `output` keeps its name."""
        node, place = self._nodes[layer.name], self._bias_place(layer)
        values = np.ascontiguousarray(values, dtype=np.float32)
        if place is not None:
            shape = self._initialisers[place[0].input[place[1]]].dims
            self.set_constant(*place, values.reshape(shape) if np.prod(shape) == values.size else values)
        elif layer.operator != "MatMul":
            self.set_constant(node, 2, values)
        else:
            self._append_add(node, values)

    def output(self, layer: Layer) -> str:
        """The tensor that holds the layer's result, the bias of a MatMul included."""
        node, place = self._nodes[layer.name], self._bias_place(layer)
        return str(place[0].output[0] if place and layer.operator == "MatMul" else node.output[0])

    def become(self, node: onnx.NodeProto, operator: str) -> None:
        """Make a node another operator without attributes that reads the node's first input alone."""
        node.op_type = operator
        del node.input[1:]
        del node.attribute[:]
        self._index()

    def read_through(self, layer: Layer, operator: str, constants: Sequence[Array]) -> None:
        """Put a node in front of a layer, which alone reads its tensor through it; others go on as before."""
        node = self._nodes[layer.name]
        places = [self._free_name(f"{layer.name}/{operator}_{index}") for index in range(len(constants))]
        self.model.graph.initializer.extend(map(numpy_helper.from_array, constants, places))
        made, name = self._free_name(f"{layer.input}_{operator}"), self._free_name(f"{layer.name}/{operator}")
        self.model.graph.node.append(onnx.helper.make_node(operator, [layer.input, *places], [made], name=name))
        node.input[0] = made
        self._index()

    def _append_add(self, node: onnx.NodeProto, values: Array) -> None:
        final, inner = node.output[0], self._free_name(f"{node.output[0]}_unbiased")
        name = self._free_name(f"{node.name}_bias")
        node.output[0] = inner
        self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        self.model.graph.node.append(onnx.helper.make_node("Add", [inner, name], [final], name=name))
        self._index()

    def _bias_place(self, layer: Layer) -> tuple[onnx.NodeProto, int] | None:
        """Node and input index of the constant that is the bias."""
        node = self._nodes[layer.name]
        if layer.operator != "MatMul":
            return (node, 2) if len(node.input) > 2 and node.input[2] else None
        add = self.only_consumer(node.output[0])
        if add is None or add.op_type != "Add":
            return None
        index = 1 - list(add.input).index(node.output[0])
        tensor = self._initialisers.get(add.input[index])
        if (
            tensor is None
            or not tensor.dims
            or tensor.dims[-1] != layer.outputs
            or np.prod(tensor.dims) != layer.outputs
        ):
            return None
        return add, index

    def _index(self) -> None:
        graph = self.model.graph
        self._nodes: dict[str, onnx.NodeProto] = {node.name: node for node in graph.node}
        self._initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self._outputs = {value.name for value in graph.output}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._uses: Counter[str] = Counter(self._outputs)
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            names = [name for name in reads(node) if name]
            self._uses.update(names)
            for name in dict.fromkeys(names):
                self._consumers.setdefault(name, []).append(node)

    def _find(self) -> Iterator[Layer]:
        fed = {value.name for value in self.model.graph.input}
        for node in self.model.graph.node:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
                continue
            tensor = self._initialisers.get(node.input[1])
            if tensor is None:
                continue
            reason = "its weights are also an input" if node.input[1] in fed else self._reason(node, tensor)
            if reason:
                self.skipped[node.name] = reason
            else:
                yield _layer(node, tensor)

    def _reason(self, node: onnx.NodeProto, tensor: onnx.TensorProto) -> str:
        """Why a node cannot be handled; empty where it can."""
        if tensor.data_type != _FLOAT:
            return f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()} weights"
        if node.op_type == "MatMul":
            return "" if len(tensor.dims) == 2 else f"weights of {len(tensor.dims)} dimensions"
        if len(node.input) > 2 and node.input[2] and node.input[2] not in self._initialisers:
            return "a computed bias"
        if node.op_type == "Gemm" and (attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0):
            return "transA or alpha"
        return "beta" if node.op_type == "Gemm" and attribute(node, "beta", 1.0) != 1.0 else ""

    def _free_name(self, wanted: str) -> str:
        taken = {*self._initialisers, *self._producers, *self._nodes, *self._uses}
        return next(name for name in (f"{wanted}_{count}" for count in range(1 << 20)) if name not in taken)


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute, text as `str`."""
    for entry in node.attribute:
        if entry.name == name:
            value = onnx.helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give an attribute another value; ``None`` takes it away."""
    others = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend(others if value is None else [*others, onnx.helper.make_attribute(name, value)])


def skips(skipped: dict[str, str], total: int) -> tuple[str, ...]:
    """One sentence for `PassReport.notes` on the layers that were left out; nothing where there are none."""
    if not skipped:
        return ()
    named = ", ".join(f"{name} ({reason})" for name, reason in skipped.items())
    return (f"skipped {len(skipped)} of {total} layers: {named}",)


def _stored_transposed(node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def _layer(node: onnx.NodeProto, tensor: onnx.TensorProto) -> Layer:
    dims = tuple(tensor.dims)
    if node.op_type == "Conv":
        groups = int(attribute(node, "group", 1))
        return Layer(node.name, "Conv", node.input[0], dims[0], dims[1] * groups, groups, dims[2:])
    outputs, inputs = reversed(dims) if _stored_transposed(node) else dims
    return Layer(node.name, node.op_type, node.input[0], outputs, inputs)
