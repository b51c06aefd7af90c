"""Unstructured pruning: single weights, neurons or N of each M go to zero, at once or step by step while training.

Sources in `pruning.sparsity`; the gradual schedule is Zhu, Gupta: To prune, or not to prune: exploring the efficacy of
pruning for model compression, 2017, eq. 1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.questions import demand_nodes

if TYPE_CHECKING:
    from edgeopt.graph.torch_import import ImportedNetwork
    from edgeopt.passes.pruning.pace import Choice
    from edgeopt.passes.pruning.sparsity import Masked, Rule
    from edgeopt.passes.quantising.torch_weights import LayerWeight
    from edgeopt.training.samples import Samples

_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True)
class Options:
    """Options of `prune_weights`.

    Attributes:
        sparsity: Share of the weights (of neurons: of the output channels) that goes to zero, 0 to 1; a pattern has its
            own.
        importance: What goes first: the least |w|, |gradient| or |gradient x weight|.
        scope: Importances are compared over all layers, or within each.
        unit: Single connections, or neurons: all that an output channel reads, and its bias.
        pattern: ``none``, or N:M: of each M consecutive input channels at most N stay (``2:4``).
        pace: ``one_shot``, or ``gradual``: step by step while the network trains, on labels or after the original.
        ramp: Share of a gradual training in which the zeros grow; the rest recovers.
        updates: How often in that time it is chosen anew what goes.
        gradient_samples: Samples from which gradients are taken.
        epochs: Of a gradual training: passes over the samples.
        batch_size: Samples of a step.
        learning_rate: At its highest.
        optimiser: How weights follow gradients.
        schedule: How the learning rate falls.
        max_seconds: A gradual training ends after this time with what it has.
    """

    sparsity: float = 0.5
    importance: Literal["magnitude", "gradient", "taylor"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    unit: Literal["connections", "neurons"] = "connections"
    pattern: str = "none"
    pace: Literal["one_shot", "gradual"] = "one_shot"
    ramp: float = 0.6
    updates: int = 20
    gradient_samples: int = 128
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimiser: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    schedule: Literal["fixed", "step", "linear", "exponential", "cosine"] = "cosine"
    max_seconds: float = 1800.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)}, must be at least 1"
            for name in ("updates", "gradient_samples", "epochs", "batch_size")
            if getattr(self, name) < 1
        ]
        problems += [
            f"{name} is {getattr(self, name)}, must be above 0"
            for name in ("learning_rate", "max_seconds")
            if not getattr(self, name) > 0
        ]
        if not 0 < self.sparsity < 1:
            problems.append(f"sparsity is {self.sparsity}, must be above 0 and below 1")
        if not 0 <= self.ramp < 1:
            problems.append(f"ramp is {self.ramp}, must be at least 0 and below 1")
        if self.pattern != "none" and not self._kept_of_group()[1]:
            problems.append(f"pattern is {self.pattern!r}, must be `none` or N:M with N below M, for example 2:4")
        if self.pattern != "none" and self.unit == "neurons":
            problems.append(f"pattern is {self.pattern!r}, but neurons go whole: choose one")
        if problems:
            raise ValueError("; ".join(problems))

    def _kept_of_group(self) -> tuple[int, int]:
        """N and M of the pattern; zeros where there is none."""
        found = _PATTERN.fullmatch(self.pattern)
        kept, group = (int(found[1]), int(found[2])) if found else (0, 0)
        return (kept, group) if kept < group else (0, 0)

    @property
    def rule(self) -> Rule:
        """What may go."""
        from edgeopt.passes.pruning.sparsity import Rule

        return Rule(self.unit == "neurons", self.scope == "global", *self._kept_of_group())


class PruneWeights(Pass):
    """Sets weights to zero by importance: single ones, whole neurons, or a pattern such as 2:4.

    Never faster by itself on a CPU runtime, which multiplies by zeros too; the file shrinks only once compressed, and
    2:4 pays on an Ampere GPU with TensorRT alone. For speed take `prune_channels`.
    """

    name: ClassVar[str] = "prune_weights"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = False  # training samples do as well, and magnitudes need none
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with zeros; its shapes stay.

        Raises:
            PassError: Nothing that may be pruned, no samples where they are needed, an unknown node in `keep_float`, or
                a training that failed.
            ModelError: An operator that cannot be taken into torch.
        """
        import onnx

        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.pace import Choice
        from edgeopt.passes.pruning.sparsity import Masked, share_of

        demand_nodes(onnx.load(source, load_external_data=False), context.keep_float)
        network = import_onnx(source)
        weights, skipped = self._prunable(network, context)
        masked = Masked(network, weights, neurons=self.options.unit == "neurons")
        share = share_of(self.options.rule, self.options.sparsity)
        choice = Choice(masked, share, self.options, self._data(network, context), context.loss)
        notes = self._train(masked, choice, context) if self.options.pace == "gradual" else ()
        choice.prune(share)
        export_onnx(network, like=source, destination=destination)
        return PassReport((self._note(masked), *notes, *skipped), context.keep_float)

    def _prunable(self, network: ImportedNetwork, context: PassContext) -> tuple[list[LayerWeight], tuple[str, ...]]:
        """Weights that may go, and a sentence on layers that may not."""
        from torch import nn

        from edgeopt.passes.pruning.sparsity import fits
        from edgeopt.passes.quantising.torch_weights import layer_weights, node_names, paths_of

        rule, every = self.options.rule, layer_weights(network)
        kept = paths_of(network, context.keep_float)
        skipped: dict[str, str] = {}
        for weight in every:
            layer = network.get_submodule(weight.layer)
            if weight.layer in kept:
                skipped[weight.layer] = "kept"
            elif rule.group and isinstance(layer, nn.Embedding):
                skipped[weight.layer] = "a table"
            elif not fits(weight, weight.of(network), rule):
                skipped[weight.layer] = f"input channels that {rule.group} does not divide"
            elif rule.neurons and isinstance(layer, (nn.RNNBase, nn.Embedding)):
                skipped[weight.layer] = "no neurons of its own"
            elif rule.neurons and weight.layer == every[-1].layer:
                skipped[weight.layer] = "its neurons are the outputs"
        found = [weight for weight in every if weight.layer not in skipped]
        reasons = [f"{node} ({why})" for node, why in zip(node_names(network, skipped), skipped.values(), strict=True)]
        layers = len({weight.layer for weight in every})
        sentence = f"skipped {len(skipped)} of {layers} layers: {', '.join(reasons)}"
        if not found:
            raise PassError(f"no layer can be pruned so; {sentence}.")
        return found, (sentence,) if skipped else ()

    def _data(self, network: ImportedNetwork, context: PassContext) -> Samples | None:
        """Samples, where any are needed."""
        from edgeopt.passes._training import training_of

        if self.options.pace == "one_shot" and self.options.importance == "magnitude":
            return None
        return training_of(context, network.input_names, labelled=False)

    def _train(self, masked: Masked, choice: Choice, context: PassContext) -> tuple[str, ...]:
        """Prune gradually; what counts as the best begins where the zeros are all there."""
        from edgeopt.passes._training import train_pass
        from edgeopt.passes.quantising.imitation import after_original

        assert choice.samples is not None
        labelled = choice.samples.labelled
        loss = None if labelled else after_original(masked.network, choice.samples, context)
        whole = min(self.options.epochs, math.ceil(self.options.ramp * self.options.epochs) + 1)
        return train_pass(
            masked, choice.samples, self.options, context, loss=loss, after_step=choice.after_step, best_after=whole
        )

    def _note(self, masked: Masked) -> str:
        what = f"{self.options.pattern} " if self.options.pattern != "none" else ""
        layers = len({weight.layer for weight in masked.weights})
        return (
            f"{masked.zeros:.1%} of the weights of {layers} layers are {what}zeros; "
            "that saves space once compressed, and no time on a CPU"
        )
