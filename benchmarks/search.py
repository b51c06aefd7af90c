"""Search quality: how near to the best of everything a run comes, and in which part of the time that everything takes.

python benchmarks/search.py [--record NETWORK ...] [--seeds N]

Replays the measuring of `edgeopt deploy` at its default effort on tables of this machine that were recorded once
(`benchmarks/data/search-*.json`): the product's own loop asks, the table answers with one of the launches that were
recorded, drawn by the seed. A launch counts the seconds of its plan and of its process's start. Everything is: each
variant in each runtime, quickly and then by as many launches of the finals as the longest-raced finalist got.

The second table is about order alone: after which part of the quick launches something within 3 % of the best had been
measured, in the order of the forecast (learned from the other tables' launches, as a new network finds it), in that of
the roofline and in that of the profile.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import search_tables
from search_tables import BUDGET, NETWORKS, Row, Table

import edgeopt
from edgeopt.core.device import LOCAL
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import FINALS, QUICK, ROUNDS, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.selection import Candidate
from edgeopt.core.variant import Variant
from edgeopt.core.work import Observation, Task
from edgeopt.selection.prediction.predictor import Roofline
from edgeopt.selection.select import select
from edgeopt.selection.statistics import launch_noise
from edgeopt.workflow.forecasting import Foresight, foresight
from edgeopt.workflow.listener import Silence
from edgeopt.workflow.measuring import Bench, machine_of
from edgeopt.workflow.tuning import measure_all
from edgeopt_targets import registry

NEAR, MOST_SHARE = 0.03, 0.25
EFFORT = "standard"


@dataclass(frozen=True)
class Replay(Bench):
    """A bench that answers from a table."""

    rows: Any = None  # by variant and settings
    seed: int = 0
    taken: Any = None  # of every launch: key, plan, seconds

    def measure(self, variant: Variant, settings: Settings, plan: Plan, launch: int = 0) -> Measurement:
        """One of the launches that were recorded, as if by this plan; in each round the same one of all candidates."""
        row: Row = self.rows[variant.name, settings]
        found = random.Random(f"{self.seed} {plan.name} {launch}").choice(row.launches)
        self.taken.append((f"{variant.name} / {settings}", plan.name, seconds(row, plan)))
        return dataclasses.replace(found, plan=plan, accuracy=row.launches[0].accuracy if plan.evaluate else None)


def seconds(row: Row, plan: Plan) -> float:
    """What a launch has the board: the process's start, loading, and what the plan asks at least."""
    started = statistics.median(sum(launch.phases_ns.values()) for launch in row.launches) / 1e9
    return started + plan.warmup_seconds + plan.min_seconds


def bench_of(table: Table, workspace: edgeopt.Workspace, seed: int) -> Replay:
    """A bench on a table whose launches the seed draws."""
    profile = dataclasses.replace(table.profile, graph_optimisation=("all",), inter_op=(1,))  # all that was recorded
    connection: Any = SimpleNamespace(device=LOCAL)
    rows = {(row.variant, row.settings): row for row in table.rows}
    taken: list[tuple[str, str, float]] = []
    return Replay(
        workspace, connection, table.facts, profile, table.prepared, BUDGET, "replay", True, Silence(),
        rows=rows, seed=seed, taken=taken,
    )  # fmt: skip


def true_costs(table: Table) -> dict[str, float]:
    """What each candidate takes, by key: the median over the rounds, each in parts of the mean of all in that round."""
    ran = [row for row in table.rows if all(launch.valid and launch.latency for launch in row.launches)]
    taken = [[launch.latency.median_ns for launch in row.launches if launch.latency] for row in ran]
    means = [statistics.geometric_mean(values) for values in zip(*taken, strict=True)]
    costs = [statistics.median(value / mean for value, mean in zip(values, means, strict=True)) for values in taken]
    return {f"{row.variant} / {row.settings}": cost for row, cost in zip(ran, costs, strict=True)}


def everything(table: Table) -> tuple[dict[str, float], str]:
    """What each candidate takes that holds the budget by all launches, and which of them the rules choose."""
    variants = {one.name: one for one in table.variants}
    candidates = [Candidate(variants[row.variant], row.settings, row.launches) for row in table.rows]
    found = select(candidates, BUDGET, noise=launch_noise(table.rows[0].launches))
    feasible = {one.candidate.key for one in found.assessments if one.feasible}
    return {key: value for key, value in true_costs(table).items() if key in feasible}, str(found.winner)


def replayed(table: Table, workspace: edgeopt.Workspace, seed: int) -> tuple[float, float, float]:
    """What the choice takes over the fastest and over the choice from everything, and its share of the seconds."""
    bench = bench_of(table, workspace, seed)
    settings = registry.target(bench.profile.target).settings(bench.profile, bench.facts)
    found = measure_all(bench, table.variants, settings, effort=EFFORT, launches=ROUNDS[EFFORT])
    chosen = select(found.candidates, BUDGET, noise=found.noise, seed=seed).winner
    costs, rightly = everything(table)
    finals = [key for key, plan, _ in bench.taken if plan == EFFORT]
    rounds = max(finals.count(key) for key in finals)
    whole = math.fsum(seconds(row, QUICK) + rounds * seconds(row, FINALS[EFFORT]) for row in table.rows)
    taken = costs.get(str(chosen), math.inf)
    share = math.fsum(one[2] for one in bench.taken) / whole
    return taken / min(costs.values()) - 1, taken / costs[rightly] - 1, share


def until_near(table: Table, order: Sequence[tuple[Variant, Sequence[Settings]]]) -> float:
    """Share of the seconds of all quick launches after which one near the best was measured."""
    (best, _), rows = everything(table), {(row.variant, row.settings): row for row in table.rows}
    spent, whole = 0.0, math.fsum(seconds(row, QUICK) for row in table.rows)
    for variant, settings in order:
        for one in settings:
            spent += seconds(rows[variant.name, one], QUICK)
            if best.get(f"{variant.name} / {one}", math.inf) <= (1 + NEAR) * min(best.values()):
                return spent / whole
    return 1.0


def orders(table: Table, workspace: edgeopt.Workspace) -> dict[str, float]:
    """`until_near` by what put the candidates in order."""
    plans = [(one, [row.settings for row in table.rows if row.variant == one.name]) for one in table.variants]
    learned = foresight(bench_of(table, workspace, 0))
    plain = Foresight(Roofline(), 0, learned.machine)
    ways: dict[str, Callable[[Any], Any]] = {learned.predictor.name: learned.ordered}
    if learned.rows:
        ways["roofline"] = plain.ordered
    return {name: until_near(table, way(plans)) for name, way in ways.items()} | {"profile": until_near(table, plans)}


def teach(workspace: edgeopt.Workspace, tables: Sequence[Table]) -> None:
    """What the ledger would know of other networks."""
    for table in tables:
        variants, machine = {one.name: one for one in table.variants}, machine_of(table.facts, table.profile)
        for row in table.rows:
            variant, (first, *_) = variants[row.variant], row.launches
            if variant.work is not None and first.valid and first.latency:
                task = Task(variant.work, row.settings, machine)
                seen = Observation(
                    table.prepared.model.artifact.digest, variant.artifact.digest, task, float(first.latency.median_ns)
                )
                workspace.ledger.remember_observation(f"{table.network} {row.variant} {row.settings}"[:64], seen)


def main() -> None:
    """Replay, and say whether the goals were met; or record tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", nargs="+", choices=sorted(NETWORKS), default=[], help="measure these anew")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.record:
        print(search_tables.record(name))
    tables = search_tables.recorded()
    runs: list[tuple[float, float, float]] = []
    print(
        "| network | candidates | over the fastest | over the choice from everything | of its seconds | near by order |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for table in tables:
        with tempfile.TemporaryDirectory() as folder, edgeopt.Workspace.open(Path(folder)) as workspace:
            teach(workspace, [other for other in tables if other is not table])
            order = ", ".join(f"{name} {share:.0%}" for name, share in orders(table, workspace).items())
            found = [replayed(table, workspace, seed) for seed in range(arguments.seeds)]
        runs += found
        cells = [f"{value:.1%}" for value in medians(found)]
        print(f"| {table.network} | {len(table.rows)} | {' | '.join(cells)} | {order} |", flush=True)
    fastest, rightly, share = medians(runs)
    print(f"\nmedian over {len(runs)} runs: {share:.0%} of the seconds of everything ({verdict(share, MOST_SHARE)}),")
    print(f"{fastest:.1%} over the fastest that holds the budget ({verdict(fastest, NEAR)}),")
    print(f"{rightly:.1%} over what the same rules choose from everything ({verdict(rightly, NEAR)})")
    print(f"10 000 trials of a study opened in {opening_seconds():.2f} s of CPU (at most 1 s)")


def medians(runs: Sequence[tuple[float, ...]]) -> list[float]:
    """Of each figure over the runs."""
    return [statistics.median(values) for values in zip(*runs, strict=True)]


def verdict(value: float, most: float) -> str:
    """Whether a goal was met."""
    return f"at most {most:.0%}: {'met' if value <= most else 'missed'}"


def opening_seconds() -> float:
    """CPU that reading a study of 10 000 trials takes."""
    from sqlalchemy import insert

    from edgeopt.core.space import Trial
    from edgeopt.core.study import Subject
    from edgeopt.documents import encode_json
    from edgeopt.store import tables
    from edgeopt.store.studies import StudyStore

    subject = Subject("net", "", "", "", BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        with StudyStore(Path(folder) / "ledger.sqlite") as store:
            key = store.open(subject, now=1.0)
            rows = []
            for number in range(1, 10_001):
                point = {**{f"choice{place}": place for place in range(8)}, "width": number}
                trial = Trial(number, point, (1.0e6, 0.01), 0.0, f"search-{number}", board="local", device_seconds=9.0)
                row = {"study": key, "number": number, "point": str(number), "owner": "", "beat_at": 0.0, "attempts": 1}
                rows.append({**row, "document": encode_json(trial)})
            with store._database.writing() as connection:
                connection.execute(insert(tables.study_trials), rows)
        began = time.process_time()
        with StudyStore(Path(folder) / "ledger.sqlite") as store:
            assert len(store.finished(store.open(subject, now=2.0))) == 10_000
        return time.process_time() - began


if __name__ == "__main__":
    main()
