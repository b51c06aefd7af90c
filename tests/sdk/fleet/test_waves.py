"""Waves are fair samples, the same ones every time."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Caps
from edgeopt.core.rollout import GatePolicy
from edgeopt.errors import UsageError
from edgeopt.fleet.plan import Forecast, build_plan, sealed
from edgeopt.fleet.waves import DEFAULT_WAVES, assign_waves, parse_waves

KINDS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz")), min_size=1, max_size=60)
WORDS = st.lists(st.sampled_from(["1", "3", "7", "1-per-profile", "2-per-site"]), max_size=4).map(
    lambda words: (*words, "10%", "50%", "100%")
)


def board(number: int, profile: str, site: str = "", **labels: str) -> Board:
    return Board(Device(f"b{number}", "ssh", host="h", profile=profile, labels=labels), site)


def boards(kinds: list[tuple[str, str]]) -> list[Board]:
    return [board(number, profile, site) for number, (profile, site) in enumerate(kinds)]


@given(KINDS, WORDS)
def test_every_board_is_in_one_wave_and_no_wave_is_empty(kinds: list[tuple[str, str]], words: tuple[str, ...]) -> None:
    waves = assign_waves(boards(kinds), words, "detector@1")
    names = [board.name for wave in waves for board in wave]
    assert sorted(names) == sorted(board.name for board in boards(kinds))
    assert all(waves)


@given(KINDS, st.randoms())
def test_waves_do_not_depend_on_the_order_of_the_inventory(kinds: list[tuple[str, str]], random: object) -> None:
    there = boards(kinds)
    before = assign_waves(there, ("2", "25%", "100%"), "detector@1")
    random.shuffle(there)  # type: ignore[attr-defined]
    assert assign_waves(there, ("2", "25%", "100%"), "detector@1") == before


@given(KINDS, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_every_profile_is_in_the_earliest_wave_that_can_hold_it(kinds: list[tuple[str, str]], sizes: list[int]) -> None:
    waves = assign_waves(boards(kinds), [*map(str, sizes), "100%"], "detector@1")
    profiles, seen, room = len({profile for profile, _ in kinds}), set[str](), 0
    for wave in waves:
        seen |= {board.profile for board in wave}
        room += len(wave)
        assert len(seen) == min(profiles, room)


@given(KINDS, st.integers(1, 100))
def test_a_share_is_of_all_and_is_spread_over_profiles(kinds: list[tuple[str, str]], percent: int) -> None:
    wave = assign_waves(boards(kinds), [f"{percent}%"], "detector@1")[0]
    size = math.ceil(percent * len(kinds) / 100)
    assert len(wave) == size
    profiles = Counter(profile for profile, _ in kinds)
    for profile, count in Counter(board.profile for board in wave).items():
        assert count <= profiles[profile] * size / len(kinds) + len(profiles)


def test_the_first_boards_of_a_profile_are_on_different_sites() -> None:
    there = boards([("a", site) for site in "xyz" for _ in range(10)])
    assert len({board.site for board in assign_waves(there, ["3"], "detector@1")[0]}) == 3


def test_another_release_begins_with_other_boards() -> None:
    there = boards([("a", "x")] * 200)
    firsts = {assign_waves(there, ["1"], f"detector@{version}")[0][0].name for version in range(20)}
    assert len(firsts) > 10


def test_the_default_is_a_board_then_one_of_each_profile_then_shares() -> None:
    there = boards([("a", "x")] * 60 + [("b", "y")] * 39 + [("c", "z")])
    waves = assign_waves(there, DEFAULT_WAVES, "detector@1")
    assert [len(wave) for wave in waves] == [1, 3, 1, 20, 75] or [len(wave) for wave in waves] == [1, 2, 2, 20, 75]
    assert {board.profile for board in (*waves[0], *waves[1])} == {"a", "b", "c"}


def test_a_wave_may_be_of_a_label_a_site_or_a_term() -> None:
    there = [
        *boards([("a", "x")] * 4),
        board(10, "a", "lab"),
        board(11, "a", "x", lab="yes"),
        board(12, "a", tier="one"),
    ]
    waves = assign_waves(there, ["lab", "tier=one", "100%"], "detector@1")
    assert [{board.name for board in wave} for wave in waves[:2]] == [{"b10", "b11"}, {"b12"}]
    with pytest.raises(UsageError, match="the wave 'shop' is of no board"):
        assign_waves(there, ["shop"], "detector@1")


@pytest.mark.parametrize("text", ["", "1,,100%", "0%", "101%", "50%,10%", "50%,50%", "-1", "0", "x%"])
def test_what_is_no_list_of_waves_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_waves(text)


def test_words_are_kept_as_they_were_given() -> None:
    assert parse_waves("lab, 1-per-profile ,5%,100%") == ("lab", "1-per-profile", "5%", "100%")


def test_a_plan_puts_who_takes_no_part_last_and_seals_all_of_it() -> None:
    there = boards([("a", "x")] * 4)
    known = {
        "b0": Forecast("update", send_bytes=10, seconds=2.0),
        "b1": Forecast("nothing", "it runs it"),
        "b2": Forecast("skip", "no entry"),
    }
    plan = build_plan("d@1", "0" * 64, there, known, waves=("100%",), terms=(GatePolicy(), Caps()))
    assert [(board.board, board.wave, board.action) for board in plan.boards][2:] == [
        ("b1", 0, "nothing"),
        ("b2", 0, "skip"),
    ]
    assert {(board.board, board.action) for board in plan.wave(1)} == {("b0", "update"), ("b3", "unknown")}
    assert plan == sealed(plan)
    again = build_plan("d@1", "0" * 64, there, known, waves=("100%",), terms=(GatePolicy(max_failures=0.1), Caps()))
    assert again.digest != plan.digest


def test_boards_that_no_wave_takes_are_said_to_be_left() -> None:
    plan = build_plan("d@1", "", boards([("a", "x")] * 4), {}, waves=("1",), terms=(GatePolicy(), Caps()))
    assert [(board.wave, board.action, board.reason) for board in plan.boards[1:]] == [
        (0, "skip", "no wave takes it")
    ] * 3
