"""Times of a network's layers on a device, each at several widths, as networks of one layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.core.model import Artifact
from edgeopt.core.plan import Plan
from edgeopt.graph.layer_models import LayerSpec, write_identity, write_layer
from edgeopt.selection.netadapt import ROUNDINGS, LayerTimes, natural_rounding
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.measuring_layers import Small, least_medians
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

_LEAST_MILLISECONDS = 1e-6


@dataclass(frozen=True)
class Width:
    """A layer with so many channels."""

    spec: LayerSpec
    inputs: int
    outputs: int


_NOTHING = "a network that does nothing"


@dataclass
class Table:
    """Times in milliseconds; a layer that occurs twice is measured once, and what a call takes in any case is left out.

    Attributes:
        bench: The device, connected and leased.
        medians: Of the networks measured so far: layers, whole networks, and the one that does nothing.
        alone: Of every layer that was asked for, with all of its channels, by name.
    """

    bench: Bench
    medians: dict[Width | Path | str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)

    @property
    def widths(self) -> int:
        """How many layer widths are known."""
        return sum(isinstance(one, Width) for one in self.medians)

    def measure(self, layers: Mapping[str, LayerSpec], network: Path, rounded: LayerSpec | None = None) -> None:
        """Learn all that `times` and `whole` need, and `rounding` where a layer is given, in as few jobs as can be.

        Raises:
            PassError: A layer cannot be measured; names it.
            DeviceError: The device cannot be reached.
        """
        wanted: dict[Width | Path | str, str] = {_NOTHING: _NOTHING, network: "the whole network"}
        asked = [(name, width) for name, spec in layers.items() for width in _along(spec)]
        asked += [("the widest layer", width) for width in (_for_rounding(rounded) if rounded else ())]
        for name, width in asked:
            wanted.setdefault(width, f"{name} ({width.inputs} channels to {width.outputs})")
        missing = {one: name for one, name in wanted.items() if one not in self.medians}
        networks = [self._written(one, name) for one, name in missing.items()]
        bench = self.bench
        settings = registry.target(bench.profile.target).settings(bench.profile, bench.facts)[0]
        self.medians.update(zip(missing, least_medians(bench, networks, settings, PLAN), strict=True))
        self.alone.update((name, self._time(Width(spec, spec.inputs, spec.outputs))) for name, spec in layers.items())

    def _written(self, one: Width | Path | str, name: str) -> Small:
        """The network and its sample, in the store."""
        if isinstance(one, Path):
            return Small(name, self._added(one, "onnx"), self.bench.prepared.golden)
        with tempfile.TemporaryDirectory(prefix="edgeopt-layer-") as folder:
            path, samples = Path(folder, "layer.onnx"), Path(folder, "sample.npz")
            if isinstance(one, Width):
                write_layer(one.spec, one.inputs, one.outputs, path, samples)
            else:
                write_identity(path, samples)
            return Small(name, self._added(path, "onnx"), self._added(samples, "npz"))

    def _added(self, path: Path, kind: str) -> Artifact:
        return self.bench.workspace.artifacts.add(path, kind)

    def times(self, layers: Mapping[str, LayerSpec]) -> dict[str, LayerTimes]:
        """Each layer along its input and its output channels."""
        return {name: self._times(spec) for name, spec in layers.items()}

    def _times(self, spec: LayerSpec) -> LayerTimes:
        each = {width: self._time(width) for width in _along(spec)}
        if spec.depthwise:
            both = {width.outputs: time for width, time in each.items()}
            return LayerTimes(spec.inputs, spec.outputs, {}, both, tied=True)
        return LayerTimes(
            spec.inputs,
            spec.outputs,
            {width.inputs: time for width, time in each.items() if width.outputs == spec.outputs},
            {width.outputs: time for width, time in each.items() if width.inputs == spec.inputs},
        )

    def rounding(self, layer: LayerSpec) -> int:
        """The multiple of channels that the device likes, seen on this layer."""
        return natural_rounding({width.outputs: self._time(width) for width in _for_rounding(layer)})

    def whole(self, network: Path) -> float:
        """The whole network's time."""
        return max(0.0, self.medians[network] - self.medians[_NOTHING])

    def _time(self, width: Width) -> float:
        return max(_LEAST_MILLISECONDS, self.medians[width] - self.medians[_NOTHING])


def widest(layers: Iterable[LayerSpec]) -> LayerSpec | None:
    """The layer that tells of `Table.rounding`: of those that are wide enough the one with most work."""
    wide = [spec for spec in layers if spec.groups == 1 and spec.outputs >= 2 * ROUNDINGS[-1]]
    return max(wide, key=lambda one: one.macs, default=None)


def _along(spec: LayerSpec) -> list[Width]:
    """Where a layer is measured: along its inputs with all outputs, then along its outputs with all inputs."""
    if spec.depthwise:
        return [Width(spec, width, width) for width in _shares(spec.outputs)]
    grouped = spec.groups > 1  # its widths depend on one another
    inputs = [spec.inputs] if grouped else _shares(spec.inputs)
    outputs = [spec.outputs] if grouped else _shares(spec.outputs)
    along = [*(Width(spec, one, spec.outputs) for one in inputs), *(Width(spec, spec.inputs, one) for one in outputs)]
    return list(dict.fromkeys(along))


def _for_rounding(spec: LayerSpec) -> list[Width]:
    """A multiple of the largest step, and that plus each step."""
    base = spec.outputs // 2 // ROUNDINGS[-1] * ROUNDINGS[-1]
    return [Width(spec, spec.inputs, width) for width in (base, *(base + step for step in ROUNDINGS))]


def _shares(channels: int) -> list[int]:
    """The whole and the measured shares of it, no width twice."""
    return sorted({channels, *(max(1, round(share * channels)) for share in SHARES)})
