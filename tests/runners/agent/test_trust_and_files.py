"""What the agent brings from a real nginx: metadata and files, whatever the store does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt_runner import storage
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import WHOLE_POLLS, Memory
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.tree import MARGIN_BYTES, Tree
from edgeopt_runner.agent.web import Web
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import verbs
from support.nginx import Nginx, running_nginx
from support.pull_tree import PullTree

MODEL = os.urandom(700_000)


@pytest.fixture
def tree(tmp_path: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, MODEL, b"golden")
    made.offer("digits", "1.0")
    made.publish()
    return made


@pytest.fixture
def nginx(tmp_path: Path, tree: PullTree) -> Iterator[Nginx]:
    with running_nginx(tmp_path / "nginx", tree.folder) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path, tree: PullTree) -> str:
    path = str(tmp_path / "root")
    storage.prepare(path)
    verbs.enrol(path, {"root": tree.first_root, "replace": False})
    return path


def store(url: str, attempts: int = 4) -> Tree:
    return Tree(url, Web(), Patience("board", attempts, sleep=lambda seconds: None))


def test_what_is_signed_is_found_and_a_second_look_asks_for_two_small_files(
    root: str, nginx: Nginx, tree: PullTree
) -> None:
    board, memory = Board(root), Memory(root)
    memory.polls = 1
    board.refresh(store(nginx.url()), memory)
    memory.save()
    assert board.offered(()) == ["rollouts/digits.json"]
    assert board.offered(("other",)) == []
    assert board.target("releases/digits/1.0.json") is not None
    nginx.forget()
    again = Board(root)
    again.refresh(store(nginx.url()), Memory(root))
    assert [status for _, _, status in nginx.requests] == [404, 304]
    assert again.offered(()) == ["rollouts/digits.json"]


def test_every_so_many_polls_a_store_that_always_says_nothing_new_is_asked_for_the_whole_file(
    root: str, nginx: Nginx, tree: PullTree
) -> None:
    board, memory = Board(root), Memory(root)
    board.refresh(store(nginx.url("lying")), memory)
    tree.publish()
    seen = []
    for memory.polls in range(WHOLE_POLLS - 1, WHOLE_POLLS + 1):
        board.refresh(store(nginx.url("lying")), memory)
        seen.append(board.versions()["timestamp"])
    assert seen == [1, 2]


def test_new_metadata_and_a_rotated_key_are_followed(root: str, nginx: Nginx, tree: PullTree) -> None:
    board, memory = Board(root), Memory(root)
    board.refresh(store(nginx.url()), memory)
    for role in ("timestamp", "snapshot", "targets", "root"):
        tree.rotate(role)
    tree.release("digits", "2.0", 2, b"new", b"golden")
    tree.publish()
    board.refresh(store(nginx.url()), memory)
    assert board.versions()["root"] == 5
    assert board.target("releases/digits/2.0.json") is not None


def test_a_clock_past_the_roots_expiry_counts_no_more_than_the_last_signed_time(
    root: str, nginx: Nginx, tree: PullTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(root)
    board.refresh(store(nginx.url()), Memory(root))
    board.believe(1_700_000_000.0)
    good = tree.expires.timestamp() - 1
    for clock, plausible in ((0.0, 1_700_000_000), (good, good), (4.07e9, 1_700_000_000)):
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        assert board.plausible_now() == plausible


def test_metadata_of_another_set_of_keys_are_refused(root: str, tmp_path: Path) -> None:
    other = PullTree(tmp_path / "other")
    other.publish()
    with pytest.raises(Refusal) as refused:
        Board(root).refresh(store(f"file://{other.folder}"), Memory(root))
    assert refused.value.code == "bad_signature"


@pytest.mark.parametrize(
    ("location", "code"),
    [("gone", "store_refused"), ("broken", "network"), ("round", "store_refused")],
)
def test_a_store_that_has_nothing_to_give_is_named_as_such(root: str, nginx: Nginx, location: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        Board(root).refresh(store(nginx.url(location)), Memory(root))
    assert refused.value.code == code
    assert len(nginx.requests) <= 8


def test_a_folder_and_a_redirect_serve_as_well(root: str, nginx: Nginx, tree: PullTree) -> None:
    for url in (nginx.url("moved"), f"file://{tree.folder}"):
        board = Board(root)
        board.refresh(store(url), Memory(root))
        assert board.offered(()) == ["rollouts/digits.json"]


def test_a_store_that_always_says_nothing_new_is_found_out_when_the_timestamp_expires(
    root: str, nginx: Nginx, tree: PullTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, memory = Board(root), Memory(root)
    memory.polls = 1
    board.refresh(store(nginx.url("lying")), memory)
    tree.publish()
    board.refresh(store(nginx.url("lying")), memory)
    assert board.versions()["timestamp"] == 1
    later = tree.expires.timestamp() + 1
    monkeypatch.setattr("time.time", lambda: later)
    with pytest.raises(Refusal) as refused:
        board.refresh(store(nginx.url("lying")), memory)
    assert refused.value.code == "expired"


def blob(tree: PullTree, nginx: Nginx, root: str, location: str = "tree", attempts: int = 4) -> Tree:
    import hashlib

    source = store(nginx.url(location), attempts)
    digest = hashlib.sha256(MODEL).hexdigest()
    source.bring(root, f"blobs/{digest}", digest, len(MODEL))
    assert Path(storage.object_path(root, digest)).read_bytes() == MODEL
    assert not Path(storage.part_path(root, digest)).exists()
    return source


def held(root: str, data: bytes) -> None:
    import hashlib

    Path(storage.part_path(root, hashlib.sha256(MODEL).hexdigest())).write_bytes(data)


def test_a_file_resumes_where_it_stopped(root: str, nginx: Nginx, tree: PullTree) -> None:
    held(root, MODEL[:600_001])
    assert blob(tree, nginx, root).received_bytes == len(MODEL) - 600_001
    assert [status for _, _, status in nginx.requests] == [206]


def test_what_is_here_of_a_file_needs_no_room_again(
    root: str, nginx: Nginx, tree: PullTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(root, MODEL[:600_001])
    rest = len(MODEL) - 600_001
    monkeypatch.setattr(storage, "free_bytes", lambda path: MARGIN_BYTES + rest - 1)
    with pytest.raises(Refusal) as refused:
        blob(tree, nginx, root)
    assert refused.value.code == "disk_full"
    monkeypatch.setattr(storage, "free_bytes", lambda path: MARGIN_BYTES + rest)
    assert blob(tree, nginx, root).received_bytes == rest


@pytest.mark.parametrize("start", [b"x" * 1000, b"x" * 700_000, b"x" * 700_001], ids=["part", "size", "longer"])
def test_a_damaged_beginning_is_thrown_away_once(root: str, nginx: Nginx, tree: PullTree, start: bytes) -> None:
    held(root, start)
    blob(tree, nginx, root)
    assert len(nginx.requests) <= 2


def test_a_server_that_ignores_ranges_sends_the_whole_file_once(root: str, nginx: Nginx, tree: PullTree) -> None:
    held(root, MODEL[:100_000])
    assert blob(tree, nginx, root, "whole").received_bytes == len(MODEL)
    assert [status for _, _, status in nginx.requests] == [200]


@pytest.mark.parametrize("wrong", [b"y" * 700_000, b"y" * 300_000, b"y" * 900_000], ids=["same", "short", "long"])
def test_a_file_that_is_not_what_was_signed_is_never_kept(
    root: str, nginx: Nginx, tree: PullTree, wrong: bytes
) -> None:
    import hashlib

    digest = hashlib.sha256(MODEL).hexdigest()
    (tree.folder / "blobs" / digest).write_bytes(wrong)
    source = store(nginx.url())
    with pytest.raises(Refusal) as refused:
        source.bring(root, f"blobs/{digest}", digest, len(MODEL))
    assert refused.value.code in ("digest_mismatch", "store_refused", "network")
    assert not os.path.exists(storage.object_path(root, digest))
    assert len(nginx.requests) <= 8
    assert source.received_bytes <= 2 * 900_000
