"""Who may begin, and how fast bytes go."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.fleet import Caps
from edgeopt.fleet.caps import BoardQueue, TokenBucket


@given(
    st.lists(st.tuples(st.sampled_from(["", "j1", "j2"]), st.sampled_from(["", "s1", "s2"])), max_size=40),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_no_cap_is_ever_passed_and_nobody_is_forgotten(
    kinds: list[tuple[str, str]], concurrency: int, per_jump: int, per_site: int
) -> None:
    places = {f"b{number}": place for number, place in enumerate(kinds)}
    queue = BoardQueue(Caps(concurrency, per_jump, per_site, sites={"s2": 1}), places)
    for name in places:
        queue.add(name)
    begun: list[str] = []
    while len(queue) or queue.busy:
        begun += queue.take()
        assert queue.take() == []
        jumps, sites = (Counter(places[name][which] for name in queue.running) for which in (0, 1))
        assert queue.busy <= concurrency
        assert all(count <= per_jump for jump, count in jumps.items() if jump)
        assert all(count <= (1 if site == "s2" else per_site) for site, count in sites.items() if site)
        queue.done(next(iter(sorted(queue.running))))
    assert sorted(begun) == sorted(places)


def test_a_jump_host_at_its_limit_holds_nobody_else_up() -> None:
    queue = BoardQueue(Caps(64, 2), {**{f"a{n}": ("jump", "") for n in range(50)}, "z": ("", "")})
    for name in (*(f"a{n}" for n in range(50)), "z"):
        queue.add(name)
    assert sorted(queue.take()) == ["a0", "a1", "z"]


def test_a_board_waits_or_runs_once() -> None:
    queue = BoardQueue(Caps(), {})
    queue.add("a")
    queue.add("a")
    assert queue.take() == ["a"]
    queue.add("a")
    assert queue.take() == []
    queue.done("a")
    queue.done("a")
    assert queue.busy == 0


def test_bytes_go_at_the_rate_after_a_burst_of_one_second() -> None:
    bucket = TokenBucket(1000, 0.0)
    assert bucket.take(1000, 0.0) == 0.0
    assert bucket.take(500, 0.0) == pytest.approx(0.5)
    assert bucket.take(1000, 0.5) == pytest.approx(1.0)
    assert bucket.take(500, 100.0) == 0.0
    assert TokenBucket(None, 0.0).take(1 << 40, 0.0) == 0.0
