"""What a run expects of its candidates before it asks the board: from the ledger's launches, else by counting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeopt.core.measurement import Measurement
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.selection import Candidate
from edgeopt.core.variant import Variant
from edgeopt.core.work import Forecast, Machine, Prediction, Task
from edgeopt.selection.prediction.predictor import Predictor, learned, rank_correlation
from edgeopt.workflow.measuring import Bench, machine_of

Plans = Sequence[tuple[Variant, Sequence[Settings]]]


@dataclass(frozen=True)
class Foresight:
    """Expects latencies on one device.

    Attributes:
        predictor: What it expects them by.
        rows: Launches that this was learned from.
        machine: The device.
    """

    predictor: Predictor
    rows: int
    machine: Machine

    def of(self, variant: Variant, settings: Settings) -> float:
        """Nanoseconds; infinite where the variant could not be counted."""
        if variant.work is None:
            return math.inf
        return self.predictor([Task(variant.work, settings, self.machine)])[0]

    def ordered(self, plans: Plans) -> list[tuple[Variant, Sequence[Settings]]]:
        """The original first, then what is expected to be fastest with its best settings."""

        def place(plan: tuple[Variant, Sequence[Settings]]) -> tuple[bool, float]:
            variant, settings = plan
            return variant.name != BASELINE.name, min((self.of(variant, one) for one in settings), default=math.inf)

        return sorted(plans, key=place)

    def forecast(self, launches: Iterable[tuple[Variant, Measurement]]) -> Forecast:
        """How well first launches were foreseen; those that gave no figure do not count."""
        found = []
        for variant, one in launches:
            expected = self.of(variant, one.settings)
            if one.valid and one.latency is not None and math.isfinite(expected):
                taken_ns = float(one.latency.average_ns or one.latency.median_ns)
                found.append(Prediction(Candidate(variant, one.settings, ()).key, expected, taken_ns))
        told = rank_correlation([one.predicted_ns for one in found], [one.measured_ns for one in found])
        return Forecast(self.predictor.name, self.rows, tuple(found), told)


def foresight(bench: Bench) -> Foresight:
    """Learn from the ledger, but for this network on this board: what is known of that is not measured again.

    Leaving it out, a run that goes on expects what it expected when it began.
    """
    machine, network = machine_of(bench.facts, bench.profile), bench.prepared.model.artifact.digest
    rows = [
        row
        for row in bench.workspace.ledger.observations()
        if (row.model, row.task.machine.fingerprint) != (network, machine.fingerprint)
    ]
    predictor = learned(rows)
    return Foresight(predictor, 0 if predictor.name == "roofline" else len(rows), machine)
