"""Boards of one kind that give the same agree; one that is slower, less accurate or fails alone is told."""

from __future__ import annotations

from edgeopt.core.budget import Budget
from edgeopt.core.selection import Candidate
from edgeopt.selection.agreement import TOLERANCE, agreements, together
from support.measurements import candidate, failed

BUDGET = Budget(max_drop=0.05)


def board(factor: float, seed: int, **changes: object) -> list[Candidate]:
    return [candidate("original", 10.0 * factor, seed=seed), candidate("int8", 4.0 * factor, seed=seed, **changes)]  # type: ignore[arg-type]


def test_chips_differ_by_a_little_and_nobody_is_told() -> None:
    found = agreements({"a": board(1.0, 1), "b": board(1.0 + TOLERANCE / 2, 2), "c": board(1.01, 3)}, BUDGET)
    assert [one.disagrees for one in found.values()] == ["", "", ""]
    ratio = found["b"].ratio
    assert ratio is not None
    assert 1.0 < ratio.value < 1 + TOLERANCE
    assert ratio.low < ratio.value < ratio.high


def test_a_board_that_is_slower_than_its_kind_is_told_with_both_times_and_the_others_are_not() -> None:
    boards = {name: board(1.5 if name == "hot" else 1.0, seed) for seed, name in enumerate(("a", "b", "c", "hot"))}
    found = agreements(boards, BUDGET)
    assert [name for name, one in found.items() if one.disagrees] == ["hot"]
    assert found["hot"].disagrees.endswith("on the others 4 ms (1.50 times)")


def test_of_two_boards_that_differ_both_are_told() -> None:
    found = agreements({"a": board(1.0, 1), "b": board(1.4, 2)}, BUDGET)
    assert all(one.disagrees for one in found.values())


def test_wide_intervals_are_no_disagreement() -> None:
    steady, noisy = board(1.0, 1), [candidate("int8", 5.0, seed=9, noise=0.5, launches=2)]
    assert agreements({"a": steady, "b": noisy}, BUDGET)["b"].disagrees == ""


def test_a_board_that_computes_other_numbers_is_told() -> None:
    found = agreements({"a": board(1.0, 1), "b": board(1.0, 2, correct=900), "c": board(1.0, 3)}, BUDGET)
    assert "int8 / " in found["b"].disagrees
    assert [name for name, one in found.items() if one.disagrees] == ["b"]
    assert "8 points less of top1" in found["b"].disagrees


def test_what_fails_on_one_board_alone_is_told_of_that_board() -> None:
    broken = [candidate("original", 10.0), failed("int8", "illegal_instruction", "SIGILL")]
    found = agreements({"a": board(1.0, 1), "b": broken}, BUDGET)
    assert "and not on the others" in found["b"].disagrees
    assert found["a"].disagrees == ""


def test_launches_of_all_boards_count_as_one_candidate() -> None:
    merged = together([*board(1.0, 1), *board(1.0, 2)])
    assert [len(one.measurements) for one in merged] == [6, 6]
