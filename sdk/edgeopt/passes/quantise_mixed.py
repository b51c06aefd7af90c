"""Mixed precision: each layer in float, int8 or 4-bit weights, as a budget of size or time asks and accuracy allows.

Source: Wu, Judd, Zhang, Isaev, Micikevicius: Integer Quantization for Deep Learning Inference, 2020, §6.1 (sensitivity
of one layer at a time, `quantising.rank`); layers become cheaper by loss for each unit saved (`quantising.mixture`).
The file is made by `quantise_weights` (4 bits: MatMul and Gemm) and `quantise_static` (int8).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes import quantise_static, quantise_weights
from edgeopt.passes._base import Pass, PassContext, PassReport, saturates
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.quantising.calibrators import Method
from edgeopt.passes.quantising.mixture import FLOAT, Choice, choose

if TYPE_CHECKING:
    from edgeopt.passes.graphs.layers import Layer, Network

Precision = Literal["int8", "int4"]

_BLOCK = 32
_PASSES = {"int8": "quantise_static", "int4": "quantise_weights"}


@dataclass(frozen=True)
class Options:
    """Options of `quantise_mixed`.

    Attributes:
        budget: What may remain of the float cost, as a share: of the weights' bytes, or of `costs`; above 0, below 1.
        precisions: What layers may be besides float. ``int4`` is for MatMul and Gemm alone, and computes in float.
        costs: Milliseconds by layer and precision (``float``, ``int8``, ``int4``), as measured on the device; empty:
            bytes count. Precisions that a layer has no time for are not given to it, layers without times stay float.
        calibrator: How `quantise_static` cuts the ranges of activations.
        samples: Largest number of calibration samples.
        max_seconds: No layer's sensitivity is measured after this; layers not reached are the last to be touched.
    """

    budget: float = 0.3
    precisions: tuple[Precision, ...] = ("int8", "int4")
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    calibrator: Method = "minmax"
    samples: int = 128
    max_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.budget < 1:
            raise ValueError(f"budget is {self.budget}, must be above 0 and below 1")
        if not self.precisions:
            raise ValueError("precisions is empty, must name int8, int4 or both")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, must be above 0")
        for layer, times in self.costs.items():
            if FLOAT not in times or not all(0 <= time < float("inf") for time in times.values()):
                raise ValueError(f"costs of {layer!r} are {dict(times)}, must have {FLOAT!r} and times from 0 up")


class QuantiseMixed(Pass):
    """Float, int8 or 4-bit weights for each layer by sensitivity, under a budget of size or time.

    Helps where one precision for all loses too much and few layers are to blame; where plain int8 holds the accuracy
    it is simpler and faster, as every change of precision between two layers costs conversions.
    """

    name: ClassVar[str] = "quantise_mixed"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    needs_calibration: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul"})
    yields: ClassVar[frozenset[str]] = frozenset({"INT8", "MatMulNBits"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Choose and write the network.

        Raises:
            PassError: No calibration samples, a budget that nothing meets, costs of an unknown layer, an unknown node
                in `keep_float`, or a quantising pass failed.
        """
        from edgeopt.passes.graphs.layers import Network, skips
        from edgeopt.passes.graphs.questions import demand_nodes
        from edgeopt.passes.graphs.watch import demand_samples

        samples = demand_samples(context.calibration, "mixed precision")
        context = replace(context, calibration=samples, cache=context.cache or context.work)
        prepared = prepare(source, context)
        network = Network.load(prepared)
        demand_nodes(network.model, (*context.keep_float, *self.options.costs))
        layers = self._choices(network, context)
        total = sum(choice.costs[FLOAT] for choice in layers.values())
        _demand_reachable(layers, self.options.budget * total)
        losses: dict[str, dict[str, float]] = {
            precision: self._losses(prepared, precision, context) for precision in self.options.precisions
        }
        layers = {name: replace(choice, losses=_known(name, losses)) for name, choice in layers.items()}
        chosen = choose(layers, self.options.budget * total)
        self._write(network, prepared, destination, context, chosen)
        kept = tuple(name for name, precision in chosen.items() if precision == FLOAT)
        notes = (self._summary(layers, chosen, total), *skips(network.skipped, len(layers) + len(network.skipped)))
        return PassReport(notes, kept)

    def _choices(self, network: Network, context: PassContext) -> dict[str, Choice]:
        """What each layer costs in the precisions that it may have."""
        found = {}
        for layer in network.layers:
            costs = _bytes(layer)
            if self.options.costs:
                costs = dict(self.options.costs.get(layer.name, {FLOAT: 0.0}))
            allowed = set() if layer.name in context.keep_float else set(self.options.precisions)
            if layer.operator == "Conv":
                allowed.discard("int4")
            found[layer.name] = Choice({name: cost for name, cost in costs.items() if name in allowed | {FLOAT}})
        return found

    def _losses(self, prepared: Path, precision: str, context: PassContext) -> dict[str, float]:
        """Error of the outputs with one layer at a time in a precision, by layer; kept in the cache."""
        from edgeopt.passes._files import file_digest
        from edgeopt.passes.make import digest_of
        from edgeopt.passes.quantising.rank import rank_layers

        assert context.cache is not None
        assert context.calibration is not None
        options = self._step_options(precision)
        kind = [saturates(context.machine, context.isa), context.seed]  # all that the passes ask of a board
        key = digest_of(precision, options, kind, file_digest(prepared), file_digest(context.calibration))
        entry = context.cache / f"losses-{key}.json"
        if entry.exists():
            return dict(json.loads(entry.read_text()))
        fields: dict[str, Any] = {name: str(getattr(context, name)) for name in ("work", "cache", "calibration")}
        fields.update(machine=context.machine, isa=list(context.isa), seed=context.seed)
        seconds = self.options.max_seconds / len(self.options.precisions)
        ranked = dict(rank_layers(_PASSES[precision], options, str(prepared), fields, seconds))
        partial = entry.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps(ranked))
        partial.replace(entry)
        return ranked

    def _step_options(self, precision: str) -> dict[str, Any]:
        if precision == "int4":
            return {"bits": 4, "block_size": _BLOCK, "min_share": 0.0}
        return {"calibrator": self.options.calibrator, "samples": self.options.samples, "min_share": 0.0}

    def _write(
        self, network: Network, prepared: Path, destination: Path, context: PassContext, chosen: Mapping[str, str]
    ) -> None:
        """4-bit weights first, as their pass knows float MatMul alone; then int8 for what is to have it."""
        current = prepared
        if "int4" in chosen.values():
            current = context.work / "packed.onnx" if "int8" in chosen.values() else destination
            kept = tuple(name for name, precision in chosen.items() if precision != "int4")
            weights = quantise_weights.Options(**self._step_options("int4"))
            quantise_weights.QuantiseWeights(weights).apply(prepared, current, replace(context, keep_float=kept))
        if "int8" in chosen.values():
            static = quantise_static.Options(**self._step_options("int8"))
            kept = _not_int8(network, current, context, chosen)
            quantise_static.QuantiseStatic(static).apply(current, destination, replace(context, keep_float=kept))

    def _summary(self, layers: Mapping[str, Choice], chosen: Mapping[str, str], total: float) -> str:
        counts = {precision: list(chosen.values()).count(precision) for precision in (FLOAT, *self.options.precisions)}
        cost = sum(layers[name].costs[precision] for name, precision in chosen.items())
        what = "the layers take" if self.options.costs else "the weights have"
        unit = "time" if self.options.costs else "bytes"
        parts = ", ".join(f"{count} {precision}" for precision, count in counts.items())
        return f"layers: {parts}; {what} {cost / total:.0%} of the float {unit} (budget {self.options.budget:.0%})"


def _bytes(layer: Layer) -> dict[str, float]:
    """Bytes of a layer's weights with their scales, by precision."""
    elements = layer.outputs * layer.inputs // layer.groups
    for size in layer.kernel:
        elements *= size
    blocks = layer.outputs * -(-layer.inputs // _BLOCK)
    return {FLOAT: 4.0 * elements, "int8": elements + 4.0 * layer.outputs, "int4": blocks * (_BLOCK / 2 + 4.0)}


def _known(name: str, losses: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """A layer's losses; the ranking says 0 for a layer that it did not reach or could not quantise."""
    return {precision: found.get(name) or None for precision, found in losses.items()}


def _demand_reachable(layers: Mapping[str, Choice], limit: float) -> None:
    total = sum(choice.costs[FLOAT] for choice in layers.values())
    least = sum(choice.least for choice in layers.values())
    if not total:
        raise PassError("no layer of the network has weights, or costs, that could be saved.")
    if least > limit:
        raise PassError(
            f"no mixture meets the budget of {limit / total:.0%}: the least possible is {least / total:.1%}.",
            remedy="Raise the budget, allow more precisions, or keep fewer layers in float.",
        )


def _not_int8(network: Network, current: Path, context: PassContext, chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Nodes of the file that `quantise_static` must leave: layers with another precision, and their biases."""
    import onnx

    from edgeopt.passes.graphs.questions import with_rewritten_gemm

    there = {node.name for node in onnx.load(prepare(current, context), load_external_data=False).graph.node}
    names = [name for name, precision in chosen.items() if precision != "int8"]
    adds = [network.producer(network.output(layer)) for layer in network.layers if layer.name in names]
    forms = [*with_rewritten_gemm(names), *context.keep_float, *(node.name for node in adds if node is not None)]
    forms += [f"{name}_Q4" for name in with_rewritten_gemm(names)] + [f"{name}_Add" for name in names]
    return tuple(name for name in dict.fromkeys(forms) if name in there)
