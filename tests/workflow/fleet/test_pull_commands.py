"""From the host's commands to a board that pulls: keys, publish, enrol over SSH, offer, nginx, one poll, clean."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.model import Artifact
from edgeopt.core.profile import Settings
from edgeopt.core.release import HealthLimits, Release, ReleaseEntry
from edgeopt.documents import plain
from edgeopt.errors import UsageError
from edgeopt.publishing.offers import Terms
from edgeopt.remote.inventory import Inventory
from edgeopt.workflow.fleet.agents import key_path
from edgeopt.workflow.fleet.offering import offer
from edgeopt.workflow.fleet.tree import repository_of, tree_folder
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner import releases
from support.command import Command
from support.device import fresh_computer, pin
from support.nginx import running_nginx
from support.publishing import keep_run, make_keys
from support.pulling import model_and_golden
from support.sshd import Sshd, running_sshd

PROFILE = "generic-x86_64"


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return fresh_computer(tmp_path, monkeypatch)


@pytest.fixture
def sshd(tmp_path: Path, computer: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd", environment={"EDGEOPT_LOCK": str(tmp_path / "board.lock")}) as server:
        pin(server)
        yield server


@pytest.fixture
def workspace(tmp_path: Path, computer: Path) -> Iterator[Workspace]:
    with Workspace.open() as opened:
        make_keys(opened)
        yield opened


def publish(workspace: Workspace, folder: Path, version: str = "1.0", counter: int = 1) -> None:
    import hashlib
    import time

    model, golden = model_and_golden(folder)
    files = {}
    repository = repository_of(workspace)
    for kind, data in (("onnx", model), ("npz", golden)):
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        repository.put_blob(folder / digest, digest)
        files[kind] = Artifact(digest, len(data), kind)
    entry = ReleaseEntry("original", files["onnx"], files["npz"], Settings(), (), "", HealthLimits(0.99, runs=5))
    now = int(time.time())
    release = Release("digits", version, counter, now, now + 86400, {PROFILE: entry})
    data = json.dumps({"schema": 1, **plain(release)}, sort_keys=True, separators=(",", ":")).encode()
    repository.add_target(f"releases/digits/{version}.json", data)
    repository.publish()


def poll(sshd: Sshd, root: Path, lock: Path) -> list[dict[str, object]]:
    import os

    bundle = root / "runner/current/edgeopt_runner.pyz"
    done = subprocess.run(
        [sys.executable, "-I", str(bundle), "pull", "--root", str(root), "--once"],
        env={**os.environ, "EDGEOPT_LOCK": str(lock)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_board_is_enrolled_pulls_what_is_offered_and_is_cleaned(
    tmp_path: Path, workspace: Workspace, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(capsys)
    keep_run(workspace, tmp_path, "run-1", profile=PROFILE, files=model_and_golden(tmp_path / "networks"))
    release = ("publish", "digits@1.0", "--from", "run-1", "--margin", "9900%", "--to", str(tmp_path / "store"))
    assert command(*release).code == 0
    with running_nginx(tmp_path / "nginx", tmp_path / "store") as nginx:
        device = sshd.device("cam-1", profile=PROFILE, labels={"site": "oslo"})
        Inventory(workspace.root / "devices.yaml").add(device)
        said = command("device", "enrol", "cam-1", "--url", nginx.url(), "--report-url", nginx.url("reports"), "--json")
        assert said.code == 0, said
        enrolled = json.loads(said.stdout)
        assert (enrolled["root_version"], enrolled["started_by"]) == (1, "")
        assert enrolled["cron_line"].startswith("*/30 * * * * ")
        assert "pull --root" in enrolled["cron_line"]
        done = command("fleet", "offer", "digits@1.0", "--to", "site=oslo", "--fraction", "100%")
        assert done.code == 0, done
        assert "give --store URL" in " ".join(done.stdout.split())
        again = command(*release)
        assert (again.code, "published already" in again.stdout) == (0, True)
        root = sshd.home / ".edgeopt"
        verdict, *_ = poll(sshd, root, tmp_path / "board.lock")
        assert verdict["outcome"] == "committed", verdict
        [row] = releases.report(str(root), True)
        assert (row["version"], row["signed"], row["verified"]) == ("1.0", True, True)
        report = json.loads(next((nginx.reports / "cam-1").iterdir()).read_text())
        key = json.loads(key_path(workspace, "cam-1").read_text())["public_key"]
        assert report["signatures"][0]["key"] == key == enrolled["public_key"]
        check_status(command, nginx.reports, sshd)
        sshd.start()
    assert command("device", "enrol", "cam-1", "--remove").code == 0
    assert not (root / "agent").exists() or not list((root / "agent").iterdir())
    check_enrolling_again(command, root, tmp_path / "token")
    assert command("device", "clean", "cam-1", "--yes", "--force").code == 0
    assert not root.exists()


def check_enrolling_again(command: Command, root: Path, token_file: Path) -> None:
    """A board that trusts an earlier root follows to the newest; hawkBit's server and token are among its settings."""
    assert command("keys", "rotate", "root", "--no-passphrase").code == 0
    token_file.write_text("secret-token\n")
    server = ("--hawkbit", "https://hawkbit.example/DEFAULT/controller/v1", "--token-file", str(token_file))
    enrolled = command("device", "enrol", "cam-1", *server, "--controller", "press-7", "--no-timer")
    assert enrolled.code == 0, enrolled
    assert "cam-1 trusts your root, version 2." in enrolled.stdout
    assert "put this line into its crontab" in " ".join(enrolled.stdout.split())
    assert "secret-token" not in enrolled.stdout + enrolled.stderr
    settings = json.loads((root / "agent/agent.json").read_text())
    assert settings["hawkbit"] == {"url": server[1], "controller": "press-7", "token": "secret-token"}
    assert json.loads((root / "trust/state.json").read_text())["last_trusted_time"] > 0


def check_status(command: Command, reports: Path, sshd: Sshd) -> None:
    """What the board reported is what is shown, also where nobody can reach it, and it is not drift."""
    asked = json.loads(command("fleet", "status", "--json").stdout)["boards"]
    assert [(row["drift"], row["sighting"]["by_report"]) for row in asked] == [([], False)]
    sshd.stop()
    away = command("fleet", "status")
    assert away.code == 4
    assert "--reports URL" in " ".join(away.stdout.split())
    told = command("fleet", "status", "--reports", str(reports), "--json")
    assert told.code == 0, told
    [row] = json.loads(told.stdout)["boards"]
    sighting = row["sighting"]
    assert (sighting["by_report"], sighting["reachable"], row["drift"]) == (True, True, [])
    assert (sighting["releases"][0]["version"], sighting["releases"][0]["verified"]) == ("1.0", True)
    assert 0 <= sighting["asked_at"] - sighting["seen_at"] < 600
    shown = command("fleet", "status", "--reports", str(reports))
    assert shown.code == 0
    assert re.search(r"reported .* ago", " ".join(shown.stdout.split()))


def test_a_wider_offer_of_a_release_stays_the_same_rollout(tmp_path: Path, workspace: Workspace) -> None:
    publish(workspace, tmp_path / "networks")
    first = offer("digits@1.0", Terms({"site": "oslo"}, 1000), workspace, elsewhere=True)
    wider = offer("digits@1.0", Terms({"site": "oslo"}, 5000), workspace, elsewhere=True)
    assert wider.widened
    assert wider.terms.rollout_id == first.terms.rollout_id
    other = offer("digits@1.0", Terms({"site": "bergen"}, 5000), workspace, elsewhere=True)
    assert other.terms.rollout_id != first.terms.rollout_id
    assert not other.widened


def test_what_is_not_published_cannot_be_offered(tmp_path: Path, workspace: Workspace) -> None:
    publish(workspace, tmp_path / "networks")
    with pytest.raises(UsageError, match=r"digits@2.0 is not published \(of digits there is: 1.0\)"):
        offer("digits@2.0", Terms(), workspace)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "ftp://x/y"], "no address"),
        (["--url", "http://x/y", "--every", "1s"], "--every"),
        (["--url", "http://x/y", "--ca", "/nowhere.pem"], "--ca"),
        (["--hawkbit", "https://x/y"], "--hawkbit needs the board's token"),
        (["--hawkbit", "https://x/y", "--token-file", "/nowhere"], "--token-file '/nowhere'"),
        (["--hawkbit", "https://x/y", "--token-file", "/dev/null"], "holds no token"),
        (["--url", "http://x/y", "--controller", "press"], "--controller is for hawkBit"),
    ],
)
def test_bad_words_of_enrol_are_one_clear_error(
    workspace: Workspace, sshd: Sshd, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    Inventory(workspace.root / "devices.yaml").add(sshd.device("cam-1", profile=PROFILE))
    done = Command(capsys)("device", "enrol", "cam-1", *words)
    assert done.code in (2, 4)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 4


def test_the_module_for_mender_and_the_command_of_its_artifact(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(capsys)
    publish(workspace, tmp_path / "networks")
    script = command("fleet", "mender-module", "--root", "/var/lib/edgeopt").stdout
    assert script.startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    line = command("fleet", "mender-module", "--release", "digits@1.0", "--device-type", "pi5").stdout
    files = [word for word in line.split() if word.startswith(str(tree_folder(workspace)))]
    assert all(Path(path).is_file() for path in files)
    assert len(files) >= 7
    assert command("fleet", "mender-module", "--root", "here").code == 2
    assert command("fleet", "mender-module", "--release", "digits@9").code == 2
