"""Turns "keep this share of the latency" into widths: every layer is measured on the device at several widths.

The algorithm is `edgeopt.selection.netadapt`; what it needs from the board comes from `layer_times`. The times are the
ledger's, so that another budget or another run measures nothing again.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.core.variant import Rejection
from edgeopt.errors import ChildError, ParityError, PassError
from edgeopt.graph.layer_models import LayerSpec
from edgeopt.passes.make import make_variant
from edgeopt.remote.client import connect
from edgeopt.selection.netadapt import Group, LayerTimes, choose_widths
from edgeopt.workflow.layer_times import Table, widest
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.making import Maker
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.resolving import resolve_target

MOST_LAYERS = 40
"""Only so many different layers are measured, those with most work; the time of the others counts as fixed."""

_DEADLINE_SECONDS = 1800.0
_DEFAULT_IMPORTANCE = "l2"


def measured_pass(recipe: Recipe) -> int | None:
    """The place of the pass that asks for widths which only a device can tell; ``None`` where there is none."""
    for place, spec in enumerate(recipe.passes):
        if spec.name == "prune_channels" and spec.options.get("latency"):
            return place
    return None


def with_measured_widths(
    recipes: Sequence[Recipe | Rejection], maker: Maker, profile: Profile, listener: Listener
) -> tuple[list[Recipe | Rejection], dict[str, float]]:
    """The same recipes, with widths where they ask for a share of the latency, or why there are none.

    Returns:
        The recipes, and the milliseconds of every layer that was measured for them, by name.

    Raises:
        DeviceError: The device cannot be reached.
    """
    if not any(isinstance(one, Recipe) and measured_pass(one) is not None for one in recipes):
        return list(recipes), {}
    request, workspace = maker.request, maker.workspace
    aim = resolve_target(request.target, workspace.inventory, request.profile)
    with connect(aim.device) as connection, connection.lease("measuring layers"):
        bench = Bench(
            workspace,
            connection,
            maker.facts,
            profile,
            maker.prepared,
            request.budget,
            run_id=f"layers-{secrets.token_hex(4)}" if request.fresh else "layers",
            fresh=request.fresh,
            listener=listener,
        )
        table = Table(bench)
        return [one if isinstance(one, Rejection) else _solved(one, maker, table) for one in recipes], table.alone


def _solved(recipe: Recipe, maker: Maker, table: Table) -> Recipe | Rejection:
    if measured_pass(recipe) is None:
        return recipe
    try:
        return _with_widths(recipe, maker, table)
    except (PassError, ChildError, ParityError) as error:
        return Rejection(recipe.name, "pass", str(error))


def _with_widths(recipe: Recipe, maker: Maker, table: Table) -> Recipe:
    """The recipe with widths in place of the share of the latency.

    Raises:
        PassError: Nothing can be pruned, a layer cannot be measured, or the share cannot be reached on this device.
        DeviceError: The device cannot be reached.
    """
    place = measured_pass(recipe)
    assert place is not None
    spec, before = recipe.passes[place], replace(recipe, passes=recipe.passes[:place])
    start = make_variant(maker.source, before, maker.context).path
    if not before.passes and maker.trainable:
        start = maker.trainable
    found = _width_errors(start, spec, maker, 1)
    layers = {name: LayerSpec(**_frozen(fields)) for name, fields in found["layers"].items()}
    asked = int(spec.options.get("round_to") or 0)
    wide = None if asked else widest(layers.values())
    concerned = _concerned([_group(entry) for entry in found["groups"]], layers)
    table.measure(concerned, start, wide)
    step = asked or (table.rounding(wide) if wide else 1)
    if step > 1:
        found = _width_errors(start, spec, maker, step)
    groups = [_group(entry) for entry in found["groups"]]
    kept = _solve(groups, table.times(concerned), table.whole(start), spec, recipe.name)
    table.bench.listener.note(
        f"{recipe.name}: {table.widths} layer widths measured on the device; channels in steps of {step}."
    )
    options = {name: value for name, value in spec.options.items() if name not in ("latency", "round_to")}
    solved = replace(spec, options={**options, "widths": kept})
    return replace(recipe, passes=(*recipe.passes[:place], solved, *recipe.passes[place + 1 :]))


def _solve(
    groups: list[Group], times: Mapping[str, LayerTimes], whole: float, spec: PassSpec, name: str
) -> dict[str, int]:
    """Channels of the groups that lose some."""
    share = float(spec.options["latency"])
    fixed = max(0.0, whole - sum(one.by_outputs[one.outputs] for one in times.values()))
    widths = choose_widths(groups, times, budget=share, fixed=fixed)
    if not widths.met:
        raise PassError(
            f"{name}: the latency cannot fall to {share:.0%} by narrower layers: the narrowest network would take "
            f"{widths.share:.0%}, by the times measured on the device.",
            remedy="Ask for a larger share.",
        )
    return {group.name: widths.kept[group.name] for group in groups if widths.kept[group.name] < group.channels}


def _width_errors(start: Path, spec: PassSpec, maker: Maker, step: int) -> dict[str, Any]:
    """Groups with the errors of narrowing them, and the layers' geometry."""
    calibration = maker.context.calibration
    if calibration is None:
        raise PassError("prune_channels needs typical inputs and got none.", remedy="Give --data file.py:function.")
    with tempfile.TemporaryDirectory(dir=maker.context.cache, prefix="work-") as work:
        answer: dict[str, Any] = run_child(
            "edgeopt.passes.pruning.width_errors:width_errors",
            {
                "source": str(start),
                "calibration": str(calibration),
                "work": work,
                "importance": spec.options.get("importance", _DEFAULT_IMPORTANCE),
                "round_to": step,
                "seed": maker.request.seed,
            },
            deadline_seconds=_DEADLINE_SECONDS,
            what="judging narrower layers",
        )
    return answer


def _group(entry: Mapping[str, Any]) -> Group:
    errors = {int(width): float(error) for width, error in entry["errors"].items()}
    return Group(entry["name"], entry["channels"], entry["outputs"], entry["inputs"], errors)


def _concerned(groups: list[Group], layers: Mapping[str, LayerSpec]) -> dict[str, LayerSpec]:
    """Layers that some group changes, those with most work first where there are too many."""
    names = {name for group in groups for name in (*group.outputs, *group.inputs) if name in layers}
    ranked = sorted(names, key=lambda name: (-layers[name].macs, name))
    kinds = list(dict.fromkeys(layers[name] for name in ranked))[:MOST_LAYERS]
    return {name: layers[name] for name in ranked if layers[name] in kinds}


def _frozen(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
