"""What a poll makes of the ends of an update, and of a window that closes meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgeopt_runner import runtimes, storage
from edgeopt_runner.agent import orders, settings
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.poll import Poll
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.agent.web import Web
from support.pull_tree import PullTree
from support.pulling import PullingBoard


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@pytest.fixture
def tree(tmp_path: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, b"model", b"golden")
    return made


@pytest.fixture
def root(tmp_path: Path, tree: PullTree) -> Path:
    return PullingBoard(tmp_path / "board", tree, f"file://{tree.folder}").root


@pytest.mark.parametrize(
    ("outcome", "code", "again"),
    [
        ("aborted", "digest_mismatch", True),
        ("aborted", "missing_object", True),
        ("aborted", "read_only", True),
        ("aborted", "no_inodes", True),
        ("aborted", "error", True),
        ("aborted", "timeout:queue", True),
        ("rolled_back", "disk_full", True),
        ("rolled_back", "cancelled", True),
        ("inconclusive", "inconclusive", True),
        ("aborted", "health_failed", False),
        ("rolled_back", "health_failed", False),
        ("aborted", "bad_request", False),
        ("safe_stop", "disk_full", False),
        ("committed", "", False),
    ],
)
def test_what_says_nothing_about_the_release_is_tried_again(outcome: str, code: str, again: bool) -> None:
    assert orders.is_worth_another_try({"outcome": outcome, "code": code}) is again


def test_a_window_that_closes_while_files_come_holds_the_update_back(root: Path, tree: PullTree) -> None:
    tree.offer("digits", "1.0", window={"days": [], "start": 60, "end": 120})
    tree.publish()
    model = storage.object_path(str(root), tree.blob(b"model"))

    def clock() -> time.struct_time:
        return time.gmtime(7200 if os.path.exists(model) else 3600)

    board, known = Board(str(root)), settings.load(str(root))
    source = Tree(known.url, Web(), Patience("board", 1))
    [verdict] = Poll(board, known, source, Memory(str(root)), clock).run()
    assert (verdict.outcome, verdict.reason) == ("waiting", "its window is closed; the files are here")
    assert os.path.exists(model)
    assert not os.listdir(root / "jobs")
