"""TFLite files as objects: reading, writing, the record in their metadata, and which weights a layer has.

Runs where ai-edge-litert is installed, whose generated reader of TFLite's flatbuffers is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NAME = b"edgeopt"
_WEIGHT_PLACES = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D": 1,
    "EMBEDDING_LOOKUP": 1,
    "BATCH_MATMUL": 1,
}
_ACTIVATION_PLACES = {"TRANSPOSE_CONV": 2}


@dataclass(frozen=True)
class Layer:
    """An operator with constant weights.

    Attributes:
        name: Of its output tensor.
        kind: TFLite's name of the operator.
        weights: Element type of the weights as they are stored, for example ``INT8``.
        activations: Element type of its input.
        elements: How many weights.
    """

    name: str
    kind: str
    weights: str
    activations: str
    elements: int


def load(path: Path) -> Any:
    """The file as a `ModelT`, with all weights in it: writers of large files put them behind the flatbuffer."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 say that there is none
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def save(model: Any, path: Path) -> None:
    """Write a `ModelT`; the same model gives the same bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def attach(model: Any, document: dict[str, Any]) -> None:
    """Put a record into the model's metadata, in place of an older one."""
    from ai_edge_litert import schema_py_generated as schema

    data = list(json.dumps(document, sort_keys=True).encode())
    for entry in model.metadata or ():
        if entry.name == NAME:
            model.buffers[entry.buffer].data = data
            return
    buffer = schema.BufferT()
    buffer.data = data
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or ()), entry]


def attached(model: Any) -> dict[str, Any]:
    """The record in the model's metadata."""
    entry = next(entry for entry in model.metadata if entry.name == NAME)
    document: dict[str, Any] = json.loads(bytes(model.buffers[entry.buffer].data))
    return document


def text(name: Any) -> str:
    """A name as text: the reader gives bytes."""
    return name.decode() if isinstance(name, bytes) else str(name or "")


def layers(model: Any) -> Iterator[Layer]:
    """Every operator with constant weights, of all graphs."""
    for graph in model.subgraphs:
        dequantised = {op.outputs[0]: op.inputs[0] for op in graph.operators if _kind(model, op) == "DEQUANTIZE"}
        for op in graph.operators:
            kind = _kind(model, op)
            if kind not in _WEIGHT_PLACES:
                continue
            place = op.inputs[_WEIGHT_PLACES[kind]]
            stored = graph.tensors[dequantised.get(place, place)]
            if model.buffers[stored.buffer].data is None:
                continue  # a product of two activations
            fed = graph.tensors[op.inputs[_ACTIVATION_PLACES.get(kind, 0)]]
            name = text(graph.tensors[op.outputs[0]].name)
            yield Layer(name, kind, _types()[stored.type], _types()[fed.type], _count(stored.shape))


def _kind(model: Any, op: Any) -> str:
    code = model.operatorCodes[op.opcodeIndex]
    return _operators()[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _count(shape: Any) -> int:
    product = 1
    for size in shape:
        product *= int(size)
    return product


@cache
def _types() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


@cache
def _operators() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
