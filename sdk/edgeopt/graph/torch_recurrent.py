"""Translates LSTM, GRU and RNN nodes to torch's layers; gates, directions and states brought into torch's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from edgeopt.graph.torch_step import Step, Translation

_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""ONNX has iofc and zrh, torch ifco and rzh."""

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def apart(x: Tensor, directions: int) -> Tensor:
    """The result of torch [T, N, D * H] as ONNX has it: [T, D, N, H]."""
    return x.unflatten(-1, (directions, -1)).permute(0, 2, 1, 3)


def _recurrent(step: Step) -> tuple[fx.Node, ...]:
    _demand_plain(step)
    weight = step.demand(1, "weight")
    backwards, directions = step.attribute("direction", "forward") == "reverse", len(weight)
    x: fx.Node = step.tensor(0)
    x = step.call(torch.flip, x, [0]) if backwards else x
    result = step.module(_layer(step, weight, step.demand(2, "recurrent weight")), x, *_states(step))
    sequence, state = step.item(result, 0), step.item(result, 1)
    sequence = step.call(torch.flip, sequence, [0]) if backwards else sequence
    if not _takes_in_what_follows(step, directions):
        sequence = (
            step.call(torch.unsqueeze, sequence, 1) if directions == 1 else step.call(apart, sequence, directions)
        )
    if step.node.op_type != "LSTM":
        return sequence, state
    return sequence, step.item(state, 0), step.item(state, 1)


def _demand_plain(step: Step) -> None:
    kind, directions = step.node.op_type, 2 if step.attribute("direction") == "bidirectional" else 1
    names = [item.decode() for item in step.attribute("activations", [])]
    if kind in _ACTIVATIONS and names not in ([], _ACTIVATIONS[kind] * directions):
        raise step.unsupported(f"its activations are {', '.join(names)}")
    if kind == "RNN" and (len(set(names)) > 1 or not {"Tanh", "Relu"}.issuperset(names)):
        raise step.unsupported(f"its activations are {', '.join(names)}")
    if kind == "GRU" and not step.attribute("linear_before_reset", 0):
        raise step.unsupported("linear_before_reset is 0, where torch has 1")
    for index, what in ((4, "sequence lengths"), (7, "peepholes")):
        if step.has(index):
            raise step.unsupported(f"it has {what}")
    for name in ("clip", "input_forget", "layout"):
        if step.attribute(name, 0):
            raise step.unsupported(f"{name} is {step.attribute(name)}")


def _layer(step: Step, weight: np.ndarray[Any, Any], recurrent: np.ndarray[Any, Any]) -> nn.Module:
    kind, hidden = step.node.op_type, recurrent.shape[-1]
    bias = step.demand(3, "bias") if step.has(3) else None
    options: dict[str, Any] = {"bias": bias is not None, "bidirectional": len(weight) == 2}
    if kind == "RNN":
        options["nonlinearity"] = "relu" if step.attribute("activations", [b"Tanh"])[0] == b"Relu" else "tanh"
    module = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[kind](weight.shape[-1], hidden, **options)
    with torch.no_grad():
        for direction, suffix in enumerate(("_l0", "_l0_reverse")[: len(weight)]):
            parts = {"weight_ih": weight[direction], "weight_hh": recurrent[direction]}
            if bias is not None:
                parts["bias_ih"], parts["bias_hh"] = np.split(bias[direction], 2)
            for name, part in parts.items():
                getattr(module, name + suffix).copy_(torch.from_numpy(_reordered(part, _GATES[kind], hidden)))
    return module


def _reordered(part: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int) -> np.ndarray[Any, Any]:
    return np.concatenate([part[gate * hidden : (gate + 1) * hidden] for gate in gates])


def _states(step: Step) -> tuple[Any, ...]:
    """Initial states that are not zero."""
    if step.node.op_type != "LSTM":
        return (step.tensor(5),) if step.has(5) else ()
    given = [index for index in (5, 6) if step.has(index)]
    if not given:
        return ()
    return (
        tuple(step.tensor(i) if step.has(i) else step.call(torch.zeros_like, step.tensor(given[0])) for i in (5, 6)),
    )


def _takes_in_what_follows(step: Step, directions: int) -> bool:
    """Take in the nodes that bring ONNX's order of axes back to torch's, as exporters write them."""
    builder, name = step.builder, step.node.output[0]
    squeeze = builder.only_reader(name, "Squeeze") if directions == 1 else None
    if squeeze is not None and Step(builder, squeeze, "").axes(1) == [1]:
        step.take_in(squeeze)
        return True
    transpose = builder.only_reader(name, "Transpose")
    reshape = transpose and builder.only_reader(transpose.output[0], "Reshape")
    if not reshape or Step(builder, transpose, "").attribute("perm") != [0, 2, 1, 3]:
        return False
    target, shape = builder.constants.get(reshape.input[1]), step.shape(0) or (None, None)
    if target is None or len(target) != 3 or target[2] not in (-1, directions * step.attribute("hidden_size")):
        return False
    if any(size not in (0, shape[place]) for place, size in enumerate(target[:2])):
        return False
    step.take_in(transpose)
    step.take_in(reshape)
    return True


RECURRENT: dict[str, Translation] = {"LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent}
