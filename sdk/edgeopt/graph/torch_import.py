"""Reads an ONNX file as a torch network that can be trained, pruned and written back.

Not onnx2torch: it needs torchvision, knows no opset after 16 for many operators and keeps linear layers with a
constant right side as plain products, which can be neither pruned nor trained by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from torch import fx

from edgeopt.graph import torch_shapes
from edgeopt.graph.inspect import opset_of, signature_of
from edgeopt.graph.torch_builder import Builder, Host
from edgeopt.graph.torch_indexing import INDEXING
from edgeopt.graph.torch_layers import LAYERS
from edgeopt.graph.torch_layout import LAYOUT
from edgeopt.graph.torch_operators import OPERATORS
from edgeopt.graph.torch_recurrent import RECURRENT
from edgeopt.graph.torch_spatial import SPATIAL
from edgeopt.graph.torch_step import Step, Translation
from edgeopt.graph.torch_tidy import tidy

TRANSLATIONS: dict[str, Translation] = {**INDEXING, **LAYERS, **LAYOUT, **OPERATORS, **RECURRENT, **SPATIAL}
"""Every operator that can be taken in."""


class ImportedNetwork(fx.GraphModule):  # type: ignore[misc]
    """A network that came from an ONNX file.

    Attributes:
        input_names: Names in the order of the arguments. output_names: in the order of the results.
        layer_names: Submodule path to the name of the ONNX node that it came from.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    layer_names: dict[str, str]

    def __deepcopy__(self, memo: dict[int, Any]) -> ImportedNetwork:
        copy: ImportedNetwork = super().__deepcopy__(memo)
        copy.input_names, copy.output_names = self.input_names, self.output_names
        copy.layer_names = dict(self.layer_names)
        return copy


def import_onnx(path: Path) -> ImportedNetwork:
    """Read a network, in evaluation mode.

    Args:
        path: An ONNX file of opset 9 to 22, weights inside.

    Returns:
        A module called with one tensor an input, in the order of the file; gives a tensor, or a tuple of several.

    Raises:
        ModelError: It holds an operator, or a use of one, that is not known here; names it.
    """
    model = onnx.load(str(path))
    folded = tidy(model)
    builder = Builder(folded.values, folded.literals, opset_of(model))
    _infer(model, builder)
    outputs = [value.name for value in model.graph.output]
    inputs = [spec.name for spec in signature_of(model).inputs]
    builder.read_by(folded.nodes, outputs)
    for name in inputs:
        builder.values[name] = builder.graph.placeholder(builder.path(name))
    for index, node in enumerate(folded.nodes):
        if node.output[0] not in builder.skipped:
            _translate(builder, node, node.name or f"{node.op_type}_{index}")
    return _finished(builder, inputs, outputs)


def _infer(model: Any, builder: Builder) -> None:
    """Shapes and element types; what inference does not find is not there."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # inference is a help, and raises for what it does not know
        graph = model.graph
    for value in [*graph.value_info, *graph.input, *graph.output]:
        tensor = value.type.tensor_type
        builder.types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            sizes = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
            builder.shapes[value.name] = tuple(sizes)


def _translate(builder: Builder, node: Any, name: str) -> None:
    step = Step(builder, node, name)
    translation = TRANSLATIONS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if translation is None:
        raise step.unsupported()
    results = translation(step)
    results = results if isinstance(results, tuple) else (results,)
    for output, result in zip(step.node.output, results, strict=False):
        builder.values[output] = result


def _finished(builder: Builder, inputs: Sequence[str], outputs: Sequence[str]) -> ImportedNetwork:
    results = []
    for name in outputs:
        value = builder.values.get(name)
        if isinstance(value, Host):
            value = builder.graph.call_function(torch_shapes.to_tensor, (value.node,))
            value.meta["is_wrapped"] = True
        results.append(builder.attribute(name) if value is None else value)
    builder.graph.output(results[0] if len(results) == 1 else tuple(results))
    network = ImportedNetwork(builder.root, builder.graph)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    network.input_names, network.output_names = tuple(inputs), tuple(outputs)
    used = {str(node.target) for node in network.graph.nodes if node.op == "call_module"}
    network.layer_names = {path: name for path, name in builder.layer_names.items() if path in used}
    network.eval()
    return network
