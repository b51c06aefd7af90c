"""Early exits: easy samples leave the network at a small classifier half-way.

Source: Teerapittayanon, McDanel, Kung: BranchyNet: Fast Inference via Early Exiting from Deep Neural Networks, 2016,
§III (exits, entropy as confidence). The trunk is frozen here: the late answers stay those of the network, and any ONNX
file, quantised ones too, can be given exits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeopt.passes.exits.exit_heads import Watched
    from edgeopt.passes.exits.places import Array, Flow, Head, Place


@dataclass(frozen=True)
class Options:
    """Options of `early_exit`.

    Attributes:
        exits: How many, placed at equal shares of the cost where all data flow through one tensor.
        after: Names of nodes after which exits are put instead.
        max_drop: Largest loss of accuracy on held-out training samples, absolute, over all exits; without labels, of
            agreement with the network itself.
        confidence: What must be high to leave: the largest ``probability``, or minus the ``entropy``.
        grid: Cells an axis in which maps are averaged before the classifier; 1 averages the whole map.
        min_leaving: Least share of the samples that must leave early; fewer are not worth an exit.
        held_out: Share of the training samples that thresholds are chosen on.
        samples: Largest number of training samples used.
        epochs: Passes over the samples.
        batch_size: Samples a step.
        learning_rate: Of the first step.
        optimiser: See `training.options`.
        schedule: See `training.options`.
        max_seconds: The training of all heads ends after this time.
    """

    exits: int = 1
    after: tuple[str, ...] = ()
    max_drop: float = 0.01
    confidence: Literal["probability", "entropy"] = "probability"
    grid: int = 2
    min_leaving: float = 0.1
    held_out: float = 0.3
    samples: int = 20000
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-2
    optimiser: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    schedule: Literal["fixed", "step", "linear", "exponential", "cosine"] = "cosine"
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        from edgeopt.training.options import TrainingOptions, same_named

        TrainingOptions(**same_named(self))
        for name, least in (("exits", 1), ("grid", 1), ("samples", 10)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        for name in ("max_drop", "min_leaving"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 0 and below 1")
        if not 0.05 <= self.held_out <= 0.9:
            raise ValueError(f"held_out is {self.held_out}, must be between 0.05 and 0.9")


class EarlyExit(Pass):
    """Lets samples that a small classifier half-way is sure of leave there; the rest of the network does not run for
    them. Helps the average latency of classifiers at batch 1 where many inputs are easy; the worst case becomes a
    little slower, a batch leaves only together, and it must be the last pass of a recipe (quantise before it).
    """

    name: ClassVar[str] = "early_exit"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.0
    trains: ClassVar[bool] = True
    yields: ClassVar[frozenset[str]] = frozenset({"If"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with its exits.

        Raises:
            PassError: No samples, no classifier, no place for an exit, or none that enough samples may leave at.
        """
        import numpy as np
        import onnx

        from edgeopt.passes.exits.exit_heads import watch
        from edgeopt.passes.exits.places import Flow, with_exits

        samples = context.training or context.calibration
        if samples is None:
            raise PassError("it has no training samples.", remedy="Give --train data.py:train.")
        model = onnx.load(source)
        _demand_classifier(model)
        flow = Flow(model, _costs(model, samples, context.work))
        places = self._places(flow)
        watched = watch(flow, places, samples, limit=self.options.samples, grid=self.options.grid, work=context.work)
        order = np.random.default_rng(context.seed).permutation(len(watched.scores))
        held = max(1, round(self.options.held_out * len(order)))
        heads, notes = self._heads(places, watched, order[held:], order[:held], context)
        onnx.save(with_exits(flow, heads, self.options.confidence), destination)
        return PassReport(notes=notes)

    def _places(self, flow: Flow) -> list[Place]:
        from edgeopt.passes.exits.places import spread

        if self.options.after:
            return sorted((flow.after(name) for name in self.options.after), key=lambda place: place.share)
        places = spread(flow.narrows(), self.options.exits)
        if not places:
            raise PassError(
                "there is no tensor inside the network that all data flow through.", remedy="Name nodes: after: [...]."
            )
        return places

    def _heads(
        self, places: Sequence[Place], watched: Watched, learn: Array, held: Array, context: PassContext
    ) -> tuple[list[Head], tuple[str, ...]]:
        """Train all heads and choose their thresholds, one after the other, on the samples that are still there."""
        import numpy as np

        from edgeopt.passes.exits.exit_heads import confidence, fit, threshold
        from edgeopt.passes.exits.places import Head
        from edgeopt.training.options import TrainingOptions, same_named

        truth = watched.scores[held].argmax(1) if watched.labels is None else watched.labels[held]
        late = watched.scores[held].argmax(1) == truth
        here, lost, heads, leaving, notes = np.ones(len(held), bool), 0, [], [], []
        named = same_named(self.options) | {"max_seconds": self.options.max_seconds / len(places)}
        for index, (place, seen) in enumerate(zip(places, watched.seen, strict=True)):
            fitted = fit(watched, seen, learn, TrainingOptions(**named), context.loss, context.seed, context.work)
            scores = fitted.scores(seen.vectors[held])
            sure, right = confidence(scores, self.options.confidence), scores.argmax(1) == truth
            allowed = self.options.max_drop * len(held) * (index + 1) / len(places) - lost
            bound = threshold(sure[here], right[here], late[here], allowed)
            gone = here & (sure > bound) if bound is not None else np.zeros_like(here)
            notes += [f"exit after {place.node}: {note}" for note in fitted.notes]
            if gone.sum() < max(1, self.options.min_leaving * len(held) / len(places)):
                notes.append(f"no exit after {place.node}: {gone.mean():.0%} of held-out samples could leave there")
                continue
            here, lost = here & ~gone, lost + int((late[gone].astype(int) - right[gone].astype(int)).sum())
            heads.append(
                Head(place, seen.shape, seen.channels_last, seen.grid, fitted.weight, fitted.bias, float(bound or 0))
            )
            leaving.append(float(gone.mean()))
        return heads, self._said(heads, leaving, lost / len(held), notes, watched.labels is not None)

    def _said(
        self, heads: Sequence[Head], leaving: Sequence[float], drop: float, notes: list[str], labelled: bool
    ) -> tuple[str, ...]:
        if not heads:
            raise PassError(
                f"no exit is worth it: within max_drop {self.options.max_drop:g}, {'; '.join(notes)}.",
                remedy="Allow more drop, more training samples, a finer grid, or name later nodes in `after`.",
            )
        told = [
            f"{share:.0%} leave after {head.place.node} ({head.place.share:.0%} of the cost)"
            for head, share in zip(heads, leaving, strict=True)
        ]
        average = sum(head.place.share * share for head, share in zip(heads, leaving, strict=True)) + 1 - sum(leaving)
        what = "accuracy" if labelled else "agreement with the network"
        return (
            f"early_exit: of held-out samples {', '.join(told)}; {what} drops by {100 * drop:.1f} points",
            f"on average {average:.0%} of the cost is spent, at worst all of it and the exits; a batch leaves only "
            "when all its samples are sure, so this pays at batch 1",
            *notes,
        )


def _demand_classifier(model: Any) -> None:
    outputs = model.graph.output
    sizes = outputs[0].type.tensor_type.shape.dim
    if len(outputs) != 1 or len(sizes) != 2 or (sizes[1].HasField("dim_value") and sizes[1].dim_value < 2):
        shapes = [[size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim] for one in outputs]
        raise PassError(
            f"exits need one output [batch, classes]; this network gives {', '.join(map(str, shapes))}.",
            remedy="Only classifiers can be left early.",
        )


def _costs(model: Any, samples: Path, work: Path) -> dict[str, int]:
    """Multiply-accumulates by node name; those between activations, and in fused integer operators, do not count."""
    from edgeopt.passes.factoring.low_rank import find_layers, observe

    layers = find_layers(model)
    seen = observe(model, layers, samples, limit=1, work=work, moments=False)
    return {
        layer.name: (layer.weight.size + layer.other)
        * seen[layer.name].geometry.uses(len(seen[layer.name].geometry.after))
        for layer in layers
    }
