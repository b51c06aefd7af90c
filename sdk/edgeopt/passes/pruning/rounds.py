"""The rounds of `prune_channels`: find the groups, score their units, choose, remove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_channels import Options
from edgeopt.passes.pruning.channels import Dependencies, Group, prunable
from edgeopt.passes.pruning.importance import Evidence, score
from edgeopt.passes.pruning.stages import kept_by_parts, parts_of
from edgeopt.passes.pruning.subject import BATCH, Data, data_of, demand_layers, layer_names, listed, size_of
from edgeopt.passes.pruning.widths import Choice, Limits, Work


def prune(network: nn.Module, options: Options, context: PassContext) -> tuple[str, ...]:
    """Remove channels from a network, in place.

    Args:
        network: In evaluation mode, with `input_names` and perhaps `layer_names` as `import_onnx` gives them.
        options: What to remove.
        context: Samples, loss and seed.

    Returns:
        Notes: work and parameters before and after, widths, layers left out.

    Raises:
        PassError: See `PruneChannels.apply`.
    """
    names: Any = network.input_names
    return _Pruning(network, options, data_of(context, names), context.seed).run()


class _Pruning:
    def __init__(self, network: nn.Module, options: Options, data: Data, seed: int) -> None:
        self._network, self._options, self._data, self._seed = network, options, data, seed
        self._inputs = data.inputs(network)
        self._names = layer_names(network)
        self._skipped: dict[str, str] = {}
        self._roots = self._prunable()
        groups = self._groups(self._graph())
        self._parts = parts_of(network, self._inputs, groups, len(options.stages))
        widths = {group.root: group.units for group in groups}
        self._floors = {root: max(1, math.ceil(options.min_keep * units)) for root, units in widths.items()}

    def run(self) -> tuple[str, ...]:
        before, widths = size_of(self._network, self._inputs), self._widths()
        for step in range(self._options.steps):
            self._step(step, before.macs)
        changed = [
            f"{self._names[layer]} {old} -> {new}"
            for (layer, old), new in zip(widths.items(), self._widths().values(), strict=True)
            if old != new
        ]
        if not changed:
            raise PassError("nothing was removed: the goal rounds to the widths there are.", remedy="Ask for more.")
        notes = [before.to(size_of(self._network, self._inputs)), f"channels: {listed(changed)}"]
        if self._skipped:
            layers = [f"{self._names[layer]} ({reason})" for layer, reason in self._skipped.items()]
            notes.append(f"skipped {len(layers)} layers: {listed(layers)}")
        return tuple(notes)

    def _graph(self) -> Dependencies:
        return Dependencies(self._network, self._inputs)

    def _groups(self, graph: Dependencies) -> list[Group]:
        return [graph.group(root) for root in self._roots]

    def _widths(self) -> dict[str, int]:
        found = {}
        for group in self._groups(self._graph()):
            for layer in group.layers:
                module: Any = self._network.get_submodule(layer)
                found[layer] = int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)
        return found

    def _prunable(self) -> list[str]:
        """Roots of the groups that may be pruned; the others are noted, but for those that are outputs."""
        groups = list(self._graph().groups())
        demand_layers("ignore", self._options.ignore, self._named(groups))
        groups = [
            group for group in groups if not any(self._names[layer] in self._options.ignore for layer in group.layers)
        ]
        roots, self._skipped = prunable(self._network, self._inputs, groups)
        if not roots:
            layers = [f"{self._names[layer]} ({reason})" for layer, reason in self._skipped.items()]
            raise PassError(
                "no layer of the network can lose channels" + (f": {listed(layers)}." if layers else "."),
                remedy="Use a pass that keeps the shapes: quantisation, prune_weights or factorise.",
            )
        return roots

    def _named(self, groups: Sequence[Group]) -> list[str]:
        return [self._names[layer] for group in groups for layer in group.layers]

    def _step(self, step: int, first_macs: int) -> None:
        graph = self._graph()
        groups = self._groups(graph)
        batch = BATCH if len(self._inputs[0]) > self._data.typical.rows else 1
        evidence = Evidence(self._network, self._data.judged, self._data.loss, self._seed, batch)
        scores = score(self._options.importance, groups, evidence)
        limits = Limits(self._options.ranking, self._options.round_to, self._floors)
        choice = Choice(groups, scores, limits)
        if self._options.stages:
            gone = [self._share(1 - share, step) for share in self._options.stages]
            kept = kept_by_parts(groups, scores, limits, self._parts, gone)
        else:
            kept = self._kept(choice, groups, step, first_macs)
        for index, (group, width) in enumerate(zip(groups, kept, strict=True)):
            if width < group.units:
                graph.remove(group, choice.units(index, width))

    def _kept(self, choice: Choice, groups: Sequence[Group], step: int, first_macs: int) -> list[int]:
        """Units that each group keeps; the goal is neared in equal parts of the first size."""
        options, part = self._options, (step + 1) / self._options.steps
        if options.widths:
            return self._given(groups, part)
        if options.macs:
            one: tuple[Tensor, ...] = self._inputs
            work, rows = Work(self._network, one), len(one[0])
            target = (1 - (1 - options.macs) * part) * first_macs * rows
            return choice.by_work(target, lambda kept: work.after(groups, kept))
        return choice.by_ratio(self._share(options.ratio, step))

    def _share(self, ratio: float, step: int) -> float:
        """What goes in a step, of what is left then, so that all steps together remove `ratio`."""
        return ratio / self._options.steps / (1 - ratio * step / self._options.steps)

    def _given(self, groups: Sequence[Group], part: float) -> list[int]:
        wanted = self._options.widths
        demand_layers("widths", list(wanted), self._named(groups))
        return [self._width(group, part) for group in groups]

    def _width(self, group: Group, part: float) -> int:
        asked = {self._names[layer]: self._options.widths[self._names[layer]] for layer in group.layers
                 if self._names[layer] in self._options.widths}  # fmt: skip
        if not asked:
            return group.units
        (name, width), channels = next(iter(asked.items())), group.units * group.repeat
        if len(set(asked.values())) > 1:
            pairs = ", ".join(f"{layer} {count}" for layer, count in asked.items())
            raise PassError(f"widths asks for different widths of layers that must be equally wide: {pairs}.")
        if width > channels:
            raise PassError(f"widths asks for {width} channels of {name}, which has {channels}.")
        if width % group.repeat:
            raise PassError(f"widths asks for {width} channels of {name}, which come in {group.repeat} equal parts.")
        target = width // group.repeat
        return group.units - round((group.units - target) * part)
