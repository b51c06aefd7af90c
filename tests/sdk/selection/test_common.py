"""One winner for all kinds: feasible on each, and nowhere far behind what is best there."""

from __future__ import annotations

import pytest

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.selection import Selection
from edgeopt.selection.common import common_winner, overruled
from edgeopt.selection.select import select
from support.measurements import candidate, digest

BUDGET = Budget(max_drop=0.05)


def kind(original: float, budget: Budget = BUDGET, **times: float) -> Selection:
    candidates = [candidate("original", original), *(candidate(name, ms) for name, ms in times.items())]
    return select(candidates, budget, noise=0.01)


def test_the_least_worst_ratio_wins_over_what_is_best_somewhere() -> None:
    kinds = {"pi": kind(10.0, int8=4.0, half=6.0, float16=5.0), "gpu": kind(10.0, int8=9.0, half=3.0, float16=3.9)}
    common = common_winner(kinds)
    assert common is not None
    assert (common.name, common.digest) == ("float16", digest("float16"))
    assert common.ratios == pytest.approx({"pi": 1.25, "gpu": 1.3}, rel=0.03)
    assert common.worst == common.ratios["gpu"]


def test_every_kind_then_has_that_winner_and_its_own_best_says_why_it_is_not() -> None:
    kinds = {"pi": kind(10.0, int8=4.0, float16=5.0), "gpu": kind(10.0, int8=9.0, float16=3.9)}
    common = common_winner(kinds)
    assert common is not None
    changed = {name: overruled(selection, common, name) for name, selection in kinds.items()}
    for selection in changed.values():
        assert selection.winner is not None
        winner = selection.assessment(selection.winner)
        assert (winner.candidate.variant.name, winner.verdict) == ("float16", "winner")
        assert [one.verdict for one in selection.assessments].count("winner") == 1
        assert selection.assessments[0] is winner
    was = changed["pi"].assessment(str(kinds["pi"].winner))
    assert "float16 is the one for all kinds" in was.reason


def test_a_file_that_misses_the_budget_on_one_kind_is_out() -> None:
    tight = Budget(max_drop=0.05, max_latency=LatencyLimit("median", 6_000_000))
    kinds = {"pi": kind(5.0, tight, int8=4.0, half=5.5), "slow": kind(9.0, tight, int8=8.0, half=5.0)}
    common = common_winner(kinds)
    assert common is not None
    assert common.name == "half"


def test_where_no_file_is_feasible_on_all_nothing_wins_and_each_kind_keeps_its_best_so_far() -> None:
    tight = Budget(max_drop=0.05, max_latency=LatencyLimit("median", 6_000_000))
    kinds = {"pi": kind(9.0, tight, int8=4.0, half=8.0), "gpu": kind(9.0, tight, int8=8.0, half=4.0)}
    assert common_winner(kinds) is None
    left = overruled(kinds["pi"], None, "pi")
    assert left.winner is None
    assert left.best_so_far == kinds["pi"].winner
    assert "--one-for-all" in left.assessments[0].reason


def test_within_the_noise_the_more_accurate_file_wins() -> None:
    def noisy(**more: float) -> Selection:
        exact, rough = candidate("exact", 5.05 * more["factor"]), candidate("rough", 5.0 * more["factor"], correct=960)
        return select([candidate("original", 9.0), exact, rough], BUDGET, noise=0.05)

    common = common_winner({"a": noisy(factor=1.0), "b": noisy(factor=1.1)})
    assert common is not None
    assert common.name == "exact"
