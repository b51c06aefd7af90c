"""Writes a network in an older operator set, or marks it with an older IR version, where both can say the same.

Own code: of the networks that people bring, onnx's version_converter (1.23) refuses nearly all on the way down, for it
has no adapter even where an operator has only gained element types since. Here the schemas of both versions decide.
That a meaning did not change with the version is not in a schema: callers compare the outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edgeopt.errors import PassError
from edgeopt.passes.graphs.prepare import opset_of

_ROUNDS = 4
"""Functions are written in terms of functions, but not of many."""

_FIRST_IR = {
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 9),
    **dict.fromkeys(("INT4", "UINT4"), 10),
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    **dict.fromkeys(("INT2", "UINT2"), 13),
    **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 14),
}
"""The first IR version that has an element type (onnx.proto, enum Version)."""

_TYPES = {
    **{f"tensor({name})": name.upper() for name in ("float", "double", "float16", "bfloat16", "bool", "string")},
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_MOST = (1 << 63) - 1
_OWN = ("", "ai.onnx")
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
_SHAPE_WITH_BOUNDS = 15
_MODES = {b"linear": b"bilinear", b"cubic": b"bicubic"}


def lower_opset(model: Any, opset: int) -> tuple[Any, tuple[str, ...]]:
    """Write a model in an older set of ONNX's own operators; operators of other domains stay as they are.

    Args:
        model: ModelProto; may be changed.
        opset: The set that is wanted, 13 or later and not newer than the model's.

    Returns:
        The model, and the operators that had to be written out in others.

    Raises:
        PassError: An operator cannot be had there, or not in the way that it is used; names it.
    """
    source = opset_of(model)
    model, written_out = _without_newer_operators(model, source, opset)
    if opset < _SHAPE_WITH_BOUNDS <= source:
        for graph in list(_graphs(model.graph)):
            _slice_shapes(graph)
    constants = _constants(model)
    for node in _own_nodes(model.graph):
        _fit(node, source, opset, constants)
    _drop_unused(model.graph)
    for entry in model.opset_import:
        if entry.domain in _OWN:
            entry.version = opset
    return model, written_out


def lower_ir(model: Any, ir_version: int) -> Any:
    """Mark a model with an older IR version.

    Args:
        model: ModelProto; may be changed.
        ir_version: The version that is wanted, 7 or later.

    Raises:
        PassError: It holds an element type that version does not have.
    """
    from onnx import TensorProto, inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    for where, number in _element_types(model.graph):
        name = TensorProto.DataType.Name(number)
        if _FIRST_IR.get(name, 0) > ir_version:
            raise PassError(
                f"{where} holds {name}, which is in IR version {_FIRST_IR[name]} and later; {ir_version} was asked."
            )
    model.ir_version = ir_version
    return model


def drop_unused_domains(model: Any) -> None:
    """Take away the operator sets that no node uses.

    ONNX Runtime writes all that it knows into every file that it saves, and refuses a file that names a newer one than
    it knows: ``ai.onnx.ml`` 5, of which no network here has an operator, is more than 1.17 and older take.
    """
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    used = {node.domain for node in nodes}.union(_OWN)
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)


def _without_newer_operators(model: Any, source: int, opset: int) -> tuple[Any, tuple[str, ...]]:
    """Write operators that are younger than `opset` out in older ones, as their definitions do."""
    from onnx import inliner

    written_out: set[str] = set()
    given = {value.name for value in model.graph.value_info}
    if model.functions:
        model = inliner.inline_local_functions(model)
    for _ in range(_ROUNDS):
        missing = sorted({node.op_type for node in _own_nodes(model.graph) if _schema(node.op_type, opset) is None})
        if not missing:
            break
        for name in missing:
            _demand_definition(name, source, opset)
        for node in _own_nodes(model.graph):
            if node.op_type in missing:
                _write_defaults(node, _schema(node.op_type, source))
        typed = _with_types(model)
        model = inliner.inline_selected_functions(typed, [("", name) for name in missing], False, True)
        written_out.update(missing)
    kept = [value for value in model.graph.value_info if value.name in given]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model, tuple(sorted(written_out))


def _write_defaults(node: Any, schema: Any) -> None:
    """Give a node every attribute: onnx's inliner (1.23) leaves a hole in a definition that takes one by default."""
    given = {attribute.name for attribute in node.attribute}
    defaults = {name: one.default_value for name, one in schema.attributes.items() if name not in given}
    node.attribute.extend(default for default in defaults.values() if default.type)


def _demand_definition(name: str, source: int, opset: int) -> None:
    schema = _schema(name, source)
    if schema is None or not (schema.has_function or schema.has_context_dependent_function):
        raise PassError(
            f"{name} is not in opset {opset} and has no definition in older operators.",
            remedy=f"Export the network with opset {opset} or lower, or put a newer runtime on the device.",
        )


def _with_types(model: Any) -> Any:
    """The model with the types of all its tensors written in, which definitions depend on."""
    from onnx import helper, shape_inference

    typed = shape_inference.infer_shapes(model)
    known = {value.name for value in (*typed.graph.value_info, *typed.graph.input)}
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in typed.graph.initializer
        if tensor.name not in known
    )
    known |= {value.name for value in typed.graph.output}
    unknown = [name for node in typed.graph.node for name in node.output if name and name not in known]
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(name, number, None) for name, number in _types_by_runtime(typed, unknown).items()
    )
    return typed


def _types_by_runtime(model: Any, names: list[str]) -> dict[str, int]:
    """Element types behind operators that ONNX has no definition of (com.microsoft), as ONNX Runtime infers them."""
    import onnx
    import onnxruntime

    if not names:
        return {}
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = {value.name: _TYPES.get(value.type) for value in session.get_outputs() if value.name in set(names)}
    return {name: onnx.TensorProto.DataType.Value(kind) for name, kind in types.items() if kind}


def _schema(name: str, opset: int) -> Any:
    """Definition of one of ONNX's own operators; ``None`` where there is none yet, or it is deprecated."""
    from onnx import defs

    if not defs.has(name, opset, ""):
        return None
    found = defs.get_schema(name, opset, "")
    return None if found.deprecated else found


def _fit(node: Any, source: int, opset: int, constants: Mapping[str, Any]) -> None:
    """Say what a node says as an older version of its operator would."""
    new, old = _schema(node.op_type, source), _schema(node.op_type, opset)
    if new is None or old is None:
        raise PassError(f"{_named(node)} is in neither opset {source} nor opset {opset}.")
    if new.since_version == old.since_version:
        return
    _write_defaults_that_changed(node, new, old)
    if node.op_type.removeprefix("Reduce") in _REDUCTIONS and old.since_version < 18 <= new.since_version:
        _axes_to_attribute(node, constants)
    elif node.op_type == "Split" and len(node.input) == 1:
        _drop(node, "num_outputs")  # parts that are not equal do not load there
    elif node.op_type == "QuantizeLinear" and len(node.input) == 3:
        _drop(node, "output_dtype")  # the zero point says it too
    elif node.op_type == "Reshape" and _holds_no_zero(node, constants):
        _drop(node, "allowzero")
    elif node.op_type == "GridSample":
        for attribute in node.attribute:
            attribute.s = _MODES.get(attribute.s, attribute.s)
    _drop_new_defaults(node, new, old)
    _demand_fits(node, old, opset)


def _write_defaults_that_changed(node: Any, new: Any, old: Any) -> None:
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in new.attributes.items():
        default = attribute.default_value
        if name not in given and default.type and name in old.attributes:
            before = old.attributes[name].default_value
            if not before.type or _value(before) != _value(default):
                node.attribute.append(default)


def _drop_new_defaults(node: Any, new: Any, old: Any) -> None:
    """Leave out what older versions do anyway: an attribute came with a default that changes nothing."""
    for attribute in list(node.attribute):
        default = new.attributes[attribute.name].default_value if attribute.name in new.attributes else None
        known = attribute.name in old.attributes or default is None or not default.type
        if not known and _value(default) == _value(attribute):
            node.attribute.remove(attribute)


def _demand_fits(node: Any, old: Any, opset: int) -> None:
    while node.input and not node.input[-1]:
        del node.input[-1]
    given = {attribute.name for attribute in node.attribute}
    unknown = [f"{name} = {_value(one)!r}" for one in node.attribute if (name := one.name) not in old.attributes]
    unknown += [name for name, one in old.attributes.items() if one.required and name not in given]
    if not old.min_input <= len(node.input) <= old.max_input:
        unknown.append(f"{len(node.input)} inputs")
    if len(node.output) > old.max_output:
        unknown.append(f"{len(node.output)} outputs")
    if unknown:
        raise PassError(
            f"{_named(node)} uses {', '.join(unknown)}, which {node.op_type} in opset {opset} does not have.",
            remedy=f"Export the network with opset {opset} or lower, or put a newer runtime on the device.",
        )


def _holds_no_zero(node: Any, constants: Mapping[str, Any]) -> bool:
    shape = constants.get(node.input[1])
    return shape is not None and 0 not in shape


def _axes_to_attribute(node: Any, constants: Mapping[str, Any]) -> None:
    """Axes of a reduction are an input since opset 18."""
    from onnx import helper

    if len(node.input) < 2 or not node.input[1]:
        return
    axes = constants.get(node.input[1])
    if axes is None:
        raise PassError(f"{_named(node)} computes its axes as it runs, which older opsets cannot.")
    if axes.size:
        _drop(node, "noop_with_empty_axes")
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes.ravel()]))
    del node.input[1:]


def _slice_shapes(graph: Any) -> None:
    """Shape gives a part of the sizes since opset 15; before, a slice of all of them does."""
    from onnx import helper, numpy_helper

    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        bounds = {one.name: one.i for one in node.attribute} if node.op_type == "Shape" and node.domain in _OWN else {}
        if not bounds:
            graph.node.append(node)
            continue
        del node.attribute[:]
        part, whole = node.output[0], f"{node.output[0]}/all"
        node.output[0] = whole
        ends = {"starts": bounds.get("start", 0), "ends": bounds.get("end", _MOST)}
        names = [f"{part}/{name}" for name in ends]
        graph.initializer.extend(
            numpy_helper.from_array(np.array([value]), name) for name, value in zip(names, ends.values(), strict=True)
        )
        graph.node.extend((node, helper.make_node("Slice", [whole, *names], [part], name=f"{part}/slice")))


def _drop_unused(graph: Any) -> None:
    """Leave out what only something that was left out needed: runtimes warn of it at every start."""
    used: set[str] = set()
    while True:
        inner = {name for one in _graphs(graph) for node in one.node for name in node.input}
        before, used = used, inner | {value.name for one in _graphs(graph) for value in one.output}
        if used == before:
            break
        for node in [node for node in graph.node if used.isdisjoint(node.output)]:
            graph.node.remove(node)
    fed = {value.name for value in graph.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used | fed]:
        graph.initializer.remove(tensor)


def _drop(node: Any, name: str) -> None:
    for attribute in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(attribute)


def _constants(model: Any) -> dict[str, Any]:
    """Values of tensors that do not change, by name, of all graphs."""
    from onnx import numpy_helper

    found: dict[str, Any] = {}
    for graph in _graphs(model.graph):
        found.update(
            {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if len(tensor.dims) < 2}
        )
        for node in graph.node:
            if node.op_type == "Constant" and node.domain in _OWN:
                found[node.output[0]] = _constant(node)
    return found


def _constant(node: Any) -> Any:
    from onnx import numpy_helper

    attribute = node.attribute[0]
    return numpy_helper.to_array(attribute.t) if attribute.name == "value" else np.asarray(_value(attribute))


def _value(attribute: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


def _named(node: Any) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _own_nodes(graph: Any) -> Iterator[Any]:
    return (node for one in _graphs(graph) for node in one.node if node.domain in _OWN)


def _element_types(graph: Any) -> Iterable[tuple[str, int]]:
    """Where an element type occurs, and its number."""
    for one in _graphs(graph):
        yield from ((f"tensor {tensor.name!r}", tensor.data_type) for tensor in one.initializer)
        for value in (*one.input, *one.output, *one.value_info):
            yield f"tensor {value.name!r}", value.type.tensor_type.elem_type
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield _named(node), attribute.t.data_type
                if attribute.name in ("to", "output_dtype", "dtype"):
                    yield _named(node), attribute.i
