"""What a lowered program holds: which operators XNNPACK took, and in what each layer with weights computes.

Read from XNNPACK's own graphs, as they stand in the file: annotations of a quantiser say what was wished for.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILTERED = ("XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d", "XNNFullyConnected")
_WEIGHTED = ("convolution", "linear", "addmm", "mm", "bmm", "lstm", "gru")
_PRODUCT = "XNNBatchMatrixMultiply"
_STRUCTURE = ("getitem", "executorch_call_delegate")
_INTEGERS = ("qint8", "qcint8")
_NOT_FINITE = re.compile(rb":\s*-?(?:inf|nan)\b")
"""Bounds as flatc writes them (ReLU has none above), which JSON does not know."""


@dataclass(frozen=True)
class Layer:
    """An operator with weights.

    Attributes:
        name: Of the ONNX node that it came from, or of the operator where that is not known.
        kind: XNNPACK's name, or torch's for one that XNNPACK did not take.
        weights: Element type as it is stored, ``fp32`` or ``qcint8`` for example.
        activations: Element type of its input.
    """

    name: str
    kind: str
    weights: str
    activations: str

    @property
    def is_integer(self) -> bool:
        """Whether it multiplies 8-bit weights by 8-bit activations."""
        return self.weights in _INTEGERS and self.activations in _INTEGERS


@dataclass(frozen=True)
class Census:
    """Operators that XNNPACK took, those that it did not (by name), and the layers with weights."""

    delegated: int
    portable: tuple[str, ...]
    layers: tuple[Layer, ...]


def census(program: Any, names: Mapping[str, str]) -> Census:
    """Look through a lowered program.

    Args:
        program: An `ExportedProgram` of the edge dialect.
        names: Of layers, by the names of their nodes in the graph that was exported first.
    """
    delegated, portable, layers = 0, [], []
    for node in program.graph.nodes:
        if node.op == "call_function" and _name(node.target) not in _STRUCTURE:
            portable.append(_name(node.target))
            if portable[-1] in _WEIGHTED:
                layers.append(Layer(_origin(node, names) or node.name, portable[-1], "fp32", "fp32"))
    for lowered in _lowered(program):
        graph = _xnnpack_graph(bytes(lowered.processed_bytes))
        delegated += len(graph["xnodes"])
        layers += _layers(graph, _origins(lowered, names))
    return Census(delegated, tuple(portable), tuple(layers))


def _lowered(program: Any) -> Iterator[Any]:
    for node in program.graph.nodes:
        if node.op == "get_attr":
            found = getattr(program.graph_module, str(node.target), None)
            if hasattr(found, "processed_bytes"):
                yield found


def _name(target: Any) -> str:
    """``convolution`` of ``aten.convolution.default``."""
    schema = getattr(target, "_schema", None)
    return schema.name.rpartition("::")[2] if schema else getattr(target, "__name__", str(target))


def _xnnpack_graph(payload: bytes) -> dict[str, Any]:
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialize
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = serialize.XNNHeader.from_bytes(payload[: serialize.XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        schema, binary = Path(folder, "schema.fbs"), Path(folder, "graph.bin")
        schema.write_bytes(serialize._get_schema_bytes())
        binary.write_bytes(payload[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        text = Path(folder, "graph.json").read_bytes()
        found: dict[str, Any] = json.loads(_NOT_FINITE.sub(b": null", text))
    return found


def _origins(lowered: Any, names: Mapping[str, str]) -> dict[int, str]:
    """Layers that operators came from, by debug handle."""
    found = {}
    for node in lowered.original_module.graph.nodes:
        handle, name = node.meta.get("debug_handle"), _origin(node, names)
        if name and isinstance(handle, int):
            found[handle] = name
    return found


def _origin(node: Any, names: Mapping[str, str]) -> str:
    """The layer at the root of a node's history; empty where it has none."""
    waiting = list(node.meta.get("from_node") or ())
    while waiting:
        source = waiting.pop()
        if source.name in names:
            return names[source.name]
        waiting += source.from_node or ()
    return ""


def _layers(graph: dict[str, Any], origins: Mapping[int, str]) -> Iterator[Layer]:
    values = [one["xvalue_union"] for one in graph["xvalues"]]
    tensors = {one.get("id_out", 0): one for one in (value.get("tensor_value", value) for value in values)}

    def kind(number: int) -> str:
        return str(tensors[number].get("datatype", "xnn_datatype_invalid")).removeprefix("xnn_datatype_")

    for node in graph["xnodes"]:
        what, fields = node["xnode_union_type"], node["xnode_union"]
        weights = fields.get("filter_id", 0)
        if what == _PRODUCT and tensors[fields.get("input2_id", 0)].get("constant_buffer_idx", 0):
            weights = fields["input2_id"]
        elif what not in _FILTERED:
            continue
        handle = node.get("debug_handle", 0)
        yield Layer(origins.get(handle, f"{what} {handle}"), what, kind(weights), kind(fields.get("input1_id", 0)))
