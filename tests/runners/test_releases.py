"""Activation, its undoing, and kills and full disks at every step of it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import faults, protocol, releases
from edgeopt_runner.journal import RESERVED_BYTES, Journal
from support.releases import HealthyOnce, activation, healthy, in_child, whole, wrong

POINTS = [name for name in faults.POINTS if name.startswith("release.")]
BACK = ("release.returning", "release.return", "release.returned")
OF_A_FLEET = ("release.golden", "release.fallback")
"""Points that a plain activation does not come to; `tests/faults` has them."""
FORWARD = [name for name in POINTS if name not in (*BACK, *OF_A_FLEET)]


def activate(root: Path, content: bytes, check: Any = healthy, **changes: Any) -> dict[str, Any]:
    return releases.activate(str(root), activation(root, content, **changes), check)


def current(root: Path) -> Path:
    return root / "apps" / "digits" / "current"


def test_first_activation_makes_a_complete_release_and_says_so(tmp_path: Path) -> None:
    result = activate(tmp_path, b"model one")
    assert result["status"] == protocol.OK
    deployment = result["deployment"]
    assert (deployment["release"], deployment["previous"], deployment["healthy"]) == (1, None, True)
    assert "release 1 is active" in deployment["detail"]
    assert whole(current(tmp_path))["files"]["model"]["sha256"] == deployment["sha256"]
    assert os.readlink(current(tmp_path)) == "releases/1"


def test_model_is_a_hard_link_to_its_object(tmp_path: Path) -> None:
    digest = activate(tmp_path, b"model one")["deployment"]["sha256"]
    assert (current(tmp_path) / "model.onnx").samefile(tmp_path / "objects" / digest)


def test_second_activation_keeps_the_first_as_previous(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    deployment = activate(tmp_path, b"model two")["deployment"]
    assert (deployment["release"], deployment["previous"]) == (2, 1)
    assert (current(tmp_path) / "model.onnx").read_bytes() == b"model two"


def test_activating_what_is_active_changes_nothing_and_says_so(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    result = activate(tmp_path, b"model one", check=None)
    assert result["status"] == protocol.OK
    assert result["detail"] == "release 1 is active already"
    assert (
        activate(tmp_path, b"model one", settings={"runtime": "onnxruntime", "threads": 4})["deployment"]["release"]
        == 2
    )


def test_a_damaged_active_release_is_not_taken_for_active(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    model = current(tmp_path) / "model.onnx"
    model.unlink()
    model.write_bytes(b"model 0ne")
    assert activate(tmp_path, b"model one")["deployment"]["release"] == 2
    whole(current(tmp_path))


def test_wrong_outputs_before_the_switch_leave_everything_as_it_was(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    result = activate(tmp_path, b"model two", check=wrong)
    assert result["status"] == protocol.HEALTH_FAILED
    assert "cosine 0.1 is below 0.99" in result["detail"]
    assert (result["deployment"]["release"], result["deployment"]["previous"]) == (1, None)
    assert sorted(os.listdir(tmp_path / "apps/digits/releases")) == ["1"]


def test_failing_after_the_switch_leads_back_with_previous_as_before(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    activate(tmp_path, b"model two")
    check = HealthyOnce()
    result = activate(tmp_path, b"model three", check=check)
    assert check.calls == 2
    assert result["status"] == protocol.HEALTH_FAILED
    assert "release 2 is active again" in result["detail"]
    assert (result["deployment"]["release"], result["deployment"]["previous"]) == (2, 1)
    assert result["deployment"]["healthy"]


def test_first_release_that_fails_after_the_switch_leaves_nothing_active(tmp_path: Path) -> None:
    result = activate(tmp_path, b"model one", check=HealthyOnce())
    assert (result["status"], result["deployment"]) == (protocol.HEALTH_FAILED, None)
    assert not os.path.lexists(current(tmp_path))
    assert releases.apps(str(tmp_path)) == []


def test_a_cancelled_check_is_not_the_models_fault(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    result = activate(tmp_path, b"model two", check=lambda job: {"status": "cancelled", "detail": "by its owner"})
    assert (result["status"], result["deployment"]["release"]) == (protocol.CANCELLED, 1)


def test_a_check_that_crashed_is_named_in_the_detail(tmp_path: Path) -> None:
    def crash(job: dict[str, Any]) -> dict[str, Any]:
        return {"status": "illegal_instruction", "detail": "the worker died of SIGILL"}

    assert "illegal_instruction: the worker died of SIGILL" in activate(tmp_path, b"model", check=crash)["detail"]


def test_check_gets_a_whole_check_job_of_the_releases_own_files(tmp_path: Path) -> None:
    seen = []

    def check(job: dict[str, Any]) -> dict[str, Any]:
        folder = tmp_path / "apps" / job["release"]["app"] / "releases" / str(job["release"]["number"])
        assert whole(folder)["files"]["golden"]["sha256"] == job["golden"]
        seen.append(job)
        return healthy(job)

    activate(tmp_path, b"model one", max_latency_ns=5000)
    activate(tmp_path, b"model two")
    for name in os.listdir(tmp_path / "objects"):
        (tmp_path / "objects" / name).unlink()
    assert releases.rollback(str(tmp_path), {"app": "digits"}, check)["status"] == protocol.OK
    assert seen[0]["kind"] == "check"
    assert (seen[0]["min_cosine"], seen[0]["max_latency_ns"], seen[0]["runs"]) == (0.99, 5000, 3)


def test_rollback_goes_back_and_rollback_again_goes_forth(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    activate(tmp_path, b"model two")
    back = releases.rollback(str(tmp_path), {"app": "digits"}, healthy)["deployment"]
    assert (back["release"], back["previous"]) == (1, 2)
    assert (current(tmp_path) / "model.onnx").read_bytes() == b"model one"
    forth = releases.rollback(str(tmp_path), {"app": "digits"}, healthy)["deployment"]
    assert (forth["release"], forth["previous"]) == (2, 1)


def test_rollback_without_a_previous_or_an_app_is_refused_by_name(tmp_path: Path) -> None:
    assert releases.rollback(str(tmp_path), {"app": "digits"}, healthy)["status"] == protocol.UNKNOWN_APP
    activate(tmp_path, b"model one")
    assert releases.rollback(str(tmp_path), {"app": "digits"}, healthy)["status"] == protocol.NO_PREVIOUS


def test_rollback_to_a_damaged_or_unhealthy_release_stays_where_it_is(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    activate(tmp_path, b"model two")
    result = releases.rollback(str(tmp_path), {"app": "digits"}, wrong)
    assert (result["status"], result["deployment"]["release"]) == (protocol.HEALTH_FAILED, 2)
    (tmp_path / "apps/digits/previous/model.onnx").write_bytes(b"model 0ne")
    result = releases.rollback(str(tmp_path), {"app": "digits"}, healthy)
    assert (result["status"], result["deployment"]["release"]) == (protocol.DIGEST_MISMATCH, 2)


def test_apps_lists_what_is_active(tmp_path: Path) -> None:
    assert releases.apps(str(tmp_path)) == []
    activate(tmp_path, b"model one")
    activate(tmp_path, b"other", app="faces")
    rows = releases.apps(str(tmp_path))
    assert [row["app"] for row in rows] == ["digits", "faces"]
    assert set(rows[0]) == {"app", "current", "previous", "sha256", "settings", "created", "healthy"}
    assert rows[0]["healthy"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"app": "../escape"}, protocol.BAD_REQUEST),
        ({"golden": "0" * 64}, protocol.MISSING_OBJECT),
        ({"golden": "../../etc/passwd"}, protocol.BAD_REQUEST),
        ({"artifact": {"sha256": "1" * 64, "size": 1, "format": "../x"}}, protocol.BAD_REQUEST),
        ({"artifact": {"size": 1, "format": "onnx"}}, protocol.BAD_REQUEST),
    ],
)
def test_bad_jobs_are_refused_before_anything_changes(tmp_path: Path, change: dict[str, Any], status: str) -> None:
    activate(tmp_path, b"model one")
    result = activate(tmp_path, b"model two", **change)
    assert result["status"] == status
    assert releases.apps(str(tmp_path))[0]["current"] == 1


def test_an_object_damaged_on_the_device_is_found_on_the_way_in(tmp_path: Path) -> None:
    job = activation(tmp_path, b"model one")
    (tmp_path / "objects" / job["artifact"]["sha256"]).write_bytes(b"model 0ne")
    result = releases.activate(str(tmp_path), job, healthy)
    assert result["status"] == protocol.DIGEST_MISMATCH
    assert "Send it again" in result["detail"]


def test_two_activations_at_once_exclude_each_other(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    with open(tmp_path / "apps/digits/lock", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert activate(tmp_path, b"model two")["status"] == protocol.BUSY
        assert releases.apps(str(tmp_path))[0]["current"] == 1


def test_old_releases_go_but_never_one_that_is_held_or_pointed_to(tmp_path: Path) -> None:
    activate(tmp_path, b"model 1")
    with open(tmp_path / "apps/digits/releases/1/.inuse", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        for number in range(2, 7):
            activate(tmp_path, b"model %d" % number)
        assert sorted(os.listdir(tmp_path / "apps/digits/releases")) == ["1", "4", "5", "6"]
    activate(tmp_path, b"model 7")
    assert sorted(os.listdir(tmp_path / "apps/digits/releases")) == ["5", "6", "7"]


def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    activate(tmp_path, b"model two", check=wrong)
    assert activate(tmp_path, b"model three")["deployment"]["release"] == 3


def test_files_are_copied_where_the_disk_has_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, destination: str) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    assert activate(tmp_path, b"model one")["status"] == protocol.OK
    whole(current(tmp_path))


@pytest.mark.parametrize("point", FORWARD)
def test_kill_at_any_step_of_an_activation_leaves_a_complete_release(tmp_path: Path, point: str) -> None:
    _kill_and_recover(tmp_path, point, "healthy", committed=point == "release.prune")


@pytest.mark.parametrize("point", BACK)
def test_kill_while_leading_back_leaves_a_complete_release(tmp_path: Path, point: str) -> None:
    _kill_and_recover(tmp_path, point, "healthy_once", committed=False)


def _kill_and_recover(root: Path, point: str, check: str, committed: bool) -> None:
    activate(root, b"model one")
    activate(root, b"model two")
    job = activation(root, b"model three")
    assert in_child("activate", root, job, check, point + ":kill9") == -signal.SIGKILL
    whole(current(root))
    row = releases.apps(str(root))[0]
    assert (row["current"], row["previous"], row["healthy"]) == ((3, 2, True) if committed else (2, 1, True))
    whole(current(root))
    assert not [name for name in os.listdir(root / "apps/digits/releases") if name.startswith(".")] or committed
    deployment = releases.activate(str(root), job, healthy)["deployment"]
    assert deployment["sha256"] == job["artifact"]["sha256"]
    assert deployment["previous"] == 2
    whole(current(root))


@pytest.mark.parametrize(
    "point",
    [
        name
        for name in FORWARD
        if name.split(".")[1] in ("switching", "previous", "current", "switched", "health", "commit")
    ],
)
def test_kill_at_any_step_of_a_rollback_leaves_what_was_active(tmp_path: Path, point: str) -> None:
    activate(tmp_path, b"model one")
    activate(tmp_path, b"model two")
    assert in_child("rollback", tmp_path, {"app": "digits"}, "healthy", point + ":kill9") == -signal.SIGKILL
    whole(current(tmp_path))
    row = releases.apps(str(tmp_path))[0]
    assert (row["current"], row["previous"]) == (2, 1)
    assert releases.rollback(str(tmp_path), {"app": "digits"}, healthy)["deployment"]["release"] == 1


@pytest.mark.parametrize("point", FORWARD)
def test_kill_at_any_step_of_the_first_activation_converges(tmp_path: Path, point: str) -> None:
    job = activation(tmp_path, b"model one")
    assert in_child("activate", tmp_path, job, "healthy", point + ":kill9") == -signal.SIGKILL
    if os.path.lexists(current(tmp_path)):
        whole(current(tmp_path))
    assert len(releases.apps(str(tmp_path))) == (point == "release.prune")
    assert releases.activate(str(tmp_path), job, healthy)["status"] == protocol.OK
    whole(current(tmp_path))


def test_kill_during_recovery_is_recovered_from(tmp_path: Path) -> None:
    activate(tmp_path, b"model one")
    job = activation(tmp_path, b"model two")
    for point in ("release.health", "release.returning", "release.return", "release.returned", "release.return"):
        assert in_child("activate", tmp_path, job, "healthy", point + ":kill9") == -signal.SIGKILL
        whole(current(tmp_path))
    assert releases.apps(str(tmp_path))[0]["current"] == 1
    assert releases.activate(str(tmp_path), job, healthy)["deployment"]["previous"] == 1


@pytest.mark.parametrize("point", FORWARD[:-1])
def test_a_full_disk_at_any_step_leaves_what_was_active(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate(tmp_path, b"model one")
    monkeypatch.setattr(faults, "_faults", faults.parse(point + ":raise=ENOSPC"))
    result = activate(tmp_path, b"model two")
    monkeypatch.setattr(faults, "_faults", {})
    assert result["status"] == protocol.DISK_FULL
    assert result["deployment"]["release"] == 1
    assert activate(tmp_path, b"model two")["deployment"]["previous"] == 1


def test_a_damaged_line_in_the_middle_of_the_journal_does_not_undo_what_came_after(tmp_path: Path) -> None:
    for content in (b"model one", b"model two", b"model three"):
        activate(tmp_path, content)
    journal = tmp_path / "apps" / "digits" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"switched", b"swjtched")
    journal.write_bytes(b"".join(lines))
    releases.recover(str(tmp_path), "digits")
    assert os.readlink(current(tmp_path)) == "releases/3"
    assert releases.apps(str(tmp_path))[0]["healthy"]


def test_torn_end_of_the_journal_is_ignored_and_cut_off(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.jsonl"))
    journal.append({"step": "committed"})
    journal.append({"step": "staging"})
    whole_bytes = Path(journal.path).read_bytes().rstrip(b"\0")
    Path(journal.path).write_bytes(whole_bytes[:-7])
    assert journal.last() == {"step": "committed"}
    journal.append({"step": ""})
    assert journal.last() == {"step": ""}
    assert len(Path(journal.path).read_bytes().rstrip(b"\0").splitlines()) == 2


def test_journal_with_a_flipped_bit_ends_before_it(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.jsonl"))
    journal.append({"step": "committed", "highest": 3})
    journal.append({"step": "switched", "highest": 4})
    Path(journal.path).write_bytes(Path(journal.path).read_bytes().replace(b'"switched"', b'"switcheD"'))
    assert journal.last() == {"step": "committed", "highest": 3}


def test_journal_stays_small(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.jsonl"))
    for number in range(40):
        journal.append({"step": "committed", "highest": number, "detail": "x" * 2000})
        assert Path(journal.path).stat().st_size == RESERVED_BYTES
    assert len(Path(journal.path).read_bytes().rstrip(b"\0")) < 24_000
    assert journal.last()["highest"] == 39
