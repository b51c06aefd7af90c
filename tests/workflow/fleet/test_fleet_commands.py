"""The whole life of a release over three boards behind real sshds, through the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.core.device import Device
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.fleet.engine import this_holder
from edgeopt.workflow.fleet.rollouts import find_id, rollout_store
from edgeopt_runner import application
from support.device import pin
from support.sshd import Sshd, running_sshd
from support.workflow import Computer, Task, make_computer, make_task, shorten_plans

pytestmark = pytest.mark.long

LOOSE = ("--max-slower", "9900%", "--max-memory", "9900%")
"""What is tested is never a clock: three boards share two cores with everything else."""

MARGINS = ("--margin", "9900%")


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as made:
        yield made


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch, experienced: Path) -> Computer:
    shorten_plans(patch)
    patch.setenv("COLUMNS", "200")
    return make_computer(tmp_path_factory.mktemp("laptop"), patch, like=experienced)


@pytest.fixture(scope="module")
def runs(laptop: Computer, task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two runs with winners that are different files."""
    other = make_task(tmp_path_factory.mktemp("other"), width=80)
    with laptop.workspace() as workspace:
        records = [deploy(one.request(recipes=("optimised",), activate=False), workspace) for one in (task, other)]
    return records[0].run_id, records[1].run_id


@pytest.fixture(scope="module")
def boards(
    laptop: Computer, runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Sshd]]:
    """Three boards of the kind that this machine is, added, their host keys pinned."""
    with contextlib.ExitStack() as stack, laptop.workspace() as workspace:
        profile = workspace.ledger.run(runs[0]).profile_name
        servers: dict[str, Sshd] = {}
        for number in (1, 2, 3):
            folder = tmp_path_factory.mktemp(f"board{number}")
            environment = {"EDGEOPT_LOCK": str(folder / "lock")}
            server = stack.enter_context(running_sshd(folder / "sshd", environment=environment))
            pin(server)
            site = "north" if number < 3 else "south"
            workspace.inventory.add(board_of(server, f"shop-{number}", profile, site))
            servers[f"shop-{number}"] = server
        yield servers


@pytest.fixture
def edgeopt(laptop: Computer, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """The laptop, again in front of what every test sets by itself."""
    monkeypatch.setenv("EDGEOPT_HOME", str(laptop.edgeopt_home))
    return laptop


def board_of(server: Sshd, name: str, profile: str, site: str) -> Device:
    return server.device(name, python=sys.executable, profile=profile, labels={"site": site, "kind": "shop"})


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def running_version(server: Sshd) -> str:
    state = json.loads((server.home / ".edgeopt/apps/net/current/manifest.json").read_text())
    return str(state.get("version", ""))


def test_01_keys_and_a_release_are_one_command_each(
    edgeopt: Computer, runs: tuple[str, str], boards: dict[str, Sshd]
) -> None:
    made = edgeopt.command("keys", "init", "--no-passphrase")
    assert made.returncode == 0, made.stderr
    published = edgeopt.command("publish", "net@1.0.0", "--from", runs[0], *MARGINS)
    assert published.returncode == 0, published.stderr
    assert "counter 1" in published.stdout


def test_02_boards_that_do_not_know_our_root_refuse_and_the_plan_says_so(
    edgeopt: Computer, boards: dict[str, Sshd]
) -> None:
    refused = edgeopt.command("fleet", "update", "net@1.0.0", "--to", "all", "--yes")
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "edgeopt fleet enrol BOARD. (not_enrolled)" in " ".join(refused.stdout.split())
    assert not list(boards["shop-1"].home.glob(".edgeopt/apps/net/current"))


def test_03_enrolling_makes_them_believe_us(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    done = edgeopt.command("fleet", "enrol", "kind=shop", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one["root_version"] for one in json.loads(done.stdout)["enrolled"]] == [1, 1, 1]


def test_04_what_the_plan_says_is_what_happens(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    words = ("fleet", "update", "net@1.0.0", "--to", "label=shop", "--waves", "1,100%", *LOOSE)
    plan = json.loads(edgeopt.command(*words, "--plan", "--json").stdout)
    assert [board["action"] for board in plan["boards"]] == ["update"] * 3
    assert sorted(board["wave"] for board in plan["boards"]) == [1, 2, 2]
    unasked = edgeopt.command(*words)
    assert unasked.returncode == 2
    assert "was not confirmed" in unasked.stderr
    done = edgeopt.command(*words, "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    heard = events(done.stdout)
    frozen = [{**board, "free_bytes": 0} for board in heard[0]["plan"]["boards"]]
    assert frozen == [{**board, "free_bytes": 0} for board in plan["boards"]]
    last = {event["board"]: event for event in heard if event["event"] == "board"}
    for board in plan["boards"]:
        found = last[board["board"]]
        assert (found["state"], found["version"]) == ("committed", "1.0.0")
        assert found["sent_bytes"] == board["send_bytes"] > 0
        assert found["after"]["median_ns"] > 0
    assert [event["verdict"] for event in heard if event["event"] == "gate"] == ["go", "go"]
    assert (heard[-1]["event"], heard[-1]["exit_code"], heard[-1]["counts"]) == ("end", 0, {"committed": 3})
    with application.load("net", str(boards["shop-2"].home / ".edgeopt")) as model:
        assert model is not None


def test_05_status_says_what_runs_verified(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    done = edgeopt.command("fleet", "status", "site=north", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["boards"]
    assert [row["sighting"]["board"] for row in rows] == ["shop-1", "shop-2"]
    release = rows[0]["sighting"]["releases"][0]
    assert (release["version"], release["verified"], release["signed"]) == ("1.0.0", True, True)
    shown = edgeopt.command("fleet", "status")
    assert "3 boards: all as they were left." in shown.stdout


def test_06_the_same_again_sends_nothing_and_starts_nothing(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    before = {name: sorted(path.name for path in one.home.glob(".edgeopt/jobs/*")) for name, one in boards.items()}
    again = edgeopt.command("fleet", "update", "net@1.0.0", "--to", "all", "--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing is to be done" in again.stdout
    after = {name: sorted(path.name for path in one.home.glob(".edgeopt/jobs/*")) for name, one in boards.items()}
    assert after == before


def test_07_the_next_release_is_measured_against_this_one(
    edgeopt: Computer, runs: tuple[str, str], boards: dict[str, Sshd]
) -> None:
    assert edgeopt.command("publish", "net@1.1.0", "--from", runs[1], *MARGINS).returncode == 0
    done = edgeopt.command("fleet", "update", "net@1.1.0", "--to", "all", "--waves", "1,100%", *LOOSE, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "net@1.1.0 runs on 3 of 3 boards" in done.stdout
    assert {running_version(server) for server in boards.values()} == {"1.1.0"}
    assert "✓ committed" in done.stderr
    assert "allowed" in done.stderr


def test_08_the_way_back_is_a_new_signed_release_with_the_old_content(
    edgeopt: Computer, boards: dict[str, Sshd]
) -> None:
    with edgeopt.workspace() as workspace, rollout_store(workspace) as store:
        store.take(find_id("net@1.1.0", store), this_holder(), now=time.time())  # somebody drives the app
    back = edgeopt.command("fleet", "rollback", "--yes", "--takeover")
    assert back.returncode == 0, back.stdout + back.stderr
    assert {running_version(server) for server in boards.values()} == {"1.0.0+restored.3"}
    again = edgeopt.command("fleet", "rollback", "--yes")
    assert again.returncode == 2
    assert "is a way back itself" in again.stderr


def test_09_a_release_that_computes_something_else_is_halted_after_one_board(
    edgeopt: Computer, runs: tuple[str, str], boards: dict[str, Sshd]
) -> None:
    with edgeopt.workspace() as workspace:
        good, other = (workspace.ledger.run(name) for name in runs)
        workspace.ledger.start_run("run-wrong", "wrong", "edgeopt deploy", started_at=good.started_at)
        workspace.ledger.save_run(dataclasses.replace(good, run_id="run-wrong", golden=other.golden))
    assert edgeopt.command("publish", "net@1.2.0", "--from", "run-wrong", *MARGINS).returncode == 0
    done = edgeopt.command("fleet", "update", "net@1.2.0", "--to", "all", "--waves", "1,100%", *LOOSE, "--yes")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Halted in wave 1: 0 of 3 boards run net@1.2.0." in done.stdout
    assert "cosine" in done.stdout
    assert "edgeopt fleet resume" in " ".join(done.stdout.split())
    assert {running_version(server) for server in boards.values()} == {"1.0.0+restored.3"}
    again = edgeopt.command("fleet", "update", "net@1.2.0", "--to", "all", "--waves", "1,100%", *LOOSE, "--yes")
    assert again.returncode == 3
    assert "Going on with rollout" in again.stdout


def test_10_a_file_that_is_damaged_on_a_board_is_drift(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    model = next((boards["shop-3"].home / ".edgeopt/apps/net/current/").glob("model.*"))
    model.chmod(0o644)
    data = model.read_bytes()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = edgeopt.command("fleet", "status", "shop-3")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "not as they were left" in done.stdout


def test_11_history_report_metrics_and_the_log_tell_all_of_it(
    edgeopt: Computer, boards: dict[str, Sshd], tmp_path: Path
) -> None:
    history = json.loads(edgeopt.command("fleet", "history", "--json").stdout)["rollouts"]
    assert [one["release"] for one in history] == [
        "net@1.2.0",
        "net@1.0.0+restored.3",
        "net@1.1.0",
        "net@1.0.0",
    ]
    of_board = json.loads(edgeopt.command("fleet", "history", "shop-1", "--json").stdout)["rollouts"]
    assert [one["board"]["state"] for one in of_board][1:] == ["committed"] * 3
    page = tmp_path / "rollout.html"
    assert edgeopt.command("fleet", "report", "net@1.1.0", "--html", str(page)).returncode == 0
    text = page.read_text()
    assert "net@1.1.0 runs on 3 of 3 boards." in text
    assert "rollout.start" in text
    metrics = edgeopt.command("fleet", "exporter", "--once").stdout
    assert 'edgeopt_board_release_info{board="shop-1"' in metrics
    verified = edgeopt.command("fleet", "audit", "verify", "--json")
    assert json.loads(verified.stdout)["ok"] is True
    shown = json.loads(edgeopt.command("fleet", "audit", "show", "--json").stdout)["entries"]
    kinds = [entry["what"] for entry in shown]
    assert kinds.count("rollout.start") == 4
    assert kinds.count("publish") == 4
    assert {"keys.init", "board.enrol", "rollout.rollback", "rollout.gate", "rollout.halted", "rollout.done"} <= {
        *kinds
    }


def test_12_a_line_taken_out_of_the_log_is_named(edgeopt: Computer, boards: dict[str, Sshd]) -> None:
    log = edgeopt.edgeopt_home / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2] + lines[3:]))
    found = edgeopt.command("fleet", "audit", "verify")
    assert found.returncode == 2
    assert "Line 3 does not fit" in found.stdout
    log.write_bytes(b"".join(lines))
