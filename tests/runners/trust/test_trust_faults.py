"""Killed or out of space anywhere in an update of trust, a board trusts old or new, and the same request mends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt_runner import faults
from edgeopt_runner.trust import targets, verbs
from support.runner import Runner
from support.trusting import answer, update, world

POINTS = [name for name in faults.POINTS if name.startswith("trust.")]


def versions(board: Path) -> tuple[int, int]:
    """Of root and targets, as the board would use them: a set that is not verified counts as none."""
    found = targets.verified(str(board))
    assert found is not None
    return verbs.trust(str(board), {})["root"], found.version


def test_there_are_points() -> None:
    assert POINTS == ["trust.root", "trust.memory", "trust.metadata"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["kill9", "raise=ENOSPC", "raise=EIO", "raise=EROFS"])
def test_a_fault_leaves_the_old_or_the_new(tmp_path: Path, point: str, action: str) -> None:
    board, owner = tmp_path / "root", world()
    with Runner(board) as runner:
        nonce = runner.result_of("enrol", root=json.loads(owner.roots[0]))["nonce"]
        runner.result_of("trust_update", **update(owner, answer(nonce, owner)))
        nonce = runner.result_of("trust")["nonce"]
    owner.rotate("root")
    params = update(owner, answer(nonce, owner))
    with Runner(board, fault=f"{point}:{action}") as runner:
        if action == "kill9":
            with pytest.raises((AssertionError, BrokenPipeError)):
                runner.ask("trust_update", **params)
        else:
            expected = {"raise=ENOSPC": "disk_full", "raise=EIO": "error", "raise=EROFS": "read_only"}
            assert runner.error_of("trust_update", **params)["code"] == expected[action]
    root, held = versions(board)
    assert root == (1 if point == "trust.root" else 2)
    assert held == 1  # what was trusted stays trusted
    with Runner(board) as runner:
        nonce = runner.result_of("trust")["nonce"]
        told = runner.result_of("trust_update", **update(owner, answer(nonce, owner)))
    assert (told["root"], told["targets"]) == (2, 2)
    left = sorted(path.name for path in (board / "trust").iterdir())
    assert left == ["1.root.json", "2.root.json", "lock", "metadata.json", "state.json"]


def test_a_nonce_is_used_up_before_anything_is_kept(tmp_path: Path) -> None:
    """Killed between the two, the answer does not serve again."""
    board, owner = tmp_path / "root", world()
    with Runner(board, fault="trust.metadata:raise=EIO") as runner:
        nonce = runner.result_of("enrol", root=json.loads(owner.roots[0]))["nonce"]
        params = update(owner, answer(nonce, owner))
        assert runner.error_of("trust_update", **params)["code"] == "error"
        assert runner.error_of("trust_update", **params)["code"] == "stale"


def test_a_kill_while_enrolling_leaves_a_board_that_can_be_enrolled(tmp_path: Path) -> None:
    board, owner = tmp_path / "root", world()
    with Runner(board, fault="trust.root:kill9") as runner, pytest.raises((AssertionError, BrokenPipeError)):
        runner.ask("enrol", root=json.loads(owner.roots[0]))
    with Runner(board) as runner:
        assert not runner.result_of("trust")["enrolled"]
        assert runner.result_of("enrol", root=json.loads(owner.roots[0]))["root"] == 1
