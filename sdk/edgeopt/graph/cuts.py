"""Where a network can be cut in two: tensors through which everything behind them goes, and the balance of the parts.

A tensor is a valid cut where, of all that its dependants read, it alone is computed before them: the articulation
points of the dataflow graph. Inputs of the network may be handed on beside it.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from edgeopt.errors import ModelError, UsageError
from edgeopt.graph.dataflow import Dataflow, members
from edgeopt.graph.work import Shapes, node_macs, node_weight_bytes


@dataclass(frozen=True)
class Cut:
    """A tensor that the network can be cut at.

    Attributes:
        tensor: Its name.
        dtype: NumPy name of its element type.
        shape: Sizes; ``None`` where dynamic.
        size_bytes: Of one sample; dynamic sizes count as 1.
        mac_share: Share of the multiply-accumulates before it, 0 to 1.
        weight_share: Share of the weights' bytes before it, 0 to 1; weights of both sides count on each.
        behind: The nodes behind it (`Dataflow`).
    """

    tensor: str
    dtype: str
    shape: tuple[int | None, ...]
    size_bytes: int
    mac_share: float
    weight_share: float
    behind: int

    def __str__(self) -> str:
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.tensor}: {self.dtype}[{sizes}]"


def cut_points(model: Any) -> tuple[Cut, ...]:
    """All valid cuts, those with more in front of them last.

    Args:
        model: A checked `onnx.ModelProto`.
    """
    flow, shapes = Dataflow(model), Shapes(model)
    compute = flow.alive & ~flow.constant
    macs, weights = _costs(flow, shapes)
    found = []
    for name in flow.maker:
        behind = flow.behind(name) & compute
        front = compute & ~behind
        if not behind or not front or name not in shapes.known or flow.crossing(behind) != [name]:
            continue
        dtype, shape = shapes.known[name]
        found.append(
            Cut(
                name,
                dtype.name,
                shape,
                int(dtype.itemsize) * prod(size or 1 for size in shape),
                _share([macs[number] for number in members(front)], macs.values()),
                _share([weights[number] for number in members(front)], weights.values()),
                behind,
            )
        )
    return tuple(sorted(found, key=lambda cut: -cut.behind.bit_count()))


def cuts_named(cuts: Sequence[Cut], names: Sequence[str], model: Any) -> tuple[Cut, ...]:
    """The cuts at the tensors that the user named, front to back.

    Raises:
        UsageError: A tensor does not exist, is no valid cut, or does not lie behind the others.
    """
    by_name = {cut.tensor: cut for cut in cuts}
    for name in names:
        if name not in by_name:
            raise _no_such_cut(name, list(by_name), model)
    chosen = sorted({by_name[name] for name in names}, key=lambda cut: -cut.behind.bit_count())
    for first, second in itertools.pairwise(chosen):
        if not _follows(first, second):
            raise UsageError(
                f"--at {first.tensor} and --at {second.tensor} are on branches beside each other.",
                remedy="Name cuts of which one lies behind the other.",
            )
    return tuple(chosen)


def _no_such_cut(name: str, cuts: list[str], model: Any) -> UsageError:
    flow = Dataflow(model)
    near = difflib.get_close_matches(name, cuts, n=3, cutoff=0.4) or cuts[:3]
    advice = f"Cuts are {', '.join(near)}{', ...' if len(cuts) > len(near) else ''}." if cuts else "There is no cut."
    if name in flow.maker:
        others = [other for other in flow.crossing(flow.behind(name)) if other != name]
        beside = f": {', '.join(others[:3])} would have to cross too" if others else ""
        return UsageError(f"--at {name} is no valid cut{beside}.", remedy=advice)
    names = difflib.get_close_matches(name, flow.maker, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(names)}? " if names else ""
    return UsageError(f"--at {name}: the network has no such tensor.", remedy=meant + advice)


def choose_cuts(cuts: Sequence[Cut], parts: int) -> tuple[Cut, ...]:
    """The cuts that make the slowest of `parts` stages fastest, by multiply-accumulates.

    Among equals those that fewer bytes cross, then the later ones: a runtime fuses what follows a layer into it.

    Raises:
        UsageError: Fewer than two parts, or more than the cuts allow.
    """
    if parts < 2:
        raise UsageError(f"--parts {parts} cuts nothing.", remedy="Use 2 or more.")
    if not cuts:
        raise ModelError(
            "the network cannot be cut: no single tensor separates its inputs from its outputs.",
            remedy="Simplify it first (edgeopt optimize), or run several sessions of the whole: bench --sessions 1,2.",
        )
    # best[k][i]: (largest stage, bytes, chain) of k cuts of which the last is cut i
    best: list[dict[int, tuple[float, int, tuple[int, ...]]]] = [
        {i: (cut.mac_share, cut.size_bytes, (-i,)) for i, cut in enumerate(cuts)}
    ]
    while len(best) < parts - 1:
        best.append(_longer(cuts, best[-1]))
        if not best[-1]:
            raise UsageError(
                f"--parts {parts} is more than the {len(best)} stages that the network can be cut into.",
                remedy=f"Use at most {len(best)}.",
            )
    _, _, chain = min((max(most, 1 - cuts[i].mac_share), size, chain) for i, (most, size, chain) in best[-1].items())
    return tuple(cuts[-i] for i in chain)


def _longer(
    cuts: Sequence[Cut], chains: dict[int, tuple[float, int, tuple[int, ...]]]
) -> dict[int, tuple[float, int, tuple[int, ...]]]:
    """The best chains with one more cut, by their last cut."""
    found: dict[int, tuple[float, int, tuple[int, ...]]] = {}
    for i, (most, size, chain) in chains.items():
        for j, cut in enumerate(cuts):
            if _follows(cuts[i], cut):
                largest = max(most, cut.mac_share - cuts[i].mac_share)
                candidate = (largest, size + cut.size_bytes, (*chain, -j))
                found[j] = min(found.get(j, candidate), candidate)
    return found


def _follows(first: Cut, second: Cut) -> bool:
    """Whether the second lies behind the first, with something between them."""
    return second.behind != first.behind and second.behind & first.behind == second.behind


def _costs(flow: Dataflow, shapes: Shapes) -> tuple[dict[int, int], dict[int, int]]:
    """Multiply-accumulates and bytes of weights by node; where nothing multiplies, every node counts one."""
    compute = list(members(flow.alive & ~flow.constant))
    weights = {number: node_weight_bytes(flow, number) for number in compute}
    macs = {number: node_macs(flow, number, shapes) for number in compute}
    return (macs if any(macs.values()) else dict.fromkeys(compute, 1)), weights


def _share(part: Sequence[int], whole: Any) -> float:
    total = sum(whole)
    return sum(part) / total if total else 0.0
