"""Puts graphs of several models into one: versions that agree, names that do not clash, equal weights stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.inspect import opset_of


def shell_like(model: Any) -> Any:
    """A model without a graph's contents: versions, functions and properties of another."""
    import onnx

    shell = onnx.ModelProto()
    shell.CopyFrom(model)
    shell.graph.Clear()
    shell.graph.name = model.graph.name
    return shell


def agree_on_versions(models: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The models at one version of the operator set and of the format: the highest among them.

    Raises:
        ModelError: One of them cannot be converted, or they need different versions of another operator set.
    """
    import onnx

    target, notes, agreed = max(opset_of(model) for model in models), [], []
    for model in models:
        if opset_of(model) != target:
            notes.append(f"A model was converted from opset {opset_of(model)} to {target}.")
            try:
                model = onnx.version_converter.convert_version(model, target)
            except Exception as error:  # the converter's errors share no base class
                raise ModelError(
                    f"the models have opsets {opset_of(model)} and {target}, and one cannot be converted: "
                    f"{' '.join(str(error).split())[:200]}",
                    remedy="Export them with the same opset.",
                ) from None
        agreed.append(model)
    domains: dict[str, int] = {}
    for model in agreed:
        for entry in model.opset_import:
            known = domains.setdefault(entry.domain or "ai.onnx", entry.version)
            if known != entry.version:
                raise ModelError(
                    f"the models need versions {known} and {entry.version} of the operators of {entry.domain!r}.",
                    remedy="Export them with the same tools.",
                )
    first = onnx.ModelProto()
    first.CopyFrom(agreed[0])
    first.ir_version = max(model.ir_version for model in agreed)
    del first.opset_import[:]
    first.opset_import.extend(onnx.helper.make_opsetid("" if d == "ai.onnx" else d, v) for d, v in domains.items())
    _take_functions(first, agreed[1:])
    return [first, *agreed[1:]], notes


def _take_functions(first: Any, others: Sequence[Any]) -> None:
    known = {(one.domain, one.name): one.SerializeToString(deterministic=True) for one in first.functions}
    for model in others:
        for one in model.functions:
            body = one.SerializeToString(deterministic=True)
            if known.setdefault((one.domain, one.name), body) != body:
                raise ModelError(f"two of the models define the function {one.name} differently.")
            if not any((own.domain, own.name) == (one.domain, one.name) for own in first.functions):
                first.functions.append(one)


def weight_digest(tensor: Any) -> str:
    """Digest of a weight's type, shape and values; its name does not matter."""
    from onnx import numpy_helper

    head = f"{tensor.data_type} {list(tensor.dims)} "
    data = tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes()
    return hashlib.sha256(head.encode() + bytes(data)).hexdigest()


class Joined:
    """Adds graphs to a model: a name that is taken by something else gets a suffix, equal weights are stored once.

    Args:
        model: The model to fill.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.graph = model.graph
        self._taken: set[str] = set()
        self._nodes: set[str] = set()
        self._reserved: set[str] = set()
        self._weights: dict[str, str] = {}

    def add(self, model: Any, known: Mapping[str, str], *, suffix: str) -> dict[str, str]:
        """Add all of a model's graph.

        Args:
            model: The model.
            known: Inputs that are there already, by the names they have in the whole.
            suffix: For names that clash.

        Returns:
            Names of all its tensors in the whole, by its own names.
        """
        names = dict(known)
        for tensor in model.graph.initializer:
            self.weight(tensor, names, suffix)
        for value in model.graph.input:
            if value.name not in names:
                self.input(value, names)
        for node in model.graph.node:
            self.node(node, names, suffix)
        return names

    def weight(self, tensor: Any, names: dict[str, str], suffix: str) -> bool:
        """Add a weight, or take the equal one that is there; whether it was there."""
        digest = weight_digest(tensor)
        there = digest in self._weights
        if not there:
            self._weights[digest] = self.free(tensor.name, suffix)
            added = self.graph.initializer.add()
            added.CopyFrom(tensor)
            added.name = self._weights[digest]
        names[tensor.name] = self._weights[digest]
        return there

    def input(self, value: Any, names: dict[str, str]) -> None:
        """Add an input; one of the same name that is there already is the same input.

        Raises:
            ModelError: An inner tensor has its name.
        """
        names[value.name] = value.name
        if any(own.name == value.name for own in self.graph.input):
            return
        if value.name in self._taken and value.name not in self._reserved:
            raise ModelError(
                f"input {value.name} of one model is an inner tensor of another.", remedy="Rename the input."
            )
        self._taken.add(value.name)
        self.graph.input.add().CopyFrom(value)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for inputs to come, so that no inner tensor gets them."""
        self._reserved.update(names)
        self._taken.update(self._reserved)

    def node(self, node: Any, names: dict[str, str], suffix: str) -> None:
        """Add a node; its outputs get names of their own."""
        self._taken.update(_inner_names(node))
        for name in node.output:
            if name:
                names[name] = self.free(name, suffix)
        added = self.graph.node.add()
        added.CopyFrom(node)
        rename(added, names)
        while added.name and added.name in self._nodes:
            added.name += suffix
        self._nodes.add(added.name)

    def give(self, value: Any, name: str) -> None:
        """Make a tensor an output of the whole."""
        added = self.graph.output.add()
        added.CopyFrom(value)
        added.name = name

    def free(self, name: str, suffix: str) -> str:
        """A name that nothing else has, taken from now on."""
        while name in self._taken:
            name += suffix
        self._taken.add(name)
        return name


def _inner_names(node: Any) -> Iterator[str]:
    """Names that inner graphs of a node define, which nothing outside of it may have."""
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from (value.name for value in [*inner.initializer, *inner.input])
            for own in inner.node:
                yield from own.output
                yield from _inner_names(own)


def rename(node: Any, names: Mapping[str, str]) -> None:
    """Give the tensors of a node, and those that its inner graphs take from outside, other names."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            _rename_inner(inner, names)


def _rename_inner(graph: Any, names: Mapping[str, str]) -> None:
    own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    own |= {name for node in graph.node for name in node.output}
    outer = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        rename(node, outer)
    for value in graph.output:
        value.name = outer.get(value.name, value.name)
