"""A board pulls from a real nginx and updates by the real transaction, in processes of the real bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import hardware
from edgeopt_runner.agent import run, verbs
from edgeopt_runner.protocol import offers
from edgeopt_runner.protocol.hardware import mark
from support.nginx import Nginx, running_nginx
from support.pull_tree import PullTree
from support.pulling import PullingBoard, model_and_golden


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def tree(tmp_path: Path, networks: Path) -> PullTree:
    made = PullTree(tmp_path / "tree")
    made.release("digits", "1.0", 1, *model_and_golden(networks))
    made.offer("digits", "1.0")
    made.publish()
    return made


@pytest.fixture
def nginx(tmp_path: Path, tree: PullTree) -> Iterator[Nginx]:
    with running_nginx(tmp_path / "nginx", tree.folder) as server:
        yield server


@pytest.fixture
def board(tmp_path: Path, tree: PullTree, nginx: Nginx) -> PullingBoard:
    return PullingBoard(tmp_path / "board", tree, nginx.url(), report_url=nginx.url("reports"))


def second(tree: PullTree, networks: Path, *, wrong: bool = False, **offer: Any) -> None:
    """Publish and offer 2.0."""
    tree.release("digits", "2.0", 2, *model_and_golden(networks, 1.0, wrong))
    tree.offer("digits", "2.0", "1" * 16, **offer)
    tree.publish()


def reports(nginx: Nginx) -> list[dict[str, Any]]:
    files = sorted((nginx.reports / "board-1").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(json.loads(path.read_text())["payload"]) for path in files]


def test_what_is_offered_is_committed_and_the_next_poll_asks_for_two_small_files(
    board: PullingBoard, nginx: Nginx
) -> None:
    code, said = board.poll()
    assert code == 0, said
    assert said[0]["outcome"] == "committed", said
    board.assert_sound("digits", "1.0")
    assert board.release()["signed"]
    nginx.forget()
    code, said = board.poll()
    assert (code, said[0]["outcome"]) == (0, "nothing")
    assert [(method, status) for method, _, status in nginx.requests if method == "GET"] == [("GET", 404), ("GET", 304)]
    assert said[-1]["received_bytes"] == 0


def test_a_report_tells_what_is_committed_and_runs_signed_by_the_board(board: PullingBoard, nginx: Nginx) -> None:
    from edgeopt_runner.trust import ed25519

    (board.root / "agent/state.json").write_text('{"reports": 5}')
    board.poll()
    [report] = reports(nginx)
    assert report["device_id"] == "board-1"
    assert report["updates"]["digits"]["outcome"] == "committed"
    assert report["apps"][0]["version"] == "1.0"
    assert report["apps"][0]["verified"]
    envelope = json.loads(next((nginx.reports / "board-1").iterdir()).read_text())
    key, signature = (bytes.fromhex(envelope["signatures"][0][name]) for name in ("key", "sig"))
    assert ed25519.verify(key, signature, envelope["payload"].encode())
    (board.root / "agent/state.json").unlink()  # the numbers go on rising, for hosts read the highest
    board.poll()
    assert reports(nginx)[-1]["updates"]["digits"]["outcome"] == "nothing"


def test_a_disk_in_another_board_says_so_in_polls_and_reports_until_it_is_enrolled_there(
    board: PullingBoard, nginx: Nginx, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board.poll()

    def poll_as(serial: str) -> tuple[bool, dict[str, Any]]:
        monkeypatch.setattr(hardware, "marks", lambda: [mark("serial", serial)])
        run.pull(str(board.root))
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return any(line.get("moved") for line in said), reports(nginx)[-1]["hardware"]

    (board.root / "agent/hardware.json").unlink()
    assert poll_as("1") == (False, {"marks": [], "moved": False})
    assert poll_as("2") == (True, {"marks": [mark("serial", "2")], "moved": True})
    assert len(reports(nginx)) == 2
    poll_as("2")
    assert len(reports(nginx)) == 2
    verbs.agent(str(board.root), {"settings": json.loads((board.root / "agent/agent.json").read_text())})
    assert poll_as("2") == (False, {"marks": [mark("serial", "2")], "moved": False})


def test_a_second_release_follows_and_measures_both(
    board: PullingBoard, nginx: Nginx, tree: PullTree, networks: Path
) -> None:
    board.poll()
    second(tree, networks)
    assert board.outcome() == "committed"
    board.assert_sound("digits", "2.0")
    update = reports(nginx)[-1]["updates"]["digits"]
    assert update["before"]["runs"] > 0
    assert update["after"]["runs"] > 0
    [model] = (board.root / "apps/digits/current/").glob("model.*")
    model.unlink()  # the disk lost it: the next look goes back to 1.0
    assert board.release()["version"] == "1.0"
    assert board.outcome() == "committed"
    board.assert_sound("digits", "2.0")


def test_a_release_that_is_wrong_here_is_not_kept_is_reported_and_is_not_tried_again(
    board: PullingBoard, nginx: Nginx, tree: PullTree, networks: Path
) -> None:
    board.poll()
    second(tree, networks, wrong=True)
    code, said = board.poll()
    assert code == 4
    assert said[0]["outcome"] in ("aborted", "rolled_back")
    board.assert_sound("digits", "1.0")
    assert reports(nginx)[-1]["updates"]["digits"]["code"] == "health_failed"
    nginx.forget()
    again = board.poll()[1]
    assert again[0]["outcome"] == said[0]["outcome"]
    assert again[-1]["received_bytes"] == 0
    assert len(reports(nginx)) == 2


@pytest.mark.parametrize(
    ("terms", "outcome"),
    [
        ({"labels": {"region": "north"}}, "committed"),
        ({"labels": {"region": "south"}}, "left_out"),
        ({"labels": {"profile": "other"}}, "left_out"),
        ({"labels": {"name": "board-1"}}, "committed"),
        ({"fraction_per_10000": 0}, "left_out"),
        ({"not_before": 1 << 33}, "waiting"),
    ],
)
def test_a_board_takes_part_where_labels_fraction_and_time_say_so(
    board: PullingBoard, nginx: Nginx, tree: PullTree, terms: dict[str, Any], outcome: str
) -> None:
    board.configure(nginx.url(), labels={"region": "north"})
    tree.offer("digits", "1.0", "2" * 16, **terms)
    tree.publish()
    assert board.outcome() == outcome
    board.assert_sound("digits", "1.0" if outcome == "committed" else "")


def test_outside_its_window_a_board_has_the_files_ready_and_waits(
    board: PullingBoard, nginx: Nginx, tree: PullTree
) -> None:
    now = time.gmtime()
    minute = now.tm_hour * 60 + now.tm_min
    closed = {"days": [offers.DAYS[(now.tm_wday + 3) % 7]], "start": minute, "end": (minute + 1) % 1440 or 1}
    tree.offer("digits", "1.0", "2" * 16, window=closed)
    tree.publish()
    assert board.outcome() == "waiting"
    board.assert_sound("digits", "")
    assert any("/blobs/" in path for _, path, _ in nginx.requests)
    tree.offer("digits", "1.0", "2" * 16, window={"days": [], "start": 0, "end": 1440})
    tree.publish()
    nginx.forget()
    assert board.outcome() == "committed"
    assert not any("/blobs/" in path for _, path, _ in nginx.requests)


def test_a_larger_fraction_keeps_the_boards_of_the_smaller_one() -> None:
    names = [f"cam-{number}" for number in range(20_000)]
    shares = [offers.share(name, "ab" * 8) for name in names]
    chosen = [share < 1000 for share in shares]
    assert 0.09 < sum(chosen) / len(names) < 0.11
    assert all(share < 2500 for share, taken in zip(shares, chosen, strict=True) if taken)
    other = [offers.share(name, "cd" * 8) < 1000 for name in names]
    assert 0.005 < sum(a and b for a, b in zip(chosen, other, strict=True)) / len(names) < 0.015


def test_what_is_tampered_with_is_never_run(board: PullingBoard, nginx: Nginx, tree: PullTree) -> None:
    for path in (tree.folder / "blobs").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    code, said = board.poll()
    assert code == 4
    assert said[0]["code"] == "digest_mismatch"
    board.assert_sound("digits", "")


def test_metadata_that_are_tampered_with_or_stale_change_nothing(
    board: PullingBoard, nginx: Nginx, tree: PullTree, networks: Path
) -> None:
    board.poll()
    old = (tree.folder / "metadata/timestamp.json").read_bytes()
    second(tree, networks)
    good = (tree.folder / "metadata/2.targets.json").read_bytes()
    (tree.folder / "metadata/2.targets.json").write_bytes(good.replace(b'"length":', b'"length": 1'))
    code, said = board.poll()
    assert (code, said[-1]["refused"] in ("bad_signature", "bad_metadata")) == (4, True)
    board.assert_sound("digits", "1.0")
    (tree.folder / "metadata/2.targets.json").write_bytes(good)
    assert board.outcome() == "committed"
    (tree.folder / "metadata/timestamp.json").write_bytes(old)
    code, said = board.poll()
    assert (code, said[-1]["refused"]) == (4, "rollback_attack")
    assert reports(nginx)[-1]["trouble"] == "rollback_attack"
    board.assert_sound("digits", "2.0")


def test_a_board_that_nobody_enrolled_or_configured_says_what_to_do(tmp_path: Path, tree: PullTree) -> None:
    board = PullingBoard(tmp_path / "board", tree, f"file://{tree.folder}")
    (board.root / "agent/agent.json").unlink()
    code, [said] = board.poll()
    assert (code, said["refused"]) == (2, "not_enrolled")
    assert "edgeopt device enrol" in said["remedy"]


def test_the_tree_on_a_stick_serves_as_well(tmp_path: Path, tree: PullTree) -> None:
    board = PullingBoard(tmp_path / "board", tree, f"file://{tree.folder}")
    assert board.outcome() == "committed"
    board.assert_sound("digits", "1.0")


def test_what_an_operator_takes_back_is_told_and_left_as_it_is(
    board: PullingBoard, nginx: Nginx, tree: PullTree, networks: Path
) -> None:
    from support.runner import Runner, job

    board.poll()
    second(tree, networks)
    board.poll()
    with Runner(board.root) as runner:
        assert runner.finish(job("return", app="digits", fence=7, to_manifest=""))["update"]["outcome"] == "committed"
    assert board.outcome() == "drift"
    board.assert_sound("digits", "1.0")
    assert reports(nginx)[-1]["updates"]["digits"]["outcome"] == "drift"


def test_files_of_releases_that_went_by_are_taken_away(
    board: PullingBoard, nginx: Nginx, tree: PullTree, networks: Path
) -> None:
    import os

    from edgeopt_runner import cleanup

    stale = board.root / "objects" / ("ab" * 32)
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"of a release that nobody took")
    assert board.outcome() == "committed"
    assert not stale.exists()
    assert (
        cleanup.collect_garbage(str(board.root), [path for path in os.listdir(board.root / "objects")])["removed"] == 0
    )
    assert board.poll()[1][-1]["received_bytes"] == 0


def test_an_agent_without_a_timer_polls_for_ever(board: PullingBoard, nginx: Nginx) -> None:
    board.poll()
    nginx.forget()
    agent = board.start(words=("--every", "0.3"))
    deadline = time.monotonic() + 60
    while [status for _, _, status in nginx.requests].count(304) < 3:
        assert time.monotonic() < deadline
        assert agent.poll() is None
        time.sleep(0.1)
    agent.kill()
    agent.communicate()
    board.assert_sound("digits", "1.0")


def test_a_slow_store_serves_as_well(board: PullingBoard, nginx: Nginx, tree: PullTree) -> None:
    board.configure(nginx.url("slow"))
    assert board.outcome() == "committed"


def test_of_two_agents_one_steps_back(board: PullingBoard, nginx: Nginx) -> None:
    first = board.start(fault="pull.trusted:sleep=3")
    deadline = time.monotonic() + 20
    while not any("rollouts" in path for _, path, _ in nginx.requests):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    code, [said] = board.poll()
    assert (code, said["refused"]) == (0, "busy")
    assert first.wait(60) == 0
    first.communicate()
    board.assert_sound("digits", "1.0")
