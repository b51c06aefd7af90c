"""Merges models that begin alike: what they compute in common is stored and run once, each keeps its own head.

Two nodes are the same where operator, attributes, inputs and the values of weights are: value numbering, as compilers
find common subexpressions (Cocke and Schwartz, Programming languages and their compilers, 1970). Names do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.dataflow import RANDOM, Dataflow, members, reads_of
from edgeopt.graph.inspect import tensor_bytes
from edgeopt.graph.joining import Joined, agree_on_versions, rename, shell_like


@dataclass(frozen=True)
class Merged:
    """A model of several.

    Attributes:
        model: The `onnx.ModelProto`.
        inputs, outputs: For each source in order: its names, by the names they have in the whole.
        shared_nodes: Nodes that are stored once instead of several times.
        shared_bytes: Bytes of weights saved by that.
        notes: What the user should know.
    """

    model: Any
    inputs: tuple[dict[str, str], ...]
    outputs: tuple[dict[str, str], ...]
    shared_nodes: int
    shared_bytes: int
    notes: tuple[str, ...] = field(default=())


def share_trunk(models: Sequence[Any], names: Sequence[str]) -> Merged:
    """One model with the outputs of all; what begins alike is there once.

    Args:
        models: Checked models, at least two.
        names: What to call them: in messages, and before names that clash.

    Raises:
        ModelError: Nothing that reads an input is the same in two of them.
    """
    agreed, notes = agree_on_versions(models)
    merging = _Merging(shell_like(agreed[0]), agreed[0], notes)
    merging.joined.reserve(name for model in agreed for name in Dataflow(model).inputs)
    for model, name in zip(agreed, names, strict=True):
        merging.add(model, name)
    if not merging.shared_nodes:
        raise ModelError(
            f"{', '.join(names)} have nothing in common: no layer that reads an input is in two of them, and no output "
            "feeds an input.",
            remedy="Merge models that begin with equal layers and weights, or name those of a chain front to back.",
        )
    return Merged(
        merging.joined.model,
        tuple(merging.inputs),
        tuple(merging.outputs),
        merging.shared_nodes,
        merging.shared_bytes,
        tuple(notes),
    )


class _Merging:
    """The whole while models are added to it."""

    def __init__(self, shell: Any, first: Any, notes: list[str]) -> None:
        self.joined = Joined(shell)
        self.inputs: list[dict[str, str]] = []
        self.outputs: list[dict[str, str]] = []
        self.shared_nodes = 0
        self.shared_bytes = 0
        self._notes = notes
        self._first = Dataflow(first)
        self._inputs = {value.name: value for value in first.graph.input}
        self._seen: dict[str, list[str]] = {}
        self._given: set[str] = set()

    def add(self, model: Any, called: str) -> None:
        """Add a model: its weights, then its nodes, each looked up first."""
        flow, names = Dataflow(model), dict[str, str]()
        suffix = "_" + "".join(letter if letter.isalnum() else "_" for letter in called)
        values = {value.name: value for value in model.graph.input}
        for name in flow.inputs:
            self._input(values[name], flow, names, called)
        there = {name for name, tensor in flow.weights.items() if self.joined.weight(tensor, names, suffix)}
        shared, before = set[int](), set(self._seen)
        for number, node in enumerate(flow.nodes):
            key = _node_key(node, names)
            if key in self._seen:
                names.update(zip(node.output, self._seen[key], strict=False))
                shared.update({number} if key in before else ())
            else:
                self.joined.node(node, names, suffix)
                self._seen[key] = [names.get(name, "") for name in node.output]
        self._count(flow, shared, there)
        self.inputs.append({name: names[name] for name in flow.inputs})
        self.outputs.append({value.name: self._output(value, names, suffix, called) for value in model.graph.output})

    def _input(self, value: Any, flow: Dataflow, names: dict[str, str], called: str) -> None:
        """An input of the same name is the same; so is the only one, whatever it is called."""
        import onnx

        first = self._first.inputs[0]
        alone = len(flow.inputs) == len(self._first.inputs) == 1 and _form(self._inputs[first]) == _form(value)
        own = first if alone and value.name not in self._inputs else value.name
        known = self._inputs.get(own)
        if known is None:
            self._inputs[own] = known = value
        if _form(known) != _form(value):
            a, b = onnx.helper.printable_type(known.type), onnx.helper.printable_type(value.type)
            raise ModelError(
                f"input {value.name} of {called} is {b}, and {a} in the others.",
                remedy="Export them with the same input sizes and types.",
            )
        if own != value.name:
            self._notes.append(f"Input {value.name} of {called} is {own} in the whole.")
        self.joined.input(known, {})
        names[value.name] = own

    def _count(self, flow: Dataflow, shared: set[int], there: set[str]) -> None:
        """What this model has in common with those before it, of the part that reads inputs."""
        useful = set(members(flow.alive & ~flow.constant)) & shared
        with_constants = {one for number in useful for one in members(flow.with_constants(1 << number))} & shared
        read = {name for number in with_constants for name in reads_of(flow.nodes[number])}
        self.shared_nodes += len(useful)
        self.shared_bytes += sum(tensor_bytes(flow.weights[name]) for name in read & there)

    def _output(self, value: Any, names: dict[str, str], suffix: str, called: str) -> str:
        """Its name in the whole: its own where that is free, else one of its own by an Identity."""
        import onnx

        there = names[value.name]
        if there not in self._given and there not in self._inputs:
            self._given.add(there)
            self.joined.give(value, there)
        else:
            free = self.joined.free(value.name, suffix)
            self.joined.graph.node.append(onnx.helper.make_node("Identity", [there], [free], name=free))
            self._given.add(free)
            self.joined.give(value, free)
            there = free
        if there != value.name:
            self._notes.append(f"Output {value.name} of {called} is {there} in the whole.")
        return there


def _form(value: Any) -> tuple[Any, ...]:
    """Element type and sizes; free ones are equal, whatever they are called."""
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(max(0, size.dim_value) for size in tensor.shape.dim)


def _node_key(node: Any, names: dict[str, str]) -> str:
    """Equal for nodes that compute the same: operator, attributes, and inputs by their names in the whole."""
    import onnx

    if node.op_type in RANDOM:
        return f"{id(node)}"
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    rename(plain, {**names, **{name: "" if not name else f"output {place}" for place, name in enumerate(node.output)}})
    plain.ClearField("name")
    plain.ClearField("doc_string")
    plain.ClearField("metadata_props")
    attributes = sorted(plain.attribute, key=lambda attribute: attribute.name)
    del plain.attribute[:]
    plain.attribute.extend(attributes)
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()
