"""Structured pruning of channels: whole channels of convolutions and linear layers go, with all that depends on them.

Source: Fang, Ma, Song, Bi Mi, Wang: DepGraph: Towards Any Structural Pruning, 2023, for what goes together; each
criterion is cited in `pruning.importance`. All is found on the network itself, so torch networks and ONNX files are
alike.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `prune_channels`. One goal: `widths`, else `stages`, else `latency`, else `macs`, else `ratio`.

    Attributes:
        ratio: Share of the channels to remove, above 0 and below 1.
        macs: Share of the multiply-accumulates to keep, above 0 and below 1; 0 goes by `ratio`.
        widths: Output channels to keep by layer name; all other layers stay. Taken as they are, without `round_to`.
        latency: Share of the latency to keep, above 0 and below 1: `widths` are then chosen by a table that is
            measured on the device (NetAdapt), in multiples that the device likes. 0 goes by the other goals.
        stages: Shares of the channels to keep by parts of the depth, each above 0 and at most 1: three shares are for
            the first, middle and last third of what can be pruned. All 1 leaves the network as it is.
        importance: What tells the least important channels: l1, l2 (norms of weights), fpgm (distance to others),
            bn_scale, taylor, hessian (by gradients), activation (times weight), entropy (of activations), random.
        ranking: ``global`` compares channels of all layers, ``layer`` takes the same share from each.
        round_to: Channels kept are a multiple, where the layer is wide enough; what SIMD units like: 4, 8 or 16.
        min_keep: Share of each layer's channels that stays in any case, 0 to 1.
        ignore: Names of layers that keep their channels.
        steps: Rounds in which the goal is reached, the importance taken anew in each.
    """

    ratio: float = 0.3
    macs: float = 0.0
    widths: Mapping[str, int] = field(default_factory=dict)
    latency: float = 0.0
    stages: tuple[float, ...] = ()
    importance: Literal["l1", "l2", "fpgm", "bn_scale", "taylor", "hessian", "activation", "entropy", "random"] = "l2"
    ranking: Literal["global", "layer"] = "global"
    round_to: int = 1
    min_keep: float = 0.1
    ignore: tuple[str, ...] = ()
    steps: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.ratio < 1:
            problems.append(f"ratio is {self.ratio}, must be above 0 and below 1")
        if not 0 <= self.macs < 1:
            problems.append(f"macs is {self.macs}, must be below 1 and not negative")
        if not 0 <= self.min_keep <= 1:
            problems.append(f"min_keep is {self.min_keep}, must be between 0 and 1")
        if self.round_to < 1 or self.steps < 1:
            problems.append(f"round_to is {self.round_to} and steps is {self.steps}, both must be at least 1")
        problems += [f"widths gives {name} {width} channels" for name, width in self.widths.items() if width < 1]
        if not 0 <= self.latency < 1:
            problems.append(f"latency is {self.latency}, must be below 1 and not negative")
        problems += [
            f"stages has {share}, must be above 0 and at most 1" for share in self.stages if not 0 < share <= 1
        ]
        if sum(bool(goal) for goal in (self.widths, self.stages, self.macs, self.latency)) > 1:
            problems.append("widths, stages, latency and macs are goals of which one can be met, give one")
        if not math.isfinite(self.ratio + self.macs + self.min_keep):
            problems.append("a value is not finite")
        if problems:
            raise ValueError("; ".join(problems))


class PruneChannels(Pass):
    """Removes the least important channels, with all that depends on them.
    Helps latency and size wherever convolutions or wide linear layers take the time; accuracy falls until a later pass
    recovers it, and a layer that was narrow or odd afterwards can be slower than before.
    """

    name: ClassVar[str] = "prune_channels"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the narrower network.

        Raises:
            PassError: No calibration inputs, nothing that can be removed, an unknown layer in `widths` or `ignore`, a
                width above the layer's, or a share of MACs that cannot be reached.
            ModelError: The network cannot be imported; names the operator.
            DataError: Samples that do not fit.
        """
        if self.options.latency:
            raise PassError(
                "widths by latency are measured on a device, and here is none.",
                remedy="Use the recipe with edgeopt deploy or edgeopt optimize, or give macs or widths.",
            )
        if self.options.stages and min(self.options.stages) == 1:
            shutil.copyfile(source, destination)
            return PassReport(notes=("all parts keep their channels: the network is as it was",))
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.rounds import prune

        network = import_onnx(source)
        notes = prune(network, self.options, context)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
