"""Races on boards with noise: what is the same is called the same, what differs is found, whenever one looks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.plan import FULL, ROUNDS, STANDARD
from edgeopt.core.selection import Candidate
from edgeopt.selection.racing import LEAST_DIFFERENCE, alike, losers, paired, paired_ratio
from edgeopt.selection.schedule import racing, settled
from edgeopt.selection.select import select
from edgeopt.selection.statistics import launch_noise
from support.measurements import ONE_THREAD, candidate, latency_of, measurement, variant

TRIALS, NOISE = 200, 0.10

Board = Callable[[random.Random, int], list[float]]
"""What makes each of so many rounds slower, as factors for two launches in turn."""


def restless(rng: random.Random, rounds: int) -> list[float]:
    """Every launch has a speed of its own."""
    return [math.exp(rng.gauss(0, NOISE)) for _ in range(2 * rounds)]


def drifting(rng: random.Random, rounds: int) -> list[float]:
    """The board warms and cools; launches beside each other hardly differ."""
    speed, found = 0.0, []
    for _ in range(2 * rounds):
        speed = 0.95 * speed + rng.gauss(0, NOISE * math.sqrt(1 - 0.95**2))
        found.append(math.exp(speed + rng.gauss(0, 0.005)))
    return found


def verdict(board: Board, ratio: float, most: int, seed: int) -> str:
    """Of a race that may end after any round."""
    factors = board(random.Random(seed), most)
    one = [ratio * factors[2 * i + i % 2] for i in range(most)]
    other = [factors[2 * i + 1 - i % 2] for i in range(most)]
    for rounds in range(2, most + 1, 4):
        found = paired_ratio(one[:rounds], other[:rounds])
        if found.low > 1 + LEAST_DIFFERENCE:
            return "slower"
        if found.high < 1 - LEAST_DIFFERENCE:
            return "faster"
    return "tie"


@pytest.mark.parametrize(("board", "most"), [(restless, 250), (drifting, 80)])
def test_ten_percent_of_noise_between_launches_makes_no_difference_and_hides_none_of_five_percent(
    board: Board, most: int
) -> None:
    same = [verdict(board, 1.0, most, seed) for seed in range(TRIALS)]
    assert same.count("tie") >= 0.95 * TRIALS
    slower = [verdict(board, 1.05, most, seed) for seed in range(TRIALS)]
    assert slower.count("slower") >= 0.80 * TRIALS
    assert slower.count("faster") <= 0.01 * TRIALS


def noisy(name: str, median_ms: float, rng: random.Random, launches: int = 3) -> Candidate:
    """Launches of the full plan on a board whose every inference takes 10 % more or less than the median."""
    taken = []
    for _ in range(launches):
        values = [int(1e6 * median_ms * math.exp(rng.gauss(0, NOISE))) for _ in range(FULL.min_samples)]
        taken.append(measurement(name, latency_of(values, 3), plan=FULL))
    return Candidate(variant(name), ONE_THREAD, tuple(taken))


def chosen(ratio: float, seed: int) -> str:
    """What becomes of a variant that takes this many times as long as the original."""
    rng = random.Random(seed)
    original, other = noisy("original", 10.0, rng), noisy("other", 10.0 * ratio, rng)
    found = select([original, other], Budget(max_drop=None), noise=launch_noise(original.measurements))
    verdicts = {item.candidate.variant.name: item.verdict for item in found.assessments}
    return "tie" if "slower" not in verdicts.values() else next(k for k, v in verdicts.items() if v == "slower")


def test_ten_percent_of_noise_between_inferences_is_no_matter_for_three_launches() -> None:
    same = [chosen(1.0, seed) for seed in range(TRIALS)]
    assert same.count("tie") >= 0.95 * TRIALS
    slower = [chosen(1.05, seed) for seed in range(TRIALS)]
    assert slower.count("other") >= 0.80 * TRIALS
    assert slower.count("original") == 0


def raced(ratio: float, seed: int) -> tuple[str, int]:
    """Which of both is called slower, and after how many rounds of shortest standard launches the race ended."""
    rng = random.Random(seed)
    medians, launches = {"original": 10.0, "other": 10.0 * ratio}, {"original": [], "other": []}  # type: ignore[var-annotated]
    for _ in range(ROUNDS[STANDARD.name]):
        for name, median in medians.items():
            values = [int(1e6 * median * math.exp(rng.gauss(0, NOISE))) for _ in range(STANDARD.min_samples)]
            launches[name].append(measurement(name, latency_of(values, 3), plan=STANDARD))
        items = [Candidate(variant(name), ONE_THREAD, tuple(taken)) for name, taken in launches.items()]
        if len(racing(items, Budget(max_drop=None))) == 1 or settled(items, Budget(max_drop=None)):
            break
    found = select(items, Budget(max_drop=None), noise=launch_noise(items[0].measurements))
    slower = [one.candidate.variant.name for one in found.assessments if one.verdict == "slower"]
    return "".join(slower) or "tie", len(launches["other"])


def test_at_the_default_effort_five_percent_are_found_and_nothing_else() -> None:
    same, slower = [raced(1.0, seed) for seed in range(60)], [raced(1.05, seed) for seed in range(60)]
    assert [name for name, _ in same].count("tie") >= 0.95 * 60
    assert [name for name, _ in slower].count("other") >= 0.80 * 60
    assert not [name for name, _ in slower if name == "original"]
    assert sum(rounds for _, rounds in slower) < 60 * ROUNDS[STANDARD.name] * 0.7  # decided, it ends


def test_equal_candidates_on_a_quiet_board_are_settled_and_on_a_noisy_one_raced_on() -> None:
    rng = random.Random(2)
    quiet = [[10 * math.exp(rng.gauss(0, 0.001)) for _ in range(5)] for _ in range(3)]
    assert alike(dict(zip("abc", quiet, strict=True)))
    assert not alike(dict(zip("abc", [*quiet[:2], [1.03 * value for value in quiet[2]]], strict=True)))
    assert not alike({"a": restless(rng, 3), "b": restless(rng, 3)})
    steady = {"launches": 5, "samples": 30, "windows": 1, "noise": 0.0005}
    items = [candidate("a", 1.0, **steady), candidate("b", 1.0, seed=7, **steady)]
    assert settled(items, Budget())
    assert not settled(items[:1], Budget())
    assert not settled(items, Budget(objective="memory"))
    assert not settled(items, Budget(max_latency=LatencyLimit("p90", 10**9)))


def test_few_rounds_end_a_race_only_where_the_difference_is_large() -> None:
    assert paired_ratio([2.0], [1.0]).high == math.inf
    assert paired_ratio([], []).low == 0.0
    assert paired_ratio([1.30, 1.31, 1.29, 1.30], [1.0, 1.0, 1.0, 1.0]).low > 1.2
    close = paired_ratio([1.03, 0.99, 1.02, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert close.low < 1 < close.high


def test_rounds_in_which_one_of_both_did_not_count_are_left_out() -> None:
    ratio, rounds = paired([2.0, None, 2.0, 2.0], [1.0, 1.0, None, 1.0, 1.0])
    assert (rounds, ratio.value) == (2, pytest.approx(2.0))


def test_equal_rounds_without_any_noise_refute_nothing_but_other_ratios() -> None:
    found = paired_ratio([1.0] * 8, [1.0] * 8)
    assert found.low <= 1.0 <= found.high
    assert found.high < 1.001


def test_the_best_of_many_is_not_thrown_out_because_there_are_many() -> None:
    """As many looks at as many pairs as it takes to fool a test that does not count them."""
    wrong = 0
    for seed in range(40):
        rng = random.Random(seed)
        rounds: dict[str, Sequence[float]] = {f"v{i}": restless(rng, 15) for i in range(8)}
        for looked in range(2, 31, 4):
            wrong += bool(losers({name: values[:looked] for name, values in rounds.items()}, rounds))
    assert wrong <= 2


def test_ratios_by_round_see_through_a_drift_that_hides_the_difference_from_pooled_launches() -> None:
    rng = random.Random(3)
    factors = drifting(rng, 24)
    pairs = [("original", 10.0, factors[::2]), ("other", 10.5, factors[1::2])]
    items = [
        Candidate(
            variant(name),
            ONE_THREAD,
            tuple(measurement(name, latency_of([int(1e6 * median * f)] * 64), plan=STANDARD) for f in by_round),
        )
        for name, median, by_round in pairs
    ]
    found = select(items, Budget(max_drop=None), noise=launch_noise(items[0].measurements))
    assert {one.candidate.variant.name: one.verdict for one in found.assessments} == {
        "original": "winner",
        "other": "slower",
    }
