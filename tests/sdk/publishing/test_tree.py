"""A release tree goes to a folder and to a real S3 server, in an order that no client notices, and only once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.errors import StoreError, ToolError, UsageError
from edgeopt.publishing.tree import TIMESTAMP, push_tree
from support.pull_tree import PullTree
from support.s3 import S3, running_s3


@pytest.fixture
def tree(tmp_path: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, b"model" * 1000, b"golden")
    made.offer("digits", "1.0")
    made.publish()
    return made


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with running_s3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gets_every_file_as_it_is(tree: PullTree, tmp_path: Path) -> None:
    done = push_tree(tree.folder, str(tmp_path / "store"))
    assert contents(tmp_path / "store") == contents(tree.folder)
    assert done.sent_files == len(contents(tree.folder))
    assert all(os.stat(path).st_mode & 0o044 for path in (tmp_path / "store").rglob("*"))


def test_a_second_push_sends_nothing_and_a_new_release_only_what_is_new(tree: PullTree, tmp_path: Path) -> None:
    push_tree(tree.folder, str(tmp_path / "store"))
    again = push_tree(tree.folder, str(tmp_path / "store"))
    assert (again.sent_files, again.sent_bytes) == (0, 0)
    tree.release("digits", "1.1", 2, b"model" * 1000, b"other golden")
    tree.publish()
    sent: list[str] = []
    push_tree(tree.folder, str(tmp_path / "store"), lambda path, size: sent.append(path))
    assert [re.sub("[0-9a-f]{64}", "H", path) for path in sent] == [
        "blobs/H",
        "targets/releases/digits/H.1.1.json",
        "metadata/2.rollouts.json",
        "metadata/2.snapshot.json",
        "metadata/2.targets.json",
        "metadata/timestamp.json",
    ]


def test_what_makes_it_count_goes_last(tree: PullTree, tmp_path: Path) -> None:
    tree.rotate("timestamp")
    tree.publish()
    sent: list[str] = []
    push_tree(tree.folder, str(tmp_path / "store"), lambda path, size: sent.append(path))
    assert sent[-3:] == ["metadata/1.root.json", "metadata/2.root.json", TIMESTAMP]


def test_a_push_that_breaks_off_leaves_the_old_tree_and_goes_on(tree: PullTree, tmp_path: Path) -> None:
    store = tmp_path / "store"
    push_tree(tree.folder, str(store))
    before = (store / TIMESTAMP).read_bytes()
    tree.release("digits", "1.1", 2, b"another model", b"golden")
    tree.publish()

    def fail_at(path: str, size: int) -> None:
        if path == "metadata/2.snapshot.json":
            raise OSError("the cable")

    with pytest.raises(StoreError, match="the cable"):
        push_tree(tree.folder, str(store), fail_at)
    assert (store / TIMESTAMP).read_bytes() == before
    done = push_tree(tree.folder, str(store))
    assert done.sent_files == 2
    assert contents(store) == contents(tree.folder)


def test_a_damaged_file_of_another_size_is_sent_again(tree: PullTree, tmp_path: Path) -> None:
    store = tmp_path / "store"
    push_tree(tree.folder, str(store))
    blob = next((store / "blobs").iterdir())
    blob.write_bytes(b"short")
    (store / "metadata/1.root.json").write_bytes(b"x" * (store / "metadata/1.root.json").stat().st_size)
    assert push_tree(tree.folder, str(store)).sent_files == 2
    assert contents(store) == contents(tree.folder)


def test_damage_that_keeps_the_size_is_found_by_the_digests_and_never_sent_over_what_is_whole(
    tree: PullTree, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    push_tree(tree.folder, str(store))
    whole = contents(store)
    for path in (next((store / "blobs").iterdir()), next((store / "targets/releases/digits").iterdir())):
        path.write_bytes(b"x" * path.stat().st_size)
    assert push_tree(tree.folder, str(store)).sent_files == 0
    assert push_tree(tree.folder, str(store), verify=True).sent_files == 2
    assert contents(store) == whole
    blob = next((tree.folder / "blobs").iterdir())
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert push_tree(tree.folder, str(store), verify=True).sent_files == 0
    assert contents(store) == whole
    (store / "blobs" / blob.name).write_bytes(blob.read_bytes())
    with pytest.raises(StoreError, match="is damaged here and in the store"):
        push_tree(tree.folder, str(store), verify=True)


def test_a_bucket_gets_the_tree_and_a_second_push_sends_nothing(tree: PullTree, s3: S3) -> None:
    done = push_tree(tree.folder, "s3://models/fleet/one")
    assert done.sent_files == len(contents(tree.folder))
    again = push_tree(tree.folder, "s3://models/fleet/one")
    assert (again.sent_files, again.kept_files) == (0, done.sent_files)
    assert push_tree(tree.folder, "s3://models/fleet/one", verify=True).sent_files == 0
    tree.publish()
    assert push_tree(tree.folder, "s3://models/fleet/one").sent_files == 4


def test_a_wrong_key_a_bucket_that_is_not_there_and_no_server_are_named(
    tree: PullTree, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="s3://nowhere/x"):
        push_tree(tree.folder, "s3://nowhere/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StoreError, match="may not be written"):
        push_tree(tree.folder, "s3://models/x")
    s3.stop()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="s3://models/x cannot be written"):
        push_tree(tree.folder, "s3://models/x")


@pytest.mark.parametrize("url", ["nothing://x/y", "s3://"])
def test_an_address_that_is_none_is_refused(tree: PullTree, url: str) -> None:
    with pytest.raises((UsageError, ToolError)):
        push_tree(tree.folder, url)


def test_without_a_tree_there_is_nothing_to_push(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no release tree"):
        push_tree(tmp_path, str(tmp_path / "store"))


def test_a_folder_that_cannot_be_written_is_named(tree: PullTree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file/store"):
        push_tree(tree.folder, str(tmp_path / "file" / "store"))
