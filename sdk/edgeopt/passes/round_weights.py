"""AdaRound: rounds each weight up or down as changes the layer's output least on calibration inputs.

Source: Nagel, Amjad, van Baalen, Louizos, Blankevoort: Up or Down? Adaptive Rounding for Post-Training Quantization,
2020, equations 21 to 25 (`quantising.adaround`): layer by layer, inputs from the network rounded so far, outputs from
the float one, behind the ReLU where there is one. What error remains on average goes into the bias (Nagel et al. 2019,
§4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare

if TYPE_CHECKING:
    import numpy as np

    from edgeopt.passes.graphs.layers import Layer, Network
    from edgeopt.passes.quantising.adaround import Task
    from edgeopt.passes.quantising.grid import Floats
    from edgeopt.passes.quantising.rounding import Lattice

_ROWS_BYTES = 64 << 20
"""Inputs of one layer that are kept, at most."""

_HELD_OUT = 4
"""One row in so many is not learnt from: by these the result is judged against rounding to the nearest."""


@dataclass(frozen=True)
class Options:
    """Options of `round_weights`.

    Attributes:
        bits: Bits a weight of the pass that stores them; 8 are 7 where that halves the range (x86 without VNNI).
        per_channel: Whether that pass has one scale for each output channel; the same as its own option.
        steps: Steps of the optimiser for each layer.
        rows: Largest number of places of a layer's output that are looked at, over all samples.
        samples: Largest number of calibration samples.
        max_seconds: No layer is begun after this; those left are for the quantiser to round.
    """

    bits: Literal[2, 4, 8] = 8
    per_channel: bool = True
    steps: int = 500
    rows: int = 4096
    samples: int = 128
    max_seconds: float = 900.0

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")


class RoundWeights(Pass):
    """AdaRound: learns from calibration inputs which weights to round up; goes before the pass that quantises.

    Helps at 4 and 2 bits, often by tens of points; at 8 bits rounding to the nearest is already close, and the pass
    costs minutes on large networks.
    """

    name: ClassVar[str] = "round_weights"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    needs_calibration: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with float weights that lie on the grid.

        Raises:
            PassError: No calibration samples, activations that are not finite, no layer to round, or an unknown node
                in `keep_float`.
        """
        import numpy as np

        from edgeopt.passes.graphs.layers import Network
        from edgeopt.passes.graphs.watch import demand_samples
        from edgeopt.passes.quantising.rounding import Lattice, Round

        samples = demand_samples(context.calibration, "adaptive rounding")
        prepared = prepare(source, context)
        exact, network = Network.load(prepared), Network.load(prepared)
        lattice = Lattice.of(self.options.bits, self.options.per_channel, context)
        layers = Round(network, context, self.options.max_seconds)
        learnt = 0
        for index, layer in enumerate(layers):
            rng = np.random.default_rng((context.seed, index))
            task = self._task(exact, network, layer, samples, rng)
            learnt += _round(network, layer, task, lattice, steps=self.options.steps, rng=rng)
        network.save(destination)
        notes = (f"learnt to round {learnt} layers to {lattice}", *layers.notes())
        return PassReport(notes, context.keep_float)

    def _task(self, exact: Network, network: Network, layer: Layer, samples: Path, rng: np.random.Generator) -> Task:
        """Rows of the layer's inputs in the rounded network and of its outputs in the exact one."""
        import numpy as np

        from edgeopt.passes.graphs.watch import rows, watch
        from edgeopt.passes.quantising.adaround import Task

        output = exact.output(layer)
        row_bytes = 4 * (layer.inputs * int(np.prod(layer.kernel)) + layer.outputs)
        limit = max(1, min(self.options.rows, _ROWS_BYTES // row_bytes) // self.options.samples)
        wanted = watch(exact.model, [output], samples, self.options.samples)
        found = watch(network.model, [layer.input], samples, self.options.samples)
        drawn = [
            rows(network, layer, rounded[layer.input], float_[output], count=limit, rng=rng)
            for float_, rounded in zip(wanted, found, strict=True)
        ]
        inputs, outputs = (np.concatenate(parts).astype(np.float32) for parts in zip(*drawn, strict=True))
        follower = exact.only_consumer(output)
        bias = network.bias(layer)
        return Task(inputs, outputs - bias, follower is not None and follower.op_type == "Relu", bias)


def _round(
    network: Network, layer: Layer, task: Task, lattice: Lattice, *, steps: int, rng: np.random.Generator
) -> bool:
    """Round one layer and correct its bias; whether any channel is better for what was learnt."""
    import numpy as np

    from edgeopt.passes.quantising.adaround import learn

    weight = network.weight(layer)
    form = (layer.groups, layer.outputs // layer.groups, -1)
    grouped, scale = weight.reshape(form), lattice.scale(weight).reshape(*form[:2], 1)
    order = rng.permutation(len(task.outputs))
    held, rest = order[::_HELD_OUT], np.delete(order, slice(None, None, _HELD_OUT))
    plain = lattice.nearest(weight).reshape(form)
    pinned = _largest(grouped, lattice)
    learnt = learn(task.part(rest), grouped, scale, pinned, top=lattice.top, steps=steps, rng=rng)
    judge = task.part(held)
    better = (judge.errors(learnt) < judge.errors(plain)).reshape(*form[:2], 1)
    rounded = np.where(better, learnt, plain)
    network.set_weight(layer, rounded.reshape(weight.shape))
    if network.has_bias(layer):
        network.set_bias(layer, task.bias - task.shift(rounded))
    return bool(better.any())


def _largest(grouped: Floats, lattice: Lattice) -> Floats:
    """Which weights are the largest of those that share a scale."""
    import numpy as np

    magnitude = np.abs(grouped)
    return np.asarray(magnitude == (magnitude.max(axis=2, keepdims=True) if lattice.per_channel else magnitude.max()))
