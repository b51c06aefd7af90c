"""Turns "keep this share of the latency" into widths: every layer is measured on the device at several widths.

The algorithm is `edgeopt.selection.netadapt`; here is what it needs from the board. The times are the ledger's, so that
another budget or another run measures nothing again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.plan import Plan
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.core.variant import Provenance, Rejection, Variant
from edgeopt.errors import ChildError, ParityError, PassError, RunnerError
from edgeopt.graph.layer_models import LayerSpec, write_identity, write_layer
from edgeopt.passes.make import make_variant
from edgeopt.remote.client import connect
from edgeopt.selection.netadapt import ROUNDINGS, Group, LayerTimes, choose_widths, natural_rounding
from edgeopt.workflow.listener import Listener
from edgeopt.workflow.making import Maker
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.resolving import resolve_target
from edgeopt_targets import registry

PLAN = Plan(
    "layer",
    min_seconds=0.25,
    min_samples=64,
    max_seconds=5.0,
    window_seconds=0.08,
    warmup_seconds=0.1,
    max_warmup_seconds=2.0,
    evaluate=False,
)
SHARES = (0.25, 0.5, 0.75)
"""Of a layer's channels: where it is measured, besides the whole."""

MOST_LAYERS = 40
"""Only so many different layers are measured, those with most work; the time of the others counts as fixed."""

_LAUNCHES = 1
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
) -> list[Recipe | Rejection]:
    """The same recipes, with widths where they ask for a share of the latency, or why there are none.

    Raises:
        DeviceError: The device cannot be reached.
    """
    if not any(isinstance(one, Recipe) and measured_pass(one) is not None for one in recipes):
        return list(recipes)
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
            run_id="layers",
            fresh=request.fresh,
            listener=listener,
        )
        return [one if isinstance(one, Rejection) else _solved(one, maker, bench) for one in recipes]


def _solved(recipe: Recipe, maker: Maker, bench: Bench) -> Recipe | Rejection:
    if measured_pass(recipe) is None:
        return recipe
    try:
        return _with_widths(recipe, maker, bench)
    except (PassError, ChildError, ParityError) as error:
        return Rejection(recipe.name, "pass", str(error))


def _with_widths(recipe: Recipe, maker: Maker, bench: Bench) -> Recipe:
    """The recipe with widths in place of the share of the latency.

    Raises:
        PassError: Nothing can be pruned, or the share cannot be reached on this device.
        DeviceError: The device cannot be reached.
    """
    place = measured_pass(recipe)
    assert place is not None
    spec, before = recipe.passes[place], replace(recipe, passes=recipe.passes[:place])
    start = make_variant(maker.source, before, maker.context).path
    if not before.passes and maker.trainable:
        start = maker.trainable
    table = _Table(bench)
    found = _width_errors(start, spec, maker, 1)
    layers = {name: LayerSpec(**_frozen(fields)) for name, fields in found["layers"].items()}
    step = int(spec.options.get("round_to") or table.rounding(layers.values()))
    if step > 1:
        found = _width_errors(start, spec, maker, step)
    groups = [_group(entry) for entry in found["groups"]]
    kept = _solve(groups, table.times(_concerned(groups, layers)), table.whole(start), spec, recipe.name)
    bench.listener.note(
        f"{recipe.name}: {table.measured} layer widths measured on the device; channels in steps of {step}."
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


@dataclass
class _Table:
    """Times of single layers on the device, in milliseconds; a layer that occurs twice is measured once."""

    bench: Bench
    known: dict[tuple[LayerSpec, int, int] | None, float] = field(default_factory=dict)

    @property
    def measured(self) -> int:
        """How many layer widths were asked for."""
        return len(self.known)

    def times(self, layers: Mapping[str, LayerSpec]) -> dict[str, LayerTimes]:
        """Each layer along its input and its output channels."""
        self.bench.listener.stage("Measuring layers", len({*layers.values()}))
        kinds: dict[LayerSpec, LayerTimes] = {}
        for name, spec in layers.items():
            if spec not in kinds:
                kinds[spec] = self._along(spec)
                self.bench.listener.advance(name)
        return {name: kinds[spec] for name, spec in layers.items()}

    def _along(self, spec: LayerSpec) -> LayerTimes:
        if spec.depthwise:
            both = {width: self._time(spec, width, width) for width in _widths(spec.outputs)}
            return LayerTimes(spec.inputs, spec.outputs, {}, both, tied=True)
        grouped = spec.groups > 1  # its widths depend on one another
        inputs = [spec.inputs] if grouped else _widths(spec.inputs)
        outputs = [spec.outputs] if grouped else _widths(spec.outputs)
        return LayerTimes(
            spec.inputs,
            spec.outputs,
            {width: self._time(spec, width, spec.outputs) for width in inputs},
            {width: self._time(spec, spec.inputs, width) for width in outputs},
        )

    def rounding(self, layers: Iterable[LayerSpec]) -> int:
        """The multiple of channels that the device likes, seen on the layer with most work; 1 where none is wide."""
        wide = [spec for spec in layers if spec.groups == 1 and spec.outputs >= 2 * ROUNDINGS[-1]]
        if not wide:
            return 1
        spec = max(wide, key=lambda one: one.macs)
        base = spec.outputs // 2 // ROUNDINGS[-1] * ROUNDINGS[-1]
        return natural_rounding(
            {width: self._time(spec, spec.inputs, width) for width in (base, *(base + step for step in ROUNDINGS))}
        )

    def whole(self, network: Path) -> float:
        """The whole network's time, less what a call takes in any case."""
        samples = self.bench.workspace.artifacts.path(self.bench.prepared.golden)
        return max(0.0, self._measured(network, samples, least_cosine=0.99) - self._floor())

    def _time(self, spec: LayerSpec, inputs: int, outputs: int) -> float:
        key = (spec, inputs, outputs)
        if key not in self.known:
            with tempfile.TemporaryDirectory(prefix="edgeopt-layer-") as folder:
                path, samples = Path(folder, "layer.onnx"), Path(folder, "sample.npz")
                write_layer(spec, inputs, outputs, path, samples)
                self.known[key] = max(1e-6, self._measured(path, samples) - self._floor())
        return self.known[key]

    def _floor(self) -> float:
        """What a call takes however small the network."""
        if None not in self.known:
            with tempfile.TemporaryDirectory(prefix="edgeopt-layer-") as folder:
                path, samples = Path(folder, "layer.onnx"), Path(folder, "sample.npz")
                write_identity(path, samples)
                self.known[None] = self._measured(path, samples)
        return self.known[None]

    def _measured(self, network: Path, samples: Path, least_cosine: float = 0.999) -> float:
        """The least median of the launches: what disturbs a measurement makes it longer."""
        bench, store = self.bench, self.bench.workspace.artifacts
        artifact, golden = store.add(network, "onnx"), store.add(samples, "npz")
        variant = Variant(
            "layer", artifact, Provenance(artifact.digest, Recipe("layer"), "", {}, 0), cosine=least_cosine
        )
        one = replace(bench, prepared=replace(bench.prepared, golden=golden))
        settings = registry.target(bench.profile.target).settings(bench.profile, bench.facts)[0]
        medians = []
        for launch in range(_LAUNCHES):
            measurement = one.measure(variant, settings, PLAN, launch)
            if not measurement.ok or measurement.latency is None:
                raise RunnerError(
                    f"a layer could not be measured on {bench.connection.device.name}: {measurement.status}.",
                    remedy="Use macs or ratio in place of latency.",
                    status=measurement.status,
                )
            medians.append(measurement.latency.median_ns / 1e6)
        return min(medians)


def _widths(channels: int) -> list[int]:
    """The whole and the measured shares of it, no width twice."""
    return sorted({channels, *(max(1, round(share * channels)) for share in SHARES)})
