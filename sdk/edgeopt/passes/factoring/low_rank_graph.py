"""Puts the stages of a product where a layer of an ONNX graph was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from edgeopt.graph.inspect import all_nodes
from edgeopt.passes.factoring.factors import Array, Stage
from edgeopt.passes.factoring.low_rank import RECURRENT, STAGE, Layer
from edgeopt.passes.graphs.layers import attribute


def replace_layers(model: Any, chosen: Mapping[str, Sequence[Stage]], layers: Sequence[Layer]) -> None:
    """Put the stages where the layers were; the last bears the layer's name, output and bias."""
    by_output = {layer.node.output[0] or layer.node.output[1]: layer for layer in layers if layer.name in chosen}
    nodes: list[Any] = []
    for node in model.graph.node:
        layer = by_output.get(next((name for name in node.output if name), ""))
        nodes.extend(_stage_nodes(model, layer, chosen[layer.name]) if layer else [node])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    _drop_unused(model.graph)


def _stage_nodes(model: Any, layer: Layer, stages: Sequence[Stage]) -> Iterator[Any]:
    fed = layer.fed
    for index, stage in enumerate(stages):
        last = index == len(stages) - 1
        name = layer.name if last else f"{layer.name}{STAGE}{index}"
        node = onnx.NodeProto()
        if last or layer.node.op_type not in RECURRENT:
            node.CopyFrom(layer.node)
        else:
            node.op_type = "MatMul"
        if node.op_type == "Conv":
            _set_convolution(node, stage)
        weight = _weight_for(node, stage.weight)
        tensor = onnx.numpy_helper.from_array(weight, f"{layer.name}{STAGE}{index}.weight")
        model.graph.initializer.append(tensor)
        tail = list(layer.node.input[2:]) if last else []
        node.name = name
        del node.input[:]
        node.input.extend([fed, tensor.name, *tail])
        if not last:
            del node.output[:]
            node.output.append(f"{name}_output")
            _forget_bias(node)
        fed = node.output[0]
        yield node


def _weight_for(node: Any, weight: Array) -> Array:
    """A stage's weight [out, in, *kernel] as the node wants it."""
    if node.op_type in RECURRENT:
        directions = 2 if attribute(node, "direction", "") == "bidirectional" else 1
        return weight.reshape(directions, -1, weight.shape[1])
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return weight
    return weight if node.op_type == "Conv" else np.ascontiguousarray(weight.T)


def _forget_bias(node: Any) -> None:
    """Gemm scales its result: only the last stage may."""
    kept = [attribute for attribute in node.attribute if attribute.name not in ("alpha", "beta")]
    del node.attribute[:]
    node.attribute.extend(kept)


def _set_convolution(node: Any, stage: Stage) -> None:
    """Let a stage stride, pad and dilate along its own axes alone."""
    kernel = stage.weight.shape[2:]
    count = len(kernel)
    strides, dilations = (attribute(node, name, [1] * count) for name in ("strides", "dilations"))
    pads, auto_pad = attribute(node, "pads", [0] * 2 * count), attribute(node, "auto_pad", "NOTSET")
    own = [axis in stage.axes for axis in range(count)]
    made: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "group": stage.groups,
        "strides": [value if mine else 1 for value, mine in zip(strides, own, strict=True)],
        "dilations": [value if mine else 1 for value, mine in zip(dilations, own, strict=True)],
    }
    if auto_pad in ("NOTSET", "VALID"):
        made["pads"] = [value if mine else 0 for value, mine in zip(pads, own * 2, strict=True)]
    elif stage.axes:
        made["auto_pad"] = auto_pad
    del node.attribute[:]
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in sorted(made.items()))


def _drop_unused(graph: Any) -> None:
    """Remove weights that nothing reads any more, and the constant nodes that made them."""
    while True:
        read = {name for node in all_nodes(graph) for name in node.input} | {value.name for value in graph.output}
        read |= {
            output.name for node in all_nodes(graph) for attribute in node.attribute for output in attribute.g.output
        }
        alive = [node for node in graph.node if any(name in read for name in node.output)]
        if len(alive) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(alive)
    held = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(held)
