"""Drift: what a board says against what the rollouts put there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.release import BoardRelease
from edgeopt.core.sighting import Sighting
from edgeopt.workflow.fleet.drift import Expected, drift_of, expected_by_board
from support.rollout_records import done_rollout, halted_rollout

RELEASE = BoardRelease("detector", "1.4.0", 4, "ab" * 32, "cd" * 32, 7, verified=True, signed=True)
EXPECTED = {"detector": Expected("detector@1.4.0", "ab" * 32)}


def seen(*releases: BoardRelease) -> Sighting:
    return Sighting("shop-001", "pi5", True, 2.0, 1.0, "", releases)


def test_a_board_as_it_was_left_has_no_drift() -> None:
    assert drift_of(seen(replace(RELEASE, running=("cd" * 32,))), EXPECTED) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": "ef" * 32, "version": "1.3.0"}, "runs detector@1.3.0; the last rollout left detector@1.4.0"),
        ({"manifest": "", "version": "", "signed": False}, "runs detector without a version"),
        ({"verified": False}, "do not fit their manifest"),
        ({"signed": False}, "is not signed"),
        ({"state": "safe_stop", "verified": False}, "no healthy release is left"),
        ({"state": "staging"}, "is at staging"),
        ({"running": ("00" * 32,)}, "still runs another file"),
        ({"running": ("cd" * 32, "00" * 32)}, "still runs another file"),
    ],
)
def test_each_kind_of_drift_is_said(changes: dict, said: str) -> None:
    lines = drift_of(seen(replace(RELEASE, **changes)), EXPECTED)
    assert len(lines) == 1
    assert said in lines[0]


def test_an_app_that_is_gone_is_said_but_not_of_a_board_that_never_answered() -> None:
    assert drift_of(seen(), EXPECTED) == ("detector@1.4.0 is gone",)
    assert drift_of(replace(seen(), seen_at=0.0, reachable=False), EXPECTED) == ()


def test_the_newest_rollout_that_a_board_committed_counts() -> None:
    older, newer = done_rollout(), halted_rollout()
    newer = replace(newer, plan=replace(newer.plan, release="detector@1.5.0", manifest="99" * 32))
    expected = expected_by_board([older, newer])
    assert expected["shop-000"]["detector"].release == "detector@1.5.0"
    assert expected["shop-006"]["detector"].release == "detector@1.4.0"  # rolled back in the newer one
    assert expected["shop-020"]["detector"].release == "detector@1.4.0"
