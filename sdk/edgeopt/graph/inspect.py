"""What is in an ONNX file: signature, versions, operators, parameters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.errors import ModelError


@dataclass(frozen=True)
class Inspection:
    """What one look at an ONNX file tells.

    Attributes:
        signature: Inputs (without initialisers) and outputs.
        opset: Version of the default operator set.
        ir_version: Version of ONNX's own format.
        operators: How many nodes of each kind, subgraphs included; those outside the default set as ``domain.Kind``.
        parameters: Elements of all weights.
        weight_bytes: Bytes of all weights.
    """

    signature: Signature
    opset: int
    ir_version: int
    operators: Mapping[str, int]
    parameters: int
    weight_bytes: int


def inspect_onnx(path: Path) -> Inspection:
    """Look into an ONNX file; it is not run.

    Raises:
        ModelError: It cannot be read or is not ONNX.
    """
    return inspect_model(_load(path))


def structure_digest(path: Path) -> str:
    """Digest of a graph without the values of its weights: equal ones take the same time and memory to run.

    Raises:
        ModelError: It cannot be read or is not ONNX.
    """
    model = _load(path)
    digest = hashlib.sha256()
    for tensor in sorted(all_weights(model.graph), key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        tensor.Clear()
    digest.update(model.graph.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _load(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is not importable from a stable place
        raise ModelError(f"{path} cannot be read as ONNX: {error}") from None


def inspect_model(model: Any) -> Inspection:
    """The same for an `onnx.ModelProto` in memory."""
    weights = list(all_weights(model.graph))
    return Inspection(
        signature=signature_of(model),
        opset=opset_of(model),
        ir_version=model.ir_version,
        operators=dict(sorted(Counter(_kind(node) for node in all_nodes(model.graph)).items())),
        parameters=sum(_elements(tensor) for tensor in weights),
        weight_bytes=sum(tensor_bytes(tensor) for tensor in weights),
    )


def opset_of(model: Any) -> int:
    """Version of the default operator set; 0 where the model does not say."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def signature_of(model: Any) -> Signature:
    """Inputs that are not initialisers, and outputs, with their shapes.

    Raises:
        ModelError: An input or output is not a tensor (a sequence, a map, an optional) or holds strings.
    """
    inner = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        inputs=tuple(_spec(value, "input") for value in model.graph.input if value.name not in inner),
        outputs=tuple(_spec(value, "output") for value in model.graph.output),
    )


def _spec(value: Any, role: str) -> TensorSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "nothing"
        raise ModelError(
            f"{role} `{value.name}` is a {kind.replace('_type', '')}, not a tensor.",
            remedy="Export the network so that it takes and gives plain tensors.",
        )
    tensor = value.type.tensor_type
    if tensor.elem_type == onnx.TensorProto.STRING:
        raise ModelError(
            f"{role} `{value.name}` holds strings; edgeopt works on numbers.",
            remedy="Cut the text processing (tokeniser, label names) off the graph and export the rest.",
        )
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "float32"
    return TensorSpec(value.name, dtype, tuple(_size(dimension) for dimension in tensor.shape.dim))


def _size(dimension: Any) -> int | None:
    known = dimension.HasField("dim_value") and dimension.dim_value >= 0  # -1 is what some exporters write for dynamic
    return int(dimension.dim_value) if known else None


def all_nodes(graph: Any) -> Iterator[Any]:
    """Nodes of a graph and of the graphs inside them (If, Loop, Scan)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from all_nodes(inner)


def _kind(node: Any) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def all_weights(graph: Any) -> Iterator[Any]:
    """Initialisers and constants (`TensorProto`) of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield attribute.t
            for inner in [attribute.g, *attribute.graphs]:
                yield from inner.initializer


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def tensor_bytes(tensor: Any) -> int:
    """Size of a weight's data in bytes; 4-bit types take half a byte an element."""
    import onnx

    half = {getattr(onnx.TensorProto, name, None) for name in ("INT4", "UINT4", "FLOAT4E2M1")}
    if tensor.data_type in half:
        return (_elements(tensor) + 1) // 2
    return _elements(tensor) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
