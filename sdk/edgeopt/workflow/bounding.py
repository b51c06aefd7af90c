"""Keeps off the board what could not win there however well it runs: by its size, and by the roofline's lower bound.

Both judge only beside something that was found to hold the budget: where nothing does, the nearest miss is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeopt.core.budget import Budget
from edgeopt.core.formats import ONNX
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.selection import Candidate
from edgeopt.core.space import Trial
from edgeopt.core.variant import Rejection, Variant
from edgeopt.core.work import Machine, Task
from edgeopt.selection.budget import misses
from edgeopt.selection.figures import figures_of
from edgeopt.selection.prediction.roofline import least_ns
from edgeopt.selection.wording import mebibytes, milliseconds

_MARGIN = 1.05
"""What one short launch of the best may be off by."""

_SKIPPED = frozenset({"prune_weights"})
"""Passes that leave products with zeros, which some runtimes skip: what is counted is no bound then."""


@dataclass(frozen=True)
class Bounds:
    """What cannot win on one device.

    Attributes:
        budget: Limits and objective.
        machine: The device.
    """

    budget: Budget
    machine: Machine

    def least_ns(self, variant: Variant, settings: Settings) -> float:
        """A latency that the variant cannot be below; 0 where nothing is known."""
        if variant.work is None or any(spec.name in _SKIPPED for spec in variant.provenance.recipe.passes):
            return 0.0
        work = variant.work
        if variant.artifact.format != ONNX:  # a converter may have chosen 8 bits
            work = replace(work, macs=0, narrow_macs=work.macs + work.narrow_macs)
        return least_ns(Task(work, settings, self.machine))

    def refusal(self, variant: Variant, settings: Settings, best_ns: float) -> str:
        """Why the board need not be asked; empty where it is to be.

        Args:
            variant: What would be measured.
            settings: How.
            best_ns: Latency of the best that is sure to hold the budget; infinite where nothing is.
        """
        if math.isinf(best_ns):
            return ""
        size, least, limit = variant.artifact.size_bytes, self.least_ns(variant, settings), self.budget.max_latency
        if self.budget.max_size_bytes is not None and size > self.budget.max_size_bytes:
            return f"takes {mebibytes(size)} on disk, budget {mebibytes(self.budget.max_size_bytes)}"
        told = f"cannot take less than {milliseconds(least)} ({settings}) by its products and bytes"
        if limit is not None and least > limit.limit_ns:
            return f"{told}, budget {limit}"
        if self.budget.objective == "latency" and least > _MARGIN * best_ns:
            return f"{told}; {milliseconds(best_ns)} was measured of another"
        return ""

    def best_ns(self, candidates: Sequence[Candidate], *, seed: int = 0) -> float:
        """Latency of the fastest that is sure to hold the budget by what was measured; infinite where none is."""
        figures = figures_of(candidates, self.budget, seed=seed)
        return min((one.latency_ns for one in figures if not misses(one, self.budget)), default=math.inf)

    def best_of(self, trials: Sequence[Trial]) -> float:
        """The least of the objective among trials within the budget; infinite where there are none."""
        return min((trial.objectives[0] for trial in trials if trial.measured and trial.excess == 0), default=math.inf)


def within_size(outcomes: Sequence[Variant | Rejection], budget: Budget) -> list[Variant | Rejection]:
    """Without files over the limit, where one of the others is within it; the original stays, whatever it takes."""
    limit = budget.max_size_bytes
    sizes = [one.artifact.size_bytes for one in outcomes if isinstance(one, Variant)]
    if limit is None or min(sizes, default=limit + 1) > limit:
        return list(outcomes)
    return [_told_if_over(one, limit) for one in outcomes]


def _told_if_over(outcome: Variant | Rejection, limit: int) -> Variant | Rejection:
    if isinstance(outcome, Rejection) or outcome.name == BASELINE.name or outcome.artifact.size_bytes <= limit:
        return outcome
    told = f"takes {mebibytes(outcome.artifact.size_bytes)} on disk, budget {mebibytes(limit)}"
    return Rejection(outcome.name, "size", told)
