"""The update module is driven as Mender's documented protocol (v3) drives one: states, streams as named pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeopt_runner.agent import mender, settings
from edgeopt_runner.locks import FileLock
from support.pull_tree import PullTree
from support.pulling import PullingBoard, model_and_golden
from support.runner import bundle_path


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def tree(tmp_path: Path, networks: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, *model_and_golden(networks))
    made.publish()
    return made


class Mender:
    """What the client does: one working folder a deployment, the module called once a state."""

    def __init__(self, folder: Path, board: PullingBoard) -> None:
        self.folder, self.board = folder, board
        folder.mkdir()

    def call(self, state: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(bundle_path()), "mender", "--root", str(self.board.root), state]
        return subprocess.run(
            [*command, str(self.folder)],
            cwd=self.folder,
            env=self.board.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def download(self, files: list[Path], *, spoil: str = "") -> int:
        """The ``Download`` state: every file through a named pipe, in the order of ``streams-list``."""
        (self.folder / "streams").mkdir()
        (self.folder / "tmp").mkdir()
        names = [f"streams/{path.name}" for path in files]
        for name in names:
            os.mkfifo(self.folder / name)
        (self.folder / "streams-list").write_text("".join(f"{name}\n" for name in names))
        feeding = threading.Thread(target=self._feed, args=(files, spoil), daemon=True)
        feeding.start()
        return self.call("Download").returncode

    def _feed(self, files: list[Path], spoil: str) -> None:
        for path in files:
            data = path.read_bytes()
            with open(self.folder / "streams" / path.name, "wb") as pipe:
                pipe.write(data[:-1] + b"!" if path.name == spoil else data)

    def deploy(self, files: list[Path], *, fail_after_install: bool = False) -> list[tuple[str, int]]:
        """A whole deployment, with the states that the protocol gives for what the module returns."""
        assert self.call("SupportsRollback").stdout == "Yes\n"
        done = [("Download", self.download(files))]
        if not done[-1][1]:
            done.append(("ArtifactInstall", self.call("ArtifactInstall").returncode))
            if not done[-1][1]:
                assert self.call("NeedsArtifactReboot").stdout == "No\n"
                status = 1 if fail_after_install else self.call("ArtifactCommit").returncode
                done.append(("ArtifactCommit", status))
            if done[-1][1]:
                done += [(state, self.call(state).returncode) for state in ("ArtifactRollback", "ArtifactFailure")]
        done.append(("Cleanup", self.call("Cleanup").returncode))
        return done


def payload(tree: PullTree, version: str) -> list[Path]:
    """The files of a release: metadata, manifest, blobs."""
    found = [path for path in sorted(tree.folder.rglob("*")) if path.is_file()]
    return [path for path in found if "releases" not in path.parts or path.name.endswith(f".{version}.json")]


@pytest.fixture
def board(tmp_path: Path, tree: PullTree) -> PullingBoard:
    return PullingBoard(tmp_path / "board", tree, "")


def test_a_deployment_is_committed_and_leaves_nothing_behind(
    tmp_path: Path, board: PullingBoard, tree: PullTree
) -> None:
    done = Mender(tmp_path / "one", board).deploy(payload(tree, "1.0"))
    assert done == [("Download", 0), ("ArtifactInstall", 0), ("ArtifactCommit", 0), ("Cleanup", 0)]
    board.assert_sound("digits", "1.0")
    assert board.release()["signed"]
    assert not (board.root / "agent/mender").exists()


def test_a_release_that_is_wrong_here_fails_the_install_and_what_ran_runs(
    tmp_path: Path, board: PullingBoard, tree: PullTree, networks: Path
) -> None:
    Mender(tmp_path / "one", board).deploy(payload(tree, "1.0"))
    tree.release("digits", "2.0", 2, *model_and_golden(networks, 1.0, True))
    tree.publish()
    done = Mender(tmp_path / "two", board).deploy(payload(tree, "2.0"))
    assert [state for state, status in done if status] == ["ArtifactInstall"]
    board.assert_sound("digits", "1.0")


def test_where_something_else_of_the_deployment_fails_the_release_goes_back(
    tmp_path: Path, board: PullingBoard, tree: PullTree, networks: Path
) -> None:
    Mender(tmp_path / "one", board).deploy(payload(tree, "1.0"))
    tree.release("digits", "2.0", 2, *model_and_golden(networks, 1.0))
    tree.publish()
    done = Mender(tmp_path / "two", board).deploy(payload(tree, "2.0"), fail_after_install=True)
    assert ("ArtifactRollback", 0) in done
    board.assert_sound("digits", "1.0")


def test_a_damaged_or_foreign_payload_is_refused_before_anything_changes(
    tmp_path: Path, board: PullingBoard, tree: PullTree, networks: Path
) -> None:
    files = payload(tree, "1.0")
    blob = next(path.name for path in files if path.parent.name == "blobs")
    mender = Mender(tmp_path / "one", board)
    assert mender.download(files, spoil=blob) == 1
    assert mender.call("Cleanup").returncode == 0
    other = PullTree(tmp_path / "other")
    other.release("digits", "1.0", 1, *model_and_golden(networks))
    other.publish()
    done = Mender(tmp_path / "two", board).deploy(payload(other, "1.0"))
    assert ("ArtifactInstall", 1) in done
    board.assert_sound("digits", "")


def test_an_install_waits_for_the_boards_own_agent_and_says_so_where_that_does_not_end(
    tmp_path: Path, board: PullingBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = FileLock(settings.lock_path(str(board.root)))
    assert agent.acquire()
    monkeypatch.setattr(mender, "PATIENCE_SECONDS", 0.0)
    assert mender.module(str(board.root), "ArtifactInstall", str(tmp_path)) == 1
    assert f"agent (process {os.getpid()}) is at work (busy)" in capsys.readouterr().err
    assert not (board.root / "agent/state.json").exists()
    agent.release()


def test_states_of_later_versions_are_passed_over(tmp_path: Path, board: PullingBoard) -> None:
    done = Mender(tmp_path / "one", board).call("ArtifactDance")
    assert (done.returncode, done.stdout) == (0, "")
