"""A board under a hawkBit server: success is told after the commit only, and nothing unsigned runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.hawkbit import Hawkbit
from support.pull_tree import PullTree
from support.pulling import PullingBoard, model_and_golden


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def tree(tmp_path: Path, networks: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, *model_and_golden(networks))
    made.publish()
    return made


@pytest.fixture
def hawkbit(tree: PullTree) -> Iterator[Hawkbit]:
    with Hawkbit() as server:
        server.assign(tree.folder, 5)
        yield server


@pytest.fixture
def board(tmp_path: Path, tree: PullTree, hawkbit: Hawkbit) -> PullingBoard:
    return PullingBoard(tmp_path / "board", tree, "", hawkbit=hawkbit.settings, labels={"site": "oslo"})


def test_an_assignment_is_closed_with_success_once_it_is_committed(board: PullingBoard, hawkbit: Hawkbit) -> None:
    assert board.outcome() == "committed"
    board.assert_sound("digits", "1.0")
    assert hawkbit.told == [(5, "closed", "success")]
    assert hawkbit.attributes == {"site": "oslo", "name": "board-1", "profile": "generic-x86_64"}
    code, said = board.poll()
    assert (code, [line for line in said if "outcome" in line]) == (0, [])


def test_a_release_that_is_wrong_here_is_closed_with_failure(
    board: PullingBoard, hawkbit: Hawkbit, tree: PullTree, networks: Path
) -> None:
    board.poll()
    tree.release("digits", "2.0", 2, *model_and_golden(networks, 1.0, True))
    tree.publish()
    assign_release(hawkbit, tree, "2.0.json", 6)
    assert board.outcome() in ("aborted", "rolled_back")
    board.assert_sound("digits", "1.0")
    assert hawkbit.told[-1] == (6, "closed", "failure")
    assert "health_failed" in hawkbit.feedback[-1][-1]


def test_what_says_nothing_about_the_release_leaves_the_action_open_and_is_tried_again(
    board: PullingBoard, hawkbit: Hawkbit
) -> None:
    assert board.outcome(fault="release.commit:raise=ENOSPC") == "rolled_back"
    assert board.outcome() == "paused"
    assert board.outcome() == "committed"
    assert hawkbit.told == [(5, "proceeding", "none"), (5, "proceeding", "none"), (5, "closed", "success")]
    board.assert_sound("digits", "1.0")


def assign_release(hawkbit: Hawkbit, tree: PullTree, manifest: str, number: int) -> None:
    """Assign one release's manifest with metadata and all blobs."""
    hawkbit.assign(tree.folder, number)
    hawkbit.files = {
        name: path
        for name, path in hawkbit.files.items()
        if "releases" not in path.parts or name.endswith("." + manifest)
    }


def test_after_a_lost_answer_the_action_is_closed_by_the_next_poll_without_another_update(
    board: PullingBoard, hawkbit: Hawkbit
) -> None:
    board.poll()
    hawkbit.action = 5  # the feedback never arrived
    assert board.outcome() == "nothing"
    assert hawkbit.told == [(5, "closed", "success"), (5, "closed", "success")]


def test_what_is_not_for_this_board_is_rejected_and_stays_open(
    board: PullingBoard, hawkbit: Hawkbit, tree: PullTree, networks: Path
) -> None:
    tree.release("digits", "1.0", 1, *model_and_golden(networks), profile="pi5")
    tree.publish()
    hawkbit.assign(tree.folder, 5)
    hawkbit.files = {name: path for name, path in hawkbit.files.items() if "releases" not in path.parts}
    digest = tree._targets["releases/digits/1.0.json"].hashes["sha256"]
    hawkbit.files["release.json"] = tree.folder / f"targets/releases/digits/{digest}.1.0.json"
    assert board.outcome() == "skipped"
    assert hawkbit.told == [(5, "rejected", "none")]
    assert hawkbit.action == 5
    board.assert_sound("digits", "")


def test_artifacts_of_another_key_or_none_of_ours_are_closed_with_failure(
    tmp_path: Path, board: PullingBoard, hawkbit: Hawkbit, networks: Path
) -> None:
    other = PullTree(tmp_path / "other")
    other.release("digits", "1.0", 1, *model_and_golden(networks))
    other.publish()
    hawkbit.assign(other.folder, 6)
    code, said = board.poll()
    assert (code, said[0]["code"]) == (4, "bad_signature")
    assert hawkbit.told == [(6, "closed", "failure")]
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/app.deb").write_bytes(b"deb")
    hawkbit.assign(tmp_path / "foreign", 7)
    assert board.poll()[0] == 4
    assert hawkbit.told[-1] == (7, "closed", "failure")
    board.assert_sound("digits", "")


def test_files_are_fetched_before_a_maintenance_window_and_installed_in_it(
    board: PullingBoard, hawkbit: Hawkbit
) -> None:
    hawkbit.handling = {"download": "forced", "update": "skip", "maintenanceWindow": "unavailable"}
    assert board.outcome() == "waiting"
    assert hawkbit.told == [(5, "proceeding", "none")]
    board.assert_sound("digits", "")
    hawkbit.handling = {"download": "forced", "update": "forced", "maintenanceWindow": "available"}
    before = len(hawkbit.requests)
    assert board.outcome() == "committed"
    assert not any("npz" in request for request in hawkbit.requests[before:])


def test_a_cancellation_is_agreed_to_before_and_refused_after_the_commit(board: PullingBoard, hawkbit: Hawkbit) -> None:
    hawkbit.cancel = 8
    board.poll()
    assert hawkbit.feedback == [("cancelAction", 8, "closed", "success", "nothing was begun that is not undone")]
    board.assert_sound("digits", "")
    hawkbit.action = 9
    assert board.outcome() == "committed"
    hawkbit.action, hawkbit.cancel = 9, 10
    board.poll()
    assert ("cancelAction", 10, "rejected") in [entry[:3] for entry in hawkbit.feedback]


def test_errors_of_the_server_are_retried_a_few_times_and_refusals_not_at_all(
    board: PullingBoard, hawkbit: Hawkbit
) -> None:
    hawkbit.failures = [503, 500, 429]
    assert board.outcome() == "committed"
    hawkbit.failures = [503] * 100
    before = len(hawkbit.requests)
    code, said = board.poll()
    assert (code, said[-1]["refused"]) == (4, "network")
    assert len(hawkbit.requests) - before == 4
    hawkbit.failures = [403] * 100
    before = len(hawkbit.requests)
    code, said = board.poll()
    assert (code, said[-1]["refused"]) == (4, "store_refused")
    assert len(hawkbit.requests) - before == 1


def test_a_wrong_token_is_named(board: PullingBoard, hawkbit: Hawkbit) -> None:
    board.configure("", hawkbit={**hawkbit.settings, "token": "wrong"})
    code, [said] = board.poll()
    assert (code, said["refused"]) == (4, "store_refused")
    assert "token" in said["remedy"]
    assert "wrong" not in str(said)
