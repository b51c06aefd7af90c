"""Cuts a network into stages that follow each other, and fuses such stages into one network again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.cuts import Cut
from edgeopt.graph.dataflow import Dataflow, members
from edgeopt.graph.joining import Joined, agree_on_versions, shell_like

Place = tuple[int, str]
"""A stage, from 0, and one of its outputs."""

WHOLE = "edgeopt.whole"
"""Property of a stage's file: inputs and outputs of the network it was cut out of."""


def split(model: Any, cuts: Sequence[Cut]) -> tuple[Any, ...]:
    """The stages of a network, each an `onnx.ModelProto`; names, shapes and weights stay.

    A stage gives the tensor that it is cut at and those outputs of the network that it computes; it takes the tensor
    before it and those inputs of the network that it needs. Constants that several stages read are in each.

    Args:
        model: A checked model.
        cuts: Front to back, at least one (`edgeopt.graph.cuts`).
    """
    import onnx

    flow = Dataflow(model)
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = {value.name: value for value in [*typed.value_info, *typed.output, *typed.input]}
    rest, stages = flow.alive & ~flow.constant, []
    given: list[str] = []
    for cut in [*cuts, None]:
        behind = cut.behind if cut else 0
        nodes = flow.with_constants(rest & ~behind)
        taken = [name for name in [*given, *flow.inputs] if _read_by(flow, name, nodes)]
        made = [name for number in members(nodes) for name in flow.nodes[number].output]
        wanted = [*([cut.tensor] if cut else []), *(name for name in flow.outputs if _gives(flow, name, made, cut))]
        stages.append(
            _stage(model, flow, nodes, [values[n] for n in taken], [values[n] for n in dict.fromkeys(wanted)])
        )
        rest, given = rest & behind, [cut.tensor] if cut else []
    return tuple(stages)


def _gives(flow: Dataflow, name: str, made: Sequence[str], cut: Cut | None) -> bool:
    """Whether a stage gives an output: it computes it; constant ones and inputs handed through are the last one's."""
    fixed = name not in flow.maker or bool(flow.constant >> flow.maker[name] & 1)
    return cut is None if fixed else name in made


def _read_by(flow: Dataflow, name: str, nodes: int) -> bool:
    return bool(flow.readers.get(name, 0) & nodes)


def _stage(model: Any, flow: Dataflow, nodes: int, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Some nodes of a model as a model of its own."""
    import onnx

    for value in outputs:
        if value.name in flow.maker and flow.constant >> flow.maker[value.name] & 1:
            nodes |= flow.with_constants(1 << flow.maker[value.name])
    made = {name for number in members(nodes) for name in flow.nodes[number].output}
    read = {name for number in members(nodes) for name in flow.reads[number]} | {value.name for value in outputs}
    handed = [value for value in outputs if value.name in flow.inputs and value not in inputs]
    stage = shell_like(model)
    stage.graph.node.extend(flow.nodes[number] for number in members(nodes))
    stage.graph.initializer.extend(tensor for name, tensor in flow.weights.items() if name in read)
    stage.graph.input.extend([*inputs, *handed])
    stage.graph.output.extend(outputs)
    stage.graph.value_info.extend(value for value in model.graph.value_info if value.name in made)
    whole = json.dumps({"inputs": flow.inputs, "outputs": flow.outputs})
    onnx.helper.set_model_props(stage, {**{prop.key: prop.value for prop in model.metadata_props}, WHOLE: whole})
    return stage


@dataclass(frozen=True)
class Fused:
    """One network of several stages.

    Attributes:
        model: The `onnx.ModelProto`.
        links: For each stage: its inputs that others feed, with the stage (from 0) and the output that does.
        outputs: Outputs of the whole, with the stage and the output that they are.
        notes: What the user should know.
    """

    model: Any
    links: tuple[dict[str, Place], ...]
    outputs: dict[str, Place]
    notes: tuple[str, ...] = ()


def is_chain(models: Sequence[Any]) -> bool:
    """Whether every model but the first takes an output of one before it."""
    return all(links for links in _all_links(models)[1:])


def fuse(stages: Sequence[Any], names: Sequence[str] = ()) -> Fused:
    """One network of stages whose outputs feed inputs of later ones, by name, else all by place.

    Outputs that no later stage takes are outputs of the whole; so are, of stages that `split` made, all outputs of the
    network that they were, in its order.

    Args:
        stages: Models, front to back.
        names: What to call them in messages; numbers by default.

    Raises:
        ModelError: A stage takes nothing that those before it give, or names clash.
    """
    called = list(names) or [f"stage {number}" for number in range(1, len(stages) + 1)]
    models, notes = agree_on_versions(stages)
    links, whole = _all_links(models), _whole(stages)
    joined, there = Joined(shell_like(models[0])), dict[Place, str]()
    for number, model in enumerate(models):
        if number and not links[number]:
            raise _not_a_chain(models[number - 1], model, called[number - 1], called[number])
        if any(name != source for name, (_, source) in links[number].items()):
            pairs = (f"{name} from {source} of {called[maker]}" for name, (maker, source) in links[number].items())
            notes.append(f"{called[number]} takes {', '.join(pairs)}.")
        known = {name: there[place] for name, place in links[number].items()}
        added = joined.add(model, known, suffix=f"_{number + 1}")
        there |= {(number, value.name): added[value.name] for value in model.graph.output}
    outputs = _outputs(models, links, whole["outputs"] if whole else None)
    for number, name in outputs:
        value = next(value for value in models[number].graph.output if value.name == name)
        joined.give(value, there[number, name])
        if there[number, name] != name:
            notes.append(f"Output {name} of {called[number]} is {there[number, name]} in the whole.")
    if whole:
        _as_before(joined.model, whole["inputs"])
    return Fused(joined.model, tuple(links), {there[place]: place for place in outputs}, tuple(notes))


def _all_links(models: Sequence[Any]) -> list[dict[str, Place]]:
    """Of each stage: which of its inputs which output of an earlier one feeds; an output feeds the next that asks."""
    available: dict[str, tuple[Place, Any]] = {}
    found = []
    for number, model in enumerate(models):
        own = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in own]
        links = {value.name: available[value.name][0] for value in inputs if value.name in available}
        if not links and len(inputs) == len(available):
            pairs = list(zip(inputs, available.values(), strict=True))
            links = (
                {mine.name: place for mine, (place, theirs) in pairs} if all(_fit(a, b) for a, (_, b) in pairs) else {}
            )
        for _, source in links.values():
            available.pop(source, None)
        available |= {value.name: ((number, value.name), value) for value in model.graph.output}
        found.append(links)
    return found


def _outputs(models: Sequence[Any], links: Sequence[dict[str, Place]], wanted: list[str] | None) -> list[Place]:
    """What no later stage takes, or all outputs of the network that was split, in its order."""
    made = [(number, value.name) for number, model in enumerate(models) for value in model.graph.output]
    if wanted is not None:
        return [next(place for place in made if place[1] == name) for name in wanted]
    taken = {place for stage in links for place in stage.values()}
    return [place for place in made if place not in taken]


def _whole(stages: Sequence[Any]) -> Any:
    """Inputs and outputs of the network that these are all stages of, or ``None``."""
    told = [next((prop.value for prop in stage.metadata_props if prop.key == WHOLE), None) for stage in stages]
    if told[0] is None or len(set(told)) > 1:
        return None
    whole = json.loads(told[0])
    made = {value.name for stage in stages for value in stage.graph.output}
    taken = {value.name for stage in stages for value in stage.graph.input}
    return whole if made.issuperset(whole["outputs"]) and taken.issuperset(whole["inputs"]) else None


def _as_before(model: Any, inputs: list[str]) -> None:
    """Put inputs in the order they had, and take the mark of a stage off."""
    ordered = sorted(model.graph.input, key=lambda value: inputs.index(value.name))
    kept = [prop for prop in model.metadata_props if prop.key != WHOLE]
    del model.graph.input[:], model.metadata_props[:]
    model.graph.input.extend(ordered)
    model.metadata_props.extend(kept)


def _fit(mine: Any, theirs: Any) -> bool:
    """Whether one value may feed another: same element type and rank, no fixed size against another one."""
    a, b = mine.type.tensor_type, theirs.type.tensor_type
    sizes = zip(_dims(a), _dims(b), strict=False)
    same_rank = len(a.shape.dim) == len(b.shape.dim)
    return a.elem_type == b.elem_type and same_rank and all(x == y or not x or not y for x, y in sizes)


def _dims(tensor: Any) -> Iterator[int]:
    yield from (max(0, size.dim_value) for size in tensor.shape.dim)


def _not_a_chain(first: Any, second: Any, name: str, next_name: str) -> ModelError:
    gives = ", ".join(value.name for value in first.graph.output)
    own = {tensor.name for tensor in second.graph.initializer}
    takes = ", ".join(value.name for value in second.graph.input if value.name not in own)
    return ModelError(
        f"{name} gives {gives}, of which {next_name} takes nothing: its inputs are {takes}.",
        remedy="Name the models front to back; outputs feed inputs of the same name, or of the same type and shape.",
    )
