"""Updates by releases of a fleet: what is taken, measured, kept, gone back to, and refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import protocol, runtimes
from edgeopt_runner.supervisor import Supervisor
from edgeopt_runner.updates import update
from support.board_updates import (
    PROFILE,
    SickFrom,
    act,
    assert_sound,
    bring,
    entry_of,
    figures,
    healthy,
    install,
    preflight_of,
    state_of,
    update_now,
    wrong,
)
from support.failing_disk import failing


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board with a runtime, without the seconds that importing all of them takes."""
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board that runs 1.0.0."""
    (tmp_path / "objects").mkdir()
    assert install(tmp_path, b"model one", "1.0.0", 1)["outcome"] == "committed"
    return tmp_path


def test_first_release_is_measured_committed_and_golden(board: Path) -> None:
    report = assert_sound(board)
    assert (report["version"], report["counter"], report["golden"], report["previous"]) == ("1.0.0", 1, "1.0.0", "")
    assert report["figures"]["p95_ns"] == 1_000_000
    assert not report["signed"]


def test_next_release_is_measured_beside_the_one_that_runs(board: Path) -> None:
    launched: list[int] = []

    def check(job: dict[str, Any]) -> dict[str, Any]:
        launched.append(job["release"]["number"])
        new = job["release"]["number"] == 2
        return figures(samples_ns=[800_000 if new else 1_000_000] * job["runs"])

    found = install(board, b"model two", "1.1.0", 2, check)
    assert launched == [2, 1, 1, 2, 2]
    assert (found["before"]["median_ns"], found["after"]["median_ns"]) == (1_000_000, 800_000)
    assert (found["before"]["runs"], found["after"]["runs"]) == (20, 40)
    steps = ["preflight", "verify", "stage", "smoke", "activate", "health", "commit", "collect"]
    assert (found["outcome"], found["transitions"], found["release"]) == ("committed", steps, 2)
    report = assert_sound(board)
    assert (report["version"], report["previous"], report["golden"]) == ("1.1.0", "1.0.0", "1.0.0")


def test_the_same_release_again_is_nothing_to_do(board: Path) -> None:
    job = bring(board, b"model two", "1.1.0", 2)
    update_now(board, job)
    found = update_now(board, job, check=None)
    assert (found["outcome"], found["code"]) == ("nothing", "")
    assert preflight_of(board, job)["action"] == "nothing"


@pytest.mark.parametrize(
    ("check", "outcome", "code", "reason"),
    [
        (wrong, "aborted", "health_failed", "cosine 0.1 is below 0.99"),
        (SickFrom(5), "rolled_back", "health_failed", "cosine 0.1 is below 0.99"),
        (lambda job: figures(samples_ns=[9_000_000]), "aborted", "health_failed", "p95 9.000 ms, more than the 5.000"),
        (lambda job: figures(memory_bytes=2 << 30), "aborted", "health_failed", "2048.0 MiB of memory"),
        (lambda job: {"status": "illegal_instruction", "detail": "SIGILL"}, "aborted", "health_failed", "SIGILL"),
    ],
)
def test_what_is_not_healthy_does_not_stay(board: Path, check: Any, outcome: str, code: str, reason: str) -> None:
    found = install(board, b"model two", "1.1.0", 2, check)
    assert (found["outcome"], found["code"]) == (outcome, code)
    assert reason in found["reason"]
    report = assert_sound(board)
    assert report["version"] == "1.0.0"
    assert reason in report["failed"]["1.1.0"]


def test_a_disturbed_board_says_nothing_about_the_release(board: Path) -> None:
    slow = figures(samples_ns=[9_000_000] * 5, disturbed="throttled")
    for _ in range(5):
        found = install(board, b"model two", "1.1.0", 2, lambda job: slow)
        assert (found["outcome"], found["code"]) == ("inconclusive", "inconclusive")
        assert "disturbed (throttled)" in found["reason"]
    assert assert_sound(board)["failed"] == {}
    assert install(board, b"model two", "1.1.0", 2)["outcome"] == "committed"


def test_a_disturbed_board_takes_what_brings_an_earlier_release_back_if_its_outputs_are_right(board: Path) -> None:
    slow = figures(samples_ns=[9_000_000] * 5, disturbed="contended")
    assert install(board, b"model two", "1.1.0", 2)["outcome"] == "committed"
    assert install(board, b"model one", "1.0.0+r", 3, wrong, restores="1.0.0")["outcome"] == "aborted"
    assert install(board, b"model one", "1.0.0+r", 3, lambda job: slow, restores="1.0.0")["outcome"] == "committed"


def test_a_release_that_keeps_its_limits_on_a_disturbed_board_passes(board: Path) -> None:
    found = install(board, b"model two", "1.1.0", 2, lambda job: figures(disturbed="contended"))
    assert (found["outcome"], found["after"]["disturbed"]) == ("committed", "contended")


def test_after_three_failures_a_release_is_penalised_with_the_time(board: Path) -> None:
    job = bring(board, b"model two", "1.1.0", 2)
    for _ in range(3):
        assert update_now(board, job, wrong)["code"] == "health_failed"
    assert update_now(board, job)["code"] == protocol.PENALISED
    found = preflight_of(board, job)
    assert (found["action"], found["code"]) == ("refuse", "penalised")
    assert "in 24.0 h of uptime" in found["reason"]
    assert install(board, b"model three", "1.2.0", 3)["outcome"] == "committed"


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"entries": {"other": entry_of(b"model two")}}, "no_entry", "nothing for profile board (it has other)"),
        ({"machines": ["riscv64"]}, "wrong_machine", "it is for riscv64"),
        ({"settings": {"runtime": "ncnn"}}, "runtime_missing", "no ncnn"),
        ({"min_runtime": "1.21"}, "runtime_old", "has onnxruntime 1.20.1, the release needs 1.21"),
    ],
)
def test_what_is_not_for_this_board_is_skipped_with_the_reason(
    board: Path, changes: dict[str, Any], code: str, reason: str
) -> None:
    job = bring(board, b"model two", "1.1.0", 2, **changes)
    for found in (update_now(board, job), preflight_of(board, job)):
        assert found.get("outcome", found.get("action")) in ("skipped", "skip")
        assert found["code"] == code
        assert reason in found["reason"]
    assert assert_sound(board)["failed"] == {}


def test_older_counters_are_refused_and_an_authorised_downgrade_is_not(board: Path) -> None:
    old = bring(board, b"model one", "1.0.0", 1)
    install(board, b"model two", "1.1.0", 2)
    assert update_now(board, old)["code"] == protocol.OLDER
    assert install(board, b"model x", "1.0.9", 2)["code"] == protocol.OLDER
    restored = install(board, b"model one", "1.0.1", 3, restores="1.0.0")
    assert (restored["outcome"], assert_sound(board)["counter"]) == ("committed", 3)


def test_a_failed_release_does_not_raise_the_counter(board: Path) -> None:
    install(board, b"model two", "1.1.0", 9, SickFrom(5))
    assert assert_sound(board)["highest"] == 1
    assert install(board, b"model three", "1.2.0", 5)["outcome"] == "committed"


def test_orders_of_a_rollout_that_was_overtaken_are_refused_with_who_and_when(board: Path) -> None:
    job = bring(board, b"model two", "1.1.0", 2, job={"fence": 7})
    assert update_now(board, job)["outcome"] == "committed"
    late = bring(board, b"model three", "1.2.0", 3, job={"fence": 6})
    for found in (update_now(board, late), preflight_of(board, late)):
        assert found["code"] == protocol.FENCED
        assert "anna@laptop gave one with 7" in found["reason"]
    assert act("recheck", board, {"app": "digits", "fence": 6}, healthy)["status"] == protocol.FENCED
    assert act("return", board, {"app": "digits", "fence": 6}, healthy)["status"] == protocol.FENCED


def test_a_fence_counts_from_when_the_order_comes_even_if_it_leads_nowhere(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2, wrong, job={"fence": 9})
    assert install(board, b"model two", "1.1.0", 2, job={"fence": 8})["code"] == protocol.FENCED


def test_a_damaged_previous_is_passed_over_for_golden(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2)
    install(board, b"model three", "1.2.0", 3)
    for number in (2, 3):
        spoil(board, number)
    report = state_of(board)
    assert (report["version"], report["number"], report["state"]) == ("1.0.0", 1, "idle")
    assert_sound(board)


def test_a_revoked_release_is_never_gone_back_to(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2)
    install(board, b"model three", "1.2.0", 3, revoked=["1.1.0"])
    assert act("return", board, {"app": "digits", "fence": 0}, healthy)["status"] == protocol.REVOKED
    assert act("rollback", board, {"app": "digits"}, healthy)["status"] == protocol.REVOKED
    spoil(board, 3)
    assert state_of(board)["version"] == "1.0.0"


def test_when_nothing_may_run_the_board_stops_loudly_and_the_next_update_starts_it(board: Path) -> None:
    spoil(board, 1)
    report = assert_sound(board, stopped=True)
    assert (report["version"], report["running"]) == ("", [])
    from edgeopt_runner import application

    with pytest.raises(application.ApplicationError, match="no release here may run"):
        application.load("digits", str(board))
    found = install(board, b"model two", "1.1.0", 2)
    assert found["outcome"] == "committed"
    assert assert_sound(board)["golden"] == "1.1.0"


def test_what_runs_and_is_sick_itself_is_not_gone_back_to(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2)

    def check(job: dict[str, Any]) -> dict[str, Any]:
        number = job["release"]["number"]
        check.calls += number == 3  # type: ignore[attr-defined]
        return wrong(job) if number == 2 or check.calls > 1 else healthy(job)  # type: ignore[attr-defined]

    check.calls = 0  # type: ignore[attr-defined]
    found = install(board, b"model three", "1.2.0", 3, check)
    assert (found["outcome"], found["before"]) == ("rolled_back", None)
    assert assert_sound(board)["version"] == "1.0.0"


@pytest.mark.parametrize("old", [wrong, lambda job: {"status": "memory_guard", "detail": "60 MiB are left"}])
def test_where_only_what_ran_is_whole_the_board_goes_back_to_it_however_it_did(board: Path, old: Any) -> None:
    new = SickFrom(2)
    found = install(board, b"model two", "1.1.0", 2, lambda job: (old if job["release"]["number"] == 1 else new)(job))
    assert (found["outcome"], found["before"], found["release"]) == ("rolled_back", None, 1)
    assert assert_sound(board)["version"] == "1.0.0"


def test_what_the_board_had_no_room_to_launch_is_gone_back_to_all_the_same(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2)
    checks = {2: lambda job: {"status": "timeout:load", "detail": "5 s"}, 3: SickFrom(2)}
    found = install(board, b"model three", "1.2.0", 3, lambda job: checks[job["release"]["number"]](job))
    assert (found["outcome"], found["release"]) == ("rolled_back", 2)
    assert assert_sound(board)["version"] == "1.1.0"


def test_a_phase_that_cannot_be_written_down_changes_nothing(board: Path) -> None:
    def full(call: int, where: str) -> None:
        if "state.json" in where:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)

    job = {**bring(board, b"model two", "1.1.0", 2), "job_id": "ab" * 16}
    folder = board / "jobs" / job["job_id"]
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job))
    supervisor = Supervisor(str(board), job["job_id"])
    with failing(board, full):
        supervisor._on_phase("load", 1.0)
        found = update.update(str(board), job, healthy, supervisor._on_step)["update"]
    assert found["outcome"] == "committed"
    assert assert_sound(board)["version"] == "1.1.0"


def test_return_goes_to_the_previous_or_the_named_release(board: Path) -> None:
    first = state_of(board)["manifest"]
    install(board, b"model two", "1.1.0", 2)
    install(board, b"model three", "1.2.0", 3)
    back = act("return", board, {"app": "digits", "fence": 3}, healthy)["update"]
    assert (back["outcome"], back["version"]) == ("committed", "1.1.0")
    back = act("return", board, {"app": "digits", "fence": 3, "to_manifest": first}, healthy)["update"]
    assert (back["outcome"], back["version"]) == ("committed", "1.0.0")
    assert (
        act("return", board, {"app": "digits", "fence": 3, "to_manifest": first}, None)["update"]["outcome"]
        == "nothing"
    )
    assert assert_sound(board)["highest"] == 3
    gone = act("return", board, {"app": "digits", "fence": 3, "to_manifest": "0" * 64}, healthy)
    assert gone["status"] == protocol.NO_PREVIOUS


def test_return_to_what_is_sick_stays_where_it_is(board: Path) -> None:
    install(board, b"model two", "1.1.0", 2)
    back = act("return", board, {"app": "digits", "fence": 0}, SickFrom(2))
    assert (back["update"]["outcome"], back["status"]) == ("rolled_back", "health_failed")
    assert assert_sound(board)["version"] == "1.1.0"


def test_recheck_measures_and_judges_what_is_active(board: Path) -> None:
    slow = figures(samples_ns=[9_000_000])
    checks = {"healthy": healthy, "unhealthy": lambda job: slow, "inconclusive": None}
    checks["inconclusive"] = lambda job: {**slow, "check": {**slow["check"], "disturbed": "throttled"}}
    for verdict, check in checks.items():
        found = act("recheck", board, {"app": "digits", "fence": 0}, check)
        assert (found["status"], found["recheck"]["verdict"]) == ("ok", verdict)
        assert found["recheck"]["version"] == "1.0.0"
        assert state_of(board)["figures"] == found["recheck"]["figures"]


def test_a_damaged_object_is_asked_for_again_and_what_releases_have_is_not(board: Path) -> None:
    job = bring(board, b"model two", "1.1.0", 2)
    objects = board / "objects"
    model = json.loads((objects / job["manifest"]).read_text())["entries"][PROFILE]["model"]["digest"]
    (objects / model).write_bytes(b"model twO")
    needs = {need["sha256"]: need for need in preflight_of(board, job)["needs"]}
    assert needs[model]["have"] == 0
    assert not (objects / model).exists()
    assert update_now(board, job)["code"] == protocol.MISSING_OBJECT
    again = bring(board, b"model one", "1.2.0", 3)
    for name in os.listdir(objects):
        if name != again["manifest"]:
            (objects / name).unlink()
    found = preflight_of(board, again)
    assert [need["have"] == need["size"] for need in found["needs"]] == [True, True]
    assert found["have"][0]["version"] == "1.0.0"
    assert update_now(board, again)["outcome"] == "committed"


def test_objects_of_releases_that_are_gone_go_too(board: Path) -> None:
    for number in range(2, 8):
        install(board, b"model %d" % number, f"1.{number}.0", number)
    assert sorted(os.listdir(board / "apps/digits/releases")) == ["1", "5", "6", "7"]
    wanted = set()
    for path in (board / "apps/digits/releases").rglob("manifest.json"):
        wanted |= {entry["sha256"] for entry in json.loads(path.read_text())["files"].values()}
    assert set(os.listdir(board / "objects")) <= wanted


def test_every_step_is_told_in_the_log_with_who_and_that_it_is_unsigned(board: Path) -> None:
    events = [json.loads(line) for line in (board / "log/events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events] == ["staging", "switching", "switched", "committed"]
    assert {(event["who"], event["unsigned"], event["version"]) for event in events} == {("anna@laptop", True, "1.0.0")}


def spoil(board: Path, number: int) -> None:
    """Flip a bit of a release's model, on the disk."""
    path = board / f"apps/digits/releases/{number}/model.onnx"
    data = bytearray(path.read_bytes())
    path.unlink()
    data[0] ^= 1
    path.write_bytes(bytes(data))


def test_after_its_first_launch_a_release_may_not_take_much_longer(board: Path) -> None:
    limits: list[tuple[int, Any]] = []

    def check(job: dict[str, Any]) -> dict[str, Any]:
        limits.append((job["release"]["number"], job["limits"]["deadline_seconds"]))
        return healthy(job)

    given = {"load": 5.0}
    job = bring(board, b"model two", "1.1.0", 2, job={"limits": {"deadline_seconds": given}})
    assert update_now(board, job, check)["outcome"] == "committed"
    bounded = {"load": 5.0, "total": 60.0}
    assert limits == [(2, given), (1, given), (1, given), (2, bounded), (2, bounded)]
    assert given == {"load": 5.0}
