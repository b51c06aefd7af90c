"""What holds for every table, not only for those that we thought of."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.measurement import Memory
from edgeopt.core.selection import Candidate
from edgeopt.selection.pareto import dominates, front
from edgeopt.selection.schedule import finalists
from edgeopt.selection.select import select
from support.measurements import MEBI, candidate, failed

few = settings(max_examples=40, deadline=None)


@st.composite
def tables(draw: st.DrawFn) -> list[Candidate]:
    """An original and up to five variants with a few plausible figures each, some of them equal or spoiled."""
    found = [candidate("original", draw(st.sampled_from([1.0, 2.0])), correct=980, samples=70, launches=2)]
    for number in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 9)) == 0:
            found.append(failed(f"v{number}", "crash", ""))
            continue
        found.append(
            candidate(
                f"v{number}",
                draw(st.sampled_from([0.5, 0.99, 1.0, 1.01, 1.5, 2.5])),
                correct=draw(st.sampled_from([700, 975, 979, 980, 985])),
                memory_mebi=draw(st.sampled_from([50, 64, 80])),
                size_bytes=draw(st.sampled_from([1, 4])) * MEBI,
                noise=draw(st.sampled_from([0.001, 0.03])),
                flags=draw(st.sampled_from([(), ("unstable",), ("throttled",)])),
                seed=draw(st.integers(0, 3)),
                samples=70,
                launches=2,
            )
        )
    return found


budgets = st.builds(
    Budget,
    max_drop=st.sampled_from([None, 0.0, 0.01]),
    max_latency=st.sampled_from([None, LatencyLimit("p90", 1_050_000), LatencyLimit("median", 100)]),
    max_memory_bytes=st.sampled_from([None, 70 * MEBI]),
    objective=st.sampled_from(["latency", "memory", "size", "time-per-item"]),
)
noises = st.sampled_from([0.0, 0.02, 0.1, float("nan")])


@few
@given(tables(), budgets, noises)
def test_the_winner_is_feasible_and_there_is_one_whenever_something_is(
    table: list[Candidate], budget: Budget, noise: float
) -> None:
    chosen = select(table, budget, noise=noise)
    feasible = {item.candidate.key for item in chosen.assessments if item.feasible}
    assert (chosen.winner in feasible) if feasible else (chosen.winner is None)
    assert [item.candidate.key for item in chosen.assessments if item.verdict == "winner"] == [chosen.winner][
        : len(feasible)
    ]
    assert all(item.reason for item in chosen.assessments)
    if chosen.winner:
        assert chosen.assessments[0].candidate.key == chosen.winner == chosen.best_so_far
        assert chosen.assessments[0].pareto


@few
@given(tables(), budgets, noises, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(table, budget, noise, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(table, len(table))
    assert select(shuffled, budget, noise=noise) == select(table, budget, noise=noise)
    assert finalists(shuffled, budget, noise) == finalists(table, budget, noise)


@few
@given(tables(), budgets, noises, st.data())
def test_something_worse_in_every_respect_never_changes_the_winner(
    table: list[Candidate], budget: Budget, noise: float, data: st.DataObject
) -> None:
    before = select(table, budget, noise=noise)
    model = data.draw(st.sampled_from([item for item in table if item.measurements[0].latency]))
    worse = []
    for launch in model.measurements:
        assert launch.latency
        assert launch.memory
        assert launch.memory.run_bytes
        slower = replace(launch.latency, samples_ns=tuple(value + 1000 for value in launch.latency.samples_ns))
        worse.append(replace(launch, latency=slower, memory=Memory(run_bytes=launch.memory.run_bytes + 1)))
    larger = replace(model.variant.artifact, size_bytes=model.variant.artifact.size_bytes + 1)
    added = replace(model, variant=replace(model.variant, name="aaa", artifact=larger), measurements=tuple(worse))
    assert select([*table, added], budget, noise=noise).winner == before.winner


@few
@given(tables(), budgets, st.sampled_from([0.0, 0.02, 0.1]))
def test_the_original_is_a_finalist_whenever_it_works(table: list[Candidate], budget: Budget, noise: float) -> None:
    keys = finalists(table, budget, noise, limit=2)
    assert "original / 1 thread" in keys
    assert len(set(keys)) == len(keys) <= 2


points = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, float("inf")])] * 3), min_size=1, max_size=12)


@given(points)
def test_the_front_is_what_nothing_dominates_and_is_never_empty(found: list[tuple[float, ...]]) -> None:
    kept = [point for point, keep in zip(found, front(found), strict=True) if keep]
    assert kept
    for point in found:
        assert (point in kept) != any(dominates(other, point) for other in kept)
