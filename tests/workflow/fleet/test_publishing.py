"""Releases are made of runs, signed, never changed; what makes none is refused with the remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.core.model import Artifact
from edgeopt.errors import SigningError, StoreError, UsageError
from edgeopt.store.audit import AuditLog
from edgeopt.workflow.fleet.composing import ReleaseRequest, split_name
from edgeopt.workflow.fleet.publishing import find_release, publish, releases
from edgeopt.workflow.fleet.tree import Tree
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.updates import manifest as board_parser
from support.publishing import keep_run, make_keys


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "edgeopt"))
    with Workspace.open() as opened:
        make_keys(opened)
        keep_run(opened, tmp_path / "models", "run-pi5", profile="pi5", width=16)
        keep_run(opened, tmp_path / "models", "run-nano", profile="jetson-orin-nano", width=24)
        yield opened


def request(version: str = "1.0.0", *runs: str, **changes: object) -> ReleaseRequest:
    sources = () if changes.get("restore") or changes.get("profiles") else runs or ("run-pi5", "run-nano")
    return ReleaseRequest("digits", version, sources, **changes)


def test_a_release_has_the_winner_of_each_run_and_limits_from_what_was_measured(workspace: Workspace) -> None:
    done = publish(request(margin=0.5, max_slower=0.2), workspace, now=lambda: 1_790_000_000.0)
    release = done.release
    assert (done.new, release.counter, release.created) == (True, 1, 1_790_000_000)
    assert release.expires == 1_790_000_000 + 90 * 86400
    assert list(release.entries) == ["jetson-orin-nano", "pi5"]
    entry, record = release.entries["pi5"], workspace.ledger.run("run-pi5")
    assert record.selection is not None
    winner = record.selection.assessment(str(record.selection.winner))
    p95_ns = max(launch.latency.p95_ns or 0 for launch in winner.candidate.measurements if launch.latency)
    assert entry.variant == "int8-entropy"
    assert entry.model == winner.candidate.variant.artifact
    assert entry.golden == record.golden
    assert entry.machines == (record.facts.machine,)
    assert entry.health.max_latency_ns == pytest.approx(p95_ns * 1.2, abs=1)
    assert entry.health.max_memory_bytes == pytest.approx((winner.memory_bytes or 0) * 1.5, abs=1)
    assert entry.measured is not None
    assert entry.measured.p95_ns == p95_ns
    assert entry.run_id == "run-pi5"


def test_the_board_s_own_parser_takes_the_manifest(workspace: Workspace) -> None:
    done = publish(request(), workspace)
    data = Tree.open(workspace).manifest("digits", "1.0.0")
    assert hashlib.sha256(data).hexdigest() == done.manifest
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    found = board_parser.parse(data)
    assert found is not None


def test_every_file_of_the_release_is_among_the_blobs(workspace: Workspace) -> None:
    done = publish(request(), workspace)
    tree = Tree.open(workspace)
    for file in done.release.artifacts:
        path = tree.blob(file)
        assert path is not None
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.digest


def test_the_same_again_is_said_and_changes_nothing(workspace: Workspace) -> None:
    first = publish(request(), workspace, now=lambda: 1_790_000_000.0)
    publish(request("1.1.0", "run-pi5", revoke=("1.0.0",)), workspace)
    again = publish(request(), workspace, now=lambda: 1_790_009_999.0)
    assert (again.new, again.manifest, again.release) == (False, first.manifest, first.release)
    assert [entry.what for entry in AuditLog(workspace.root / "audit.jsonl").entries()] == ["publish", "publish"]


def test_a_version_never_changes(workspace: Workspace) -> None:
    publish(request(), workspace)
    with pytest.raises(UsageError, match=r"published with other content \(counter 1\)") as caught:
        publish(request("1.0.0", "run-pi5"), workspace)
    assert "another version" in caught.value.remedy


def test_counters_rise_and_revoked_versions_stay_revoked(workspace: Workspace) -> None:
    publish(request("1.0.0"), workspace)
    publish(request("1.1.0", "run-pi5"), workspace)
    publish(request("1.2.0", revoke=("1.0.0",)), workspace)
    last = publish(request("1.3.0", "run-pi5"), workspace)
    assert (last.release.counter, last.release.revoked) == (4, ("1.0.0",))
    assert [one.version for one in releases(workspace)] == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert find_release("digits", workspace).release.version == "1.3.0"


def test_a_downgrade_is_a_new_release_with_old_content(workspace: Workspace) -> None:
    old = publish(request("1.0.0"), workspace)
    publish(request("1.1.0", "run-pi5"), workspace)
    for file in old.release.artifacts:
        workspace.artifacts.path(file).unlink()  # the tree keeps what it published
    back = publish(request("1.1.1", restore="1.0.0"), workspace)
    assert (back.release.counter, back.release.restores) == (3, "1.0.0")
    assert back.release.entries == old.release.entries


def test_what_is_revoked_is_not_restored(workspace: Workspace) -> None:
    publish(request("1.0.0"), workspace)
    publish(request("1.1.0", "run-pi5", revoke=("1.0.0",)), workspace)
    with pytest.raises(UsageError, match="is revoked"):
        publish(request("1.1.1", restore="1.0.0"), workspace)


def test_a_run_may_be_for_another_profile(workspace: Workspace) -> None:
    done = publish(request(profiles={"pi4": "run-pi5", "pi5": "run-pi5"}), workspace)
    assert list(done.release.entries) == ["pi4", "pi5"]
    assert done.install_bytes == sum(file.size_bytes for file in done.release.artifacts)
    assert len(done.release.artifacts) == 2


@pytest.mark.parametrize(
    ("changes", "error", "said", "remedy"),
    [
        ({"runs": ()}, UsageError, "made of runs or of a version to restore", "--from RUN"),
        ({"restore": "1.0.0"}, UsageError, "one of the two", "--restore"),
        ({"runs": ("run-absent",)}, StoreError, "run 'run-absent' is not in the ledger", "edgeopt runs"),
        ({"profiles": {"pi5": "run-nano"}}, UsageError, "two runs are for profile 'pi5'", "--profile PROFILE=RUN"),
        ({"app": "../digits"}, UsageError, "is no app's name", "detector@1.4.0"),
        ({"version": "1 0"}, UsageError, "is no version", "detector@1.4.0"),
        ({"margin": float("nan")}, UsageError, "--margin", "20%"),
        ({"max_slower": -0.1}, UsageError, "--max-slower", "20%"),
        ({"expires_seconds": 0.0}, UsageError, "--expires", "90d"),
        ({"revoke": ("0.9",)}, UsageError, "has no release '0.9' (published: none yet)", "edgeopt releases"),
        ({"revoke": ("1.0.0",)}, UsageError, "cannot revoke itself", "another version"),
        ({"notes": "x" * 300_000}, UsageError, "boards take 262144", "Shorten"),
    ],
)
def test_what_makes_no_release_is_refused(
    workspace: Workspace, changes: dict, error: type[Exception], said: str, remedy: str
) -> None:
    with pytest.raises(error) as caught:
        publish(replace(request(), **changes), workspace)
    assert said in str(caught.value)
    assert remedy in str(caught.value)
    assert releases(workspace) == ()
    assert AuditLog(workspace.root / "audit.jsonl").entries() == ()


def test_a_run_without_a_winner_or_golden_samples_is_refused(workspace: Workspace) -> None:
    record = workspace.ledger.run("run-pi5")
    assert record.selection is not None
    workspace.ledger.save_run(replace(record, selection=replace(record.selection, winner=None)))
    with pytest.raises(UsageError, match="run run-pi5 has no winner: nothing met its budget"):
        publish(request(), workspace)
    workspace.ledger.save_run(replace(record, golden=None))
    with pytest.raises(UsageError, match="before edgeopt noted golden samples") as caught:
        publish(request(), workspace)
    assert record.command in caught.value.remedy


def test_a_damaged_file_is_not_published(workspace: Workspace) -> None:
    record = workspace.ledger.run("run-pi5")
    assert isinstance(record.golden, Artifact)
    path = workspace.artifacts.path(record.golden)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="now has the digest"):
        publish(request(), workspace)
    assert releases(workspace) == ()


def test_without_keys_the_command_that_makes_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "other"))
    with Workspace.open() as workspace:
        keep_run(workspace, tmp_path / "models", "run-pi5")
        with pytest.raises(SigningError, match="edgeopt keys init"):
            publish(request("1.0.0", "run-pi5"), workspace)


def test_a_release_that_is_not_published_is_named_with_those_that_are(workspace: Workspace) -> None:
    publish(request(), workspace)
    with pytest.raises(UsageError, match=r"'digits@2.0' is not published \(of digits there is: 1.0.0\)"):
        find_release("digits@2.0", workspace)
    with pytest.raises(UsageError, match="is not APP@VERSION"):
        split_name("digits")
