"""What opens a gate, what halts it, and how often it is wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.rollout import BoardProgress, GatePolicy, GateVerdict
from edgeopt.fleet import gate
from edgeopt.fleet.evidence import Evidence
from edgeopt.fleet.gate import failures_allowed, wilson_upper
from edgeopt.fleet.regression import change_of, outliers, student_quantile
from support.rollouts import figures, progress

POLICY = GatePolicy()


def evidence(wave: int, there: Sequence[BoardProgress], policy: GatePolicy, late: tuple[str, ...] = ()) -> Evidence:
    found = Evidence(policy)
    for board in there:
        (found.count if board.wave == wave or board.board in late else found.put)(board)
    return found


def judge(
    wave: int, there: Sequence[BoardProgress], policy: GatePolicy, now: float, late: tuple[str, ...] = ()
) -> GateVerdict:
    return gate.judge(wave, evidence(wave, there, policy, late), now)


def failure_reason(there: Sequence[BoardProgress], policy: GatePolicy) -> str:
    return gate.failure_reason(evidence(1, there, policy))


def boards(committed: int, wave: int = 1, **others: int) -> list[BoardProgress]:
    states = ["committed"] * committed + [state for state, count in others.items() for _ in range(count)]
    pairs = {"before": figures(), "after": figures()}
    return [
        progress(f"b{number}", state, wave, **(pairs if state == "committed" else {}))
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("failed", "of", "bound"),  # R. Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I
    [(81, 263, 0.3662), (15, 148, 0.1605), (0, 20, 0.1611), (1, 29, 0.1718)],
)
def test_the_bound_is_the_published_one(failed: int, of: int, bound: float) -> None:
    assert wilson_upper(failed, of, 0.975) == pytest.approx(bound, abs=5e-5)


@given(st.integers(1, 2000), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_failures_allowed_are_the_most_that_the_bound_lets_pass(of: int, limit: float) -> None:
    policy = GatePolicy(max_failures=limit)
    most = failures_allowed(of, policy)
    assert most == 0 or wilson_upper(most, of, policy.confidence) <= limit
    assert most == of or wilson_upper(most + 1, of, policy.confidence) > limit


@pytest.mark.parametrize(("of", "most"), [(1, 0), (20, 0), (86, 0), (87, 1), (100, 1), (500, 16), (1000, 38)])
def test_exact_counts_of_failures_that_five_percent_allow(of: int, most: int) -> None:
    assert failures_allowed(of, POLICY) == most
    assert judge(1, boards(of - most, rolled_back=most), POLICY, 0.0).verdict == "go"
    halted = judge(1, boards(of - most - 1, rolled_back=most + 1), POLICY, 0.0)
    assert halted.verdict == "halt"
    assert f"{most + 1} of {of} boards failed (health {most + 1})" in halted.reasons[0]


def test_a_wave_is_hopeless_as_soon_as_one_failure_too_many_is_known() -> None:
    wave = boards(3, pending=95, failed=2)
    assert "2 of 100 boards failed" in failure_reason(wave, POLICY)
    assert failure_reason(boards(3, pending=96, failed=1), POLICY) == ""
    assert failure_reason(boards(9, waiting=90, failed=1), POLICY) == "", "windows that open later are no absence"


def test_one_board_without_any_healthy_release_halts() -> None:
    assert judge(1, boards(999, bricked=1), POLICY, 0.0).reasons == (
        "no release is healthy on b999: one such board is too many",
    )


def test_who_declined_or_is_away_has_not_failed() -> None:
    assert judge(1, boards(70, skipped=500, unreachable=30), POLICY, 0.0).verdict == "go"


def test_silence_never_passes() -> None:
    for wave in (boards(0, unreachable=3), boards(0, waiting=1), boards(6, unreachable=4)):
        verdict = judge(1, wave, POLICY, 0.0)
        assert verdict.verdict == "wait"
        assert "boards are away" in verdict.reasons[0]
    assert judge(1, boards(2, pending=8), GatePolicy(min_boards=5), 0.0).reasons == (
        "2 boards run the release and can be believed, and 5 must",
    )
    assert judge(1, boards(0, skipped=3), POLICY, 0.0).verdict == "go"


def test_outputs_that_do_not_agree_are_a_failure_whatever_the_board_says() -> None:
    wrong = progress("b0", before=figures(), after=figures(cosine=0.7))
    assert judge(1, [wrong], GatePolicy(min_cosine=0.99), 0.0).verdict == "halt"


def measured(
    count: int, rng: random.Random, *, slower: float = 0.0, profile: str = "pi5", wave: int = 1, noise: float = 0.0
) -> Iterator[BoardProgress]:
    for number in range(count):
        spread = noise or rng.uniform(0.05, 0.10)
        speed = rng.uniform(1e6, 5e7)
        pair = [
            figures(
                speed * factor * math.exp(rng.gauss(0, spread)),
                memory_bytes=int(6e7 * math.exp(rng.gauss(0, 0.02))),
            )
            for factor in (1.0, 1 + slower)
        ]
        yield progress(f"{profile}-{wave}-{number}", wave=wave, profile=profile, before=pair[0], after=pair[1])


def rollout(seed: int, slower: float) -> int:
    """The wave after which a rollout over 1 000 boards of five kinds halts; 0: never. One kind may be slower."""
    rng, there = random.Random(seed), list[BoardProgress]()
    for wave, size in enumerate((5, 45, 200, 750), 1):
        for kind in range(5):
            share = slower if kind == 0 else 0.0
            there += measured(size // 5, rng, slower=share, profile=f"kind{kind}", wave=wave)
        verdict = judge(wave, there, POLICY, 0.0)
        if verdict.verdict == "halt":
            if slower:
                assert all(reason.startswith("kind0") for reason in verdict.reasons)
            return wave
    return 0


def test_eight_percent_on_one_kind_of_board_are_found_and_nothing_is_not() -> None:
    found = [rollout(seed, 0.08) for seed in range(25)]
    assert all(found)
    assert sum(wave <= 3 for wave in found) >= 10  # the others while the last wave is under way
    assert sum(rollout(seed, 0.0) > 0 for seed in range(25)) == 0


def test_what_is_twice_as_slow_is_found_on_the_first_board() -> None:
    halted = [judge(1, list(measured(1, random.Random(seed), slower=1.0)), POLICY, 0.0) for seed in range(40)]
    assert sum(verdict.verdict == "halt" for verdict in halted) >= 38


def test_memory_has_a_limit_of_its_own() -> None:
    more = [progress(f"b{n}", before=figures(), after=figures(memory_bytes=90 << 20)) for n in range(8)]
    (reason,) = judge(1, more, POLICY, 0.0).reasons
    assert "pi5: memory +50.0% than before" in reason
    assert judge(1, more, GatePolicy(max_memory=2.0), 0.0).verdict == "go"


def test_what_becomes_slower_during_the_soak_is_found() -> None:
    rng = random.Random(3)
    warm = [
        progress(f"b{n}", after=figures(8e6 * rng.gauss(1, 0.02)), soaked=figures(1.3 * 8e6 * rng.gauss(1, 0.02)))
        for n in range(12)
    ]
    assert any("after the soak" in reason for reason in judge(1, warm, POLICY, 0.0).reasons)


def disturbed(slower: float, count: int = 3) -> list[BoardProgress]:
    busy = figures(1e7, disturbed="contended")
    return [progress(f"busy{n}", before=busy, after=figures(1e7 * (1 + slower))) for n in range(count)]


def test_where_every_board_is_busy_only_a_large_regression_shows_and_the_gate_says_so() -> None:
    verdict = judge(1, disturbed(0.20), POLICY, 0.0)
    assert verdict.verdict == "go"
    assert "3 of 3 boards were disturbed (contended), so that only a large regression" in verdict.reasons[0]
    assert judge(1, disturbed(0.65), POLICY, 0.0).verdict == "halt"
    assert judge(1, disturbed(0.20, count=60), POLICY, 0.0).verdict == "halt", "many boards show less"


def test_busy_boards_are_not_asked_where_quiet_ones_can_speak() -> None:
    quiet = [progress(f"b{n}", before=figures(), after=figures()) for n in range(3)]
    verdict = judge(1, quiet + disturbed(2.0, count=6), POLICY, 0.0)
    assert (verdict.verdict, verdict.reasons) == ("go", ())
    assert verdict.slower[0][1] == pytest.approx(0)


def test_boards_that_are_ten_times_too_good_cannot_carry_a_gate() -> None:
    rng = random.Random(5)
    honest = list(measured(60, rng, slower=0.15, noise=0.05))
    liars = [progress(f"liar{n}", before=figures(), after=figures(8e5)) for n in range(10)]
    verdict = judge(1, honest + liars, POLICY, 0.0)
    assert verdict.verdict == "halt"
    assert dict(verdict.counts)["quarantined"] >= 10
    (_, estimate, low, high) = verdict.slower[0]
    assert low < 0.15 < high
    assert abs(estimate - 0.15) < 0.05


def test_a_liar_does_not_count_towards_the_least_sample() -> None:
    rng = random.Random(6)
    honest = list(measured(5, rng, noise=0.03))
    verdict = judge(1, [*honest, progress("liar", before=figures(), after=figures(8e5))], GatePolicy(min_boards=6), 0.0)
    assert verdict.reasons == ("5 boards run the release and can be believed, and 6 must",)


def test_boards_that_come_back_late_are_judged_with_the_wave_at_work() -> None:
    late = progress("late", "rolled_back", wave=1)
    there = [late, *boards(10, wave=2)]
    assert judge(2, there, POLICY, 0.0).verdict == "go"
    assert judge(2, there, POLICY, 0.0, ("late",)).verdict == "halt"


STATES = ("pending", "sending", "committed", "committed", "rolled_back", "unreachable", "skipped", "bricked")


@st.composite
def reports(draw: st.DrawFn) -> BoardProgress:
    number, state = draw(st.integers(0, 39)), draw(st.sampled_from(STATES))
    pick = st.sampled_from([None, figures(8e6), figures(9e6, disturbed="contended"), figures(5e6, cosine=0.2)])
    measured_: dict[str, Any] = {}
    if state == "committed":
        measured_ = {name: draw(pick) for name in ("before", "after", "soaked")}
    failure = "smoke" if state == "rolled_back" else ""
    return progress(f"b{number}", state, number % 3, profile=f"k{number % 2}", failure=failure, **measured_)


@given(st.lists(reports(), max_size=60), st.sets(st.sampled_from([f"b{number}" for number in range(40)]), max_size=3))
def test_what_came_in_bit_by_bit_is_judged_as_what_is_known_at_the_end(
    said: list[BoardProgress], late: set[str]
) -> None:
    policy, now = GatePolicy(min_cosine=0.9), {f"b{n}": progress(f"b{n}", "pending", n % 3) for n in range(40)}
    grown = evidence(2, tuple(now.values()), policy)
    for board in said:
        grown.put(board)
        now[board.board] = board
    for name in late:
        grown.count(now[name])
    known = tuple(now.values())
    assert gate.judge(2, grown, 0.0) == judge(2, known, policy, 0.0, tuple(late))
    grown.count_only(board for board in known if board.wave == 1)
    assert gate.judge(1, grown, 0.0) == judge(1, known, policy, 0.0)


def test_student_quantiles_are_those_of_the_table() -> None:
    table = {(0.95, 3): 2.3534, (0.95, 10): 1.8125, (0.99, 4): 3.7469, (0.999, 10): 4.1437, (0.95, 200): 1.6525}
    for (share, freedom), value in table.items():
        assert student_quantile(share, freedom) == pytest.approx(value, rel=5e-3)


def test_the_bounds_of_a_change_hold_as_often_as_they_say() -> None:
    for size in (4, 10, 60):
        misses = 0
        for seed in range(300):
            rng = random.Random(f"{size}/{seed}")
            pairs = [(1.0, 1.1 * math.exp(rng.gauss(0, 0.12))) for _ in range(size)]
            change = change_of(pairs, 0.95)
            assert change is not None
            misses += change.low > 0.1
        assert misses <= 0.08 * 300


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=30), st.floats(0.01, 100))
def test_a_change_does_not_depend_on_units_and_lies_between_its_bounds(ratios: list[float], unit: float) -> None:
    change, same = (change_of([(scale, scale * ratio) for ratio in ratios], 0.95) for scale in (1.0, unit))
    assert change is not None
    assert same is not None
    assert change.low <= change.estimate <= change.high
    assert same.estimate == pytest.approx(change.estimate, abs=1e-9)


def test_nobody_has_said_anything() -> None:
    assert change_of([(0.0, 1.0)], 0.95) is None
    assert not outliers(np.array([0.0, 0.0, 9.0])).any()
    assert list(outliers(np.array([0.0, 0.01, -0.01, 0.02, -2.3, math.nan]))) == [False] * 4 + [True, False]
