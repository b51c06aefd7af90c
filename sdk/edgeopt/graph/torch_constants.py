"""Computes what is constant in an ONNX graph: initialisers, Constant nodes, and all that depends on those alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session

_NEVER = frozenset(
    {
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"),
        *("Dropout", "QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"),
    }
)
"""Random ones differ at every run; folding a quantiser away would lose what it says."""


@dataclass(frozen=True)
class Folded:
    """A graph split in what is constant and what has to run.

    Attributes:
        values: Constant tensors by name.
        literals: Those that come from Constant nodes alone: numbers of the program rather than weights.
        nodes: What has to run, in order.
    """

    values: dict[str, np.ndarray[Any, Any]]
    literals: frozenset[str]
    nodes: tuple[Any, ...]


def fold(model: Any) -> Folded:
    """Split the graph of `model`, which is not changed.

    Raises:
        ModelError: A constant part cannot be computed.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    literals: set[str] = set()
    aliases: dict[str, str] = {}
    known = {*values, ""}
    constant, running = [], []
    for node in model.graph.node:
        if not _foldable(node, known):
            running.append(node)
            continue
        known.update(node.output)
        if all(name in literals or not name for name in node.input):
            literals.update(node.output)
        if node.op_type == "Identity":
            aliases[node.output[0]] = aliases.get(node.input[0], node.input[0])
        else:
            constant.append(node)
    values |= _compute(model, constant, aliases, values)
    for name, source in aliases.items():
        values[name] = values[source]
    return Folded(values, frozenset(literals), tuple(running))


def _foldable(node: Any, known: set[str]) -> bool:
    plain = node.domain in ("", "ai.onnx") and node.op_type not in _NEVER
    inner = any(
        attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
    )
    return plain and not inner and all(name in known for name in node.input)


def _compute(model: Any, nodes: list[Any], aliases: dict[str, str], weights: dict[str, Any]) -> dict[str, Any]:
    """Outputs of the constant nodes: those of Constant nodes read, the rest computed by ONNX Runtime."""
    made = {node.output[0]: read_constant(node) for node in nodes if node.op_type == "Constant"}
    rest = []
    for node in nodes:
        if node.op_type != "Constant":
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [aliases.get(name, name) for name in node.input]
            rest.append(copy)
    if not rest:
        return made
    given = {name for node in rest for name in node.input if name in weights or name in made}
    initialisers = [
        numpy_helper.from_array(weights[name] if name in weights else made[name], name) for name in sorted(given)
    ]
    wanted = [name for node in rest for name in node.output if name]
    graph = onnx.helper.make_graph(rest, "constants", [], _untyped(wanted), initialisers)
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made | dict(zip(wanted, _run(part, wanted), strict=True))


def _untyped(names: Iterable[str]) -> list[Any]:
    return [onnx.ValueInfoProto(name=name) for name in names]


def _run(part: Any, wanted: list[str]) -> list[Any]:
    try:
        return list(open_session(part.SerializeToString()).run(wanted, {}))
    except Exception:  # a type that ONNX Runtime has no kernel for; onnx's own evaluator is slower and has all of them
        from onnx.reference import ReferenceEvaluator

        try:
            return list(ReferenceEvaluator(part).run(wanted, {}))
        except Exception as error:
            raise ModelError(f"the constant part of the graph cannot be computed: {error}") from None


def read_constant(node: Any) -> np.ndarray[Any, Any]:
    """The value of a Constant node.

    Raises:
        ModelError: It holds strings or a sparse tensor.
    """
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        raise ModelError(f"Constant {node.name or node.output[0]} holds {attribute.name}, which cannot be taken in.")
    return np.asarray(value, kinds[attribute.name])
