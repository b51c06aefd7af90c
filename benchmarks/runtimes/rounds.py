"""The winners measured once more, interleaved, through the runner: every ratio is of one run.

Medians are kept by file and settings; rounds that are there already are not measured again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from choosing import ALL, Chosen, Pick, room_of

import edgeopt
from edgeopt import documents
from edgeopt.core.device import LOCAL
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import QUICK
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect

_PLAN = QUICK.without_evaluation()


class Rounds:
    """Medians in nanoseconds of every pick of a network, by its key, one for each round."""

    def __init__(self, chosen: Chosen, medians: dict[str, list[float]]) -> None:
        self.chosen, self._medians = chosen, medians

    def median_ms(self, pick: Pick) -> float:
        """Median over the rounds."""
        return statistics.median(self._medians[pick.key]) / 1e6

    def ratio(self, pick: Pick) -> float:
        """How many times as long as edgeopt's choice a pick takes: median over the rounds of the ratio in each."""
        own = self._medians[self.choice.key]
        return statistics.median(other / mine for other, mine in zip(self._medians[pick.key], own, strict=True))

    @property
    def choice(self) -> Pick:
        """What edgeopt chose among all runtimes."""
        return next(one for one in self.chosen.picks if one.among == ALL)

    @property
    def best_alone(self) -> Pick:
        """The fastest of those that were chosen with one runtime allowed."""
        return min((one for one in self.chosen.picks if one.among != ALL), key=self.median_ms)

    def alone(self, runtime: str) -> Pick | None:
        """What was chosen with that runtime alone; ``None`` where nothing of it is within the budget."""
        return next((one for one in self.chosen.picks if one.among == runtime), None)


def measured(chosen: Chosen, workspace: edgeopt.Workspace, folder: Path, count: int) -> Rounds:
    """Launch every pick `count` times in turn, in an order that rotates.

    Raises:
        SystemExit: One of them does not run any more.
    """
    kept = room_of(chosen.network, folder) / "rounds.json"
    medians: dict[str, list[float]] = json.loads(kept.read_text()) if kept.exists() else {}
    picks = list({one.key: one for one in chosen.picks}.values())
    with connect(LOCAL) as connection, connection.lease("benchmark of runtimes"):
        _push(connection, workspace, chosen, picks)
        for number in range(count):
            for pick in picks[number % len(picks) :] + picks[: number % len(picks)]:
                if len(medians.setdefault(pick.key, [])) <= number:
                    found = launch(connection, pick, chosen.golden.digest)
                    medians[pick.key].append(float(found.latency.median_ns if found.latency else 0))
                    print(f"    round {number + 1}: {pick} {medians[pick.key][-1] / 1e6:.3f} ms", flush=True)
            documents.write_atomically(kept, json.dumps(medians).encode())
    return Rounds(chosen, {key: values[:count] for key, values in medians.items()})


def _push(connection: Connection, workspace: edgeopt.Workspace, chosen: Chosen, picks: Sequence[Pick]) -> None:
    for artifact in (chosen.golden, *(one.artifact for one in picks)):
        connection.push(workspace.artifacts.path(artifact), artifact.digest)


def launch(connection: Connection, pick: Pick, golden: str) -> Measurement:
    """One launch in a fresh process. Raises SystemExit."""
    job = jobs.measure_job(
        artifact=pick.artifact, settings=pick.settings, plan=_PLAN, golden=golden, min_cosine=0.5, reason="benchmark"
    )
    found = jobs.measurement_of(connection.run_job(job))
    if not found.ok or found.latency is None:
        raise SystemExit(f"{pick} does not run any more: {found.status} {found.detail}")
    return found
