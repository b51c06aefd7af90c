"""Layers of an ONNX graph that can be written as a product of smaller ones, and what they do in one inference.

Weights are read through the constant nodes (Transpose, Slice, Concat) that exporters put behind them, so that a network
need not be folded, and its batch norms not fused, before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgeopt.errors import ModelError
from edgeopt.passes.factoring.factors import Array, Geometry
from edgeopt.passes.graphs.feeds import inner_values
from edgeopt.passes.graphs.layers import attribute

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_WEIGHT_INPUT = 1
_WIDEST = 8192
"""Inputs of a layer above which their second moment would take more than 512 MiB."""
STAGE = "/low_rank_"
"""Between a layer's name and the number of a stage."""


@dataclass(frozen=True)
class Layer:
    """A node with a constant weight.

    Attributes:
        node: The `NodeProto`.
        weight: [out, in / groups, *kernel].
        reason: Why it cannot be factorised; empty where it can.
        other: Elements of weights that the node multiplies with besides.
    """

    node: Any
    weight: Array
    reason: str = ""
    other: int = 0

    @property
    def name(self) -> str:
        """The node's name, or its first output's where it has none."""
        return str(self.node.name or self.node.output[0])

    @property
    def fed(self) -> str:
        """The tensor that it is applied to."""
        return str(self.node.input[0])


def without_stage(name: str) -> str:
    """The layer that a stage's node was made of."""
    return name.split(STAGE)[0]


def find_layers(model: Any) -> list[Layer]:
    """The layers with constant weights, in the order of the graph; branches of `If` and `Loop` are not looked into."""
    kinds = {"Conv", "Gemm", "MatMul"} | RECURRENT
    nodes = [node for node in model.graph.node if node.op_type in kinds and node.domain in ("", "ai.onnx")]
    constants = constant_values(model, [name for node in nodes for name in node.input[1:3] if name])
    users: dict[str, int] = {}
    for node in nodes:
        users[node.input[_WEIGHT_INPUT]] = users.get(node.input[_WEIGHT_INPUT], 0) + 1
    found = [_layer(node, constants) for node in nodes if node.input[_WEIGHT_INPUT] in constants]
    return [
        Layer(layer.node, layer.weight, "it shares its weight", layer.other)
        if users[layer.node.input[_WEIGHT_INPUT]] > 1 and not layer.reason
        else layer
        for layer in found
    ]


def _layer(node: Any, constants: Mapping[str, Array]) -> Layer:
    weight = constants[node.input[_WEIGHT_INPUT]]
    turned = "it transposes its input" if attribute(node, "transA", 0) else ""
    if weight.dtype != np.float32:
        return Layer(node, weight, f"its weight is {weight.dtype}")
    if node.op_type == "Conv":
        return Layer(node, weight, "grouped or depthwise" if attribute(node, "group", 1) != 1 else "")
    if node.op_type in RECURRENT:
        recurrent = constants.get(node.input[2])
        other = 0 if recurrent is None else int(recurrent.size)
        return Layer(node, weight.reshape(-1, weight.shape[-1]), other=other)
    if weight.ndim != 2:
        return Layer(node, weight, f"its weight has {weight.ndim} dimensions")
    return Layer(node, weight if attribute(node, "transB", 0) else weight.T, turned)


def constant_values(model: Any, names: Iterable[str]) -> dict[str, Array]:
    """Values of those tensors that depend on no input of the graph."""
    held = {tensor.name for tensor in model.graph.initializer}
    made, nodes = set(held), []
    for node in model.graph.node:
        if all(not name or name in made for name in node.input) and not any(a.HasField("g") for a in node.attribute):
            made.update(node.output)
            nodes.append(node)
    wanted = sorted({name for name in names if name in made})
    computed = [name for name in wanted if name not in held]
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in wanted}
    if computed:
        outputs = [onnx.ValueInfoProto(name=name) for name in computed]
        graph = onnx.helper.make_graph(nodes, "constants", [], outputs, list(model.graph.initializer))
        part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        session = onnxruntime.InferenceSession(part.SerializeToString(), _quiet(), providers=["CPUExecutionProvider"])
        values.update(zip(computed, session.run(computed, {}), strict=True))
    return values


def _quiet() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options


@dataclass
class Observed:
    """What a layer does in one inference: how often its weight is used, and the mean of x xᵀ over its inputs."""

    geometry: Geometry
    moment: Array | None = None
    vectors: int = 0


def observe(
    model: Any, layers: Sequence[Layer], samples: Path | None, *, limit: int, work: Path, moments: bool
) -> dict[str, Observed]:
    """Run samples, or zeros where there are none, and watch the layers' inputs and outputs.

    Args:
        model: The network.
        layers: Those of interest.
        samples: Sample file, or ``None``.
        limit: Largest number of samples.
        work: Folder for the network that shows its inner tensors.
        moments: Whether `Observed.moment` is wanted; wider layers than memory allows get none.

    Returns:
        By layer name.

    Raises:
        ModelError: The network does not run.
    """
    tensors = {name for layer in layers for name in (layer.fed, layer.node.output[0] or layer.node.output[1])}
    found: dict[str, Observed] = {}
    for values in inner_values(model, tensors, samples, limit=limit if moments else 1, work=work):
        for layer in layers:
            x, y = values[layer.fed], values[layer.node.output[0] or layer.node.output[1]]
            seen = found.setdefault(layer.name, Observed(_geometry(layer, x, y)))
            if moments and layer.weight.shape[1] <= _WIDEST:
                _add(seen, np.moveaxis(x, 1, -1) if layer.node.op_type == "Conv" else x)
    return found


def _geometry(layer: Layer, x: Array, y: Array) -> Geometry:
    if layer.node.op_type == "Conv":
        return Geometry(x.shape[0], tuple(x.shape[2:]), tuple(y.shape[2:]))
    return Geometry(int(np.prod(x.shape[:-1])))


def _add(seen: Observed, x: Array) -> None:
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    moment = rows.T @ rows
    if not np.isfinite(moment).all():
        raise ModelError("a layer's inputs are not finite on the calibration samples.")
    before = 0.0 if seen.moment is None else seen.moment * seen.vectors
    seen.vectors += len(rows)
    seen.moment = (before + moment) / max(1, seen.vectors)
