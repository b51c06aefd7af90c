"""`edgeopt fleet` as commands where no board is asked: bad input, orders, history, report, metrics, audit, imports."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.cli.main import main
from edgeopt.core.device import Device
from edgeopt.core.rollout import Rollout
from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow.fleet.auditing import note
from edgeopt.workflow.fleet.rollouts import rollout_store
from edgeopt.workflow.workspace import Workspace
from support.publishing import keep_run, make_keys
from support.records import HOSTILE
from support.rollout_records import done_rollout, halted_rollout, hostile_rollout, untouched


class Terminal:
    """Runs commands in this process and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err

    def document(self, *words: str) -> dict:
        code, out, err = self(*words, "--json")
        assert code == 0, out + err
        found: dict = json.loads(out)
        return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "edgeopt"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "edgeopt"


@pytest.fixture
def edgeopt(home: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def keep(store: RolloutStore, rollout: Rollout, now: float) -> None:
    """A rollout as its driver left it."""
    store.create(replace(rollout, gates=()), key=rollout.rollout_id, now=now)
    fence = store.take(rollout.rollout_id, "ann@desk:1", now=now)
    store.save(replace(rollout, fence=fence), rollout.boards)
    store.give_back(rollout.rollout_id, fence)


@pytest.fixture
def rollouts(home: Path) -> None:
    """One that is done, and one that was halted after it."""
    with Workspace.open() as workspace, rollout_store(workspace) as store:
        keep(store, replace(done_rollout(), rollout_id="d0" * 8), 1.0)
        keep(store, replace(halted_rollout(), rollout_id="ba" * 8), 2.0)
        note(workspace, "rollout.start", "ba" * 8, "edgeopt fleet update detector@1.4.0 --to all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("update", "detector@1.0", "--to", "all"), "no device"),
        (("update", "detector", "--to", "all", "--waves", "10%,1%"), "shares are of all boards, so they rise"),
        (("update", "detector@1.0", "--to", "all", "--soak", "long"), "--soak 'long'"),
        (("update", "detector@1.0", "--to", "all", "--max-failures", "200%"), "--max-failures '200%'"),
        (("update", "detector@1.0", "--to", "all", "--bandwidth", "5MB"), "--bandwidth '5MB' is not a rate"),
        (("update", "detector@1.0"), "Missing option '--to'"),
        (("update", "detector@1.0", "--to", "all", "--fleet", "absent.yaml"), "there is no absent.yaml"),
        (("status",), "no device"),
        (("enrol", "all"), "no device"),
        (("pause",), "there is no rollout yet"),
        (("resume", "--fleet", "absent.yaml"), "there is no absent.yaml"),
        (("rollback", "--to", "detector@1.0"), "names an app, too"),
        (("report",), "there is no rollout yet"),
        (("report", "--html", "/absent/page.html"), "its folder cannot be written"),
        (("history", "absent"), "is no app or board of any rollout"),
        (("exporter", "--listen", "nowhere"), "is not HOST:PORT"),
        (("exporter", "--textfile", "metrics.txt"), "does not end in .prom"),
        (("audit", "verify", "--expect", "abc"), "is no hash"),
        (("import", "ansible", "absent.ini"), "cannot read absent.ini"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(edgeopt: Terminal, words: tuple[str, ...], said: str) -> None:
    code, _, err = edgeopt("fleet", *words)
    assert code == 2
    assert said in err
    assert "what to do:" in err


def test_boards_that_no_selector_names_and_releases_that_are_not_published(edgeopt: Terminal, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        workspace.inventory.add(Device("shop-1", "ssh", host="127.0.0.1", port=1, profile="pi5", labels={"kind": "x"}))
        make_keys(workspace)
        keep_run(workspace, tmp_path / "models", "run-pi5")
    code, _, err = edgeopt("fleet", "update", "digits@1.0", "--to", "all", "--yes")
    assert (code, "is not published (of digits there is: none yet)" in err) == (2, True)
    assert edgeopt("publish", "digits@1.0", "--from", "run-pi5")[0] == 0
    code, _, err = edgeopt("fleet", "update", "digits@1.0", "--to", "kind=y")
    assert (code, "no board fits 'kind=y'" in err) == (2, True)
    code, _, err = edgeopt("fleet", "update", "digits@1.0", "--to", "colour=red")
    assert (code, "no board has a label 'colour'" in err) == (2, True)


def test_a_plan_for_boards_that_are_away_or_of_another_kind(edgeopt: Terminal, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        for name, profile in (("away", "pi5"), ("other", "x86-64-v3")):
            workspace.inventory.add(Device(name, "ssh", host="127.0.0.1", port=1, profile=profile))
        make_keys(workspace)
        keep_run(workspace, tmp_path / "models", "run-pi5")
    assert edgeopt("publish", "digits@1.0", "--from", "run-pi5")[0] == 0
    plan = edgeopt.document("fleet", "update", "digits@1.0", "--to", "all", "--plan")
    found = {board["board"]: board for board in plan["boards"]}
    assert (found["away"]["action"], found["away"]["wave"]) == ("unknown", 1)
    assert "127.0.0.1" in found["away"]["reason"]
    assert (found["other"]["action"], found["other"]["wave"]) == ("skip", 0)
    assert "has nothing for profile 'x86-64-v3' (it has: pi5)" in found["other"]["reason"]
    assert edgeopt.document("fleet", "history")["rollouts"] == []


def test_status_of_a_board_that_never_answered(edgeopt: Terminal) -> None:
    with Workspace.open() as workspace:
        workspace.inventory.add(Device("away", "ssh", host="127.0.0.1", port=1, profile="pi5"))
    code, out, _ = edgeopt("fleet", "status")
    assert code == 4
    assert "never answered" in out
    assert "1 away" in out


@pytest.mark.usefixtures("rollouts")
def test_history_lists_rollouts_and_how_a_board_went(edgeopt: Terminal) -> None:
    assert [one["rollout_id"][:2] for one in edgeopt.document("fleet", "history")["rollouts"]] == ["ba", "d0"]
    of_board = edgeopt.document("fleet", "history", "shop-006")["rollouts"]
    assert [one["board"]["state"] for one in of_board] == ["rolled_back", "committed"]
    out = edgeopt("fleet", "history", "shop-006")[1]
    assert "rolled back" in out
    assert "p95 19.8 ms is over the limit" in " ".join(out.split())
    assert len(edgeopt.document("fleet", "history", "detector", "-n", "1")["rollouts"]) == 1


@pytest.mark.usefixtures("rollouts")
def test_report_metrics_and_log(edgeopt: Terminal, tmp_path: Path) -> None:
    assert edgeopt.document("fleet", "report", "--html", "page.html") == {"rollout": "ba" * 8, "html": "page.html"}
    page = (tmp_path / "page.html").read_text()
    assert "Halted in wave 2" in page
    assert "edgeopt fleet update detector@1.4.0 --to all" in page
    assert 'state="halted"} 1' in edgeopt("fleet", "exporter", "--once")[1]
    assert edgeopt("fleet", "exporter", "--textfile", "fleet.prom")[0] == 0
    assert "edgeopt_rollout_state" in (tmp_path / "fleet.prom").read_text()
    entries = edgeopt.document("fleet", "audit", "show", "--what", "rollout")["entries"]
    assert [entry["what"] for entry in entries] == ["rollout.start"]
    assert "rollout.start" in edgeopt("fleet", "audit", "show")[1]


@pytest.mark.usefixtures("rollouts")
def test_orders_are_left_and_logged_and_a_cancel_is_carried_out(edgeopt: Terminal, home: Path) -> None:
    assert edgeopt.document("fleet", "pause", "ba" * 8) == {"rollout": "ba" * 8, "order": "pause", "driven_by": ""}
    assert "cancel of rollout" in edgeopt("fleet", "cancel", "ba" * 4)[1]
    with Workspace.open() as workspace, rollout_store(workspace) as store:
        ended = store.rollout("ba" * 8)
    assert (ended.state, ended.reason.startswith("cancelled by ")) == ("cancelled", True)
    code, _, err = edgeopt("fleet", "pause", "ba" * 8)
    assert (code, "is cancelled" in err) == (2, True)
    kinds = [entry["what"] for entry in edgeopt.document("fleet", "audit", "show")["entries"]]
    assert kinds == ["rollout.start", "order.pause", "order.cancel", "order.pause", "order.pause.failed"]


@pytest.mark.usefixtures("rollouts")
def test_somebody_else_drives_it(edgeopt: Terminal) -> None:
    with Workspace.open() as workspace:
        workspace.inventory.add(Device("shop-1", "ssh", host="127.0.0.1", port=1, profile="pi5"))
        with rollout_store(workspace) as store:
            store.take("ba" * 8, "bob@elsewhere:7", now=4e9, seconds=1e9)
    out = edgeopt("fleet", "resume", "ba" * 8)[1]
    assert "bob@elsewhere:7 drives it" in out


def test_a_log_that_was_tampered_with_stops_what_would_be_logged(edgeopt: Terminal, home: Path, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        make_keys(workspace)
        keep_run(workspace, tmp_path / "models", "run-pi5")
        for number in range(3):
            note(workspace, "rollout.pause", str(number))
    noted = edgeopt.document("fleet", "audit", "verify")["head"]
    log = home / "audit.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    code, out, _ = edgeopt("fleet", "audit", "verify")
    assert (code, "Line 3 does not fit" in out) == (2, True)
    code, _, err = edgeopt("publish", "digits@1.0", "--from", "run-pi5")
    assert (code, "does not end as it should" in err) == (2, True)
    assert edgeopt.document("releases")["releases"] == []
    for path in home.glob("audit.jsonl*"):
        path.unlink()
    code, out, _ = edgeopt("fleet", "audit", "verify", "--expect", noted)
    assert (code, noted[:12] in out) == (2, True)


def test_what_hostile_boards_said_is_shown_escaped(edgeopt: Terminal, tmp_path: Path) -> None:
    with Workspace.open() as workspace, rollout_store(workspace) as store:
        rollout = hostile_rollout(HOSTILE)
        store.create(replace(rollout, rollout_id="ec" * 8, gates=()), key="k", now=1.0)
        note(workspace, "rollout.halt", "ec" * 8, HOSTILE)
    shown = "".join(edgeopt("fleet", *words)[1] for words in (("history",), ("audit", "show"), ("exporter", "--once")))
    assert not {"\x1b", "\u202e", "\r", "\x07"} & set(shown)
    assert edgeopt("fleet", "report", "ec", "--html", "page.html")[0] == 0
    assert "<img" not in (tmp_path / "page.html").read_text()


def test_inventories_of_other_tools_become_fleet_yaml(edgeopt: Terminal, tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("[shops]\nshop[01:03] ansible_user=pi\n")
    printed = edgeopt("fleet", "import", "ansible", "hosts.ini", "--out", "-")[1]
    assert "shop02" in printed
    assert edgeopt.document("fleet", "import", "ansible", "hosts.ini")["boards"] == ["shop01", "shop02", "shop03"]
    code, _, err = edgeopt("fleet", "import", "ansible", "hosts.ini")
    assert (code, "is there already" in err) == (2, True)
    (tmp_path / "config").write_text("Host board-a board-b\n  User pi\nHost *\n  Port 2222\n")
    made = edgeopt.document("fleet", "import", "ssh-config", "config", "--out", "other.yaml")
    assert made["boards"] == ["board-a", "board-b"]
    assert os.path.exists("other.yaml")


def test_untouched_boards_make_a_page_too(edgeopt: Terminal) -> None:
    with Workspace.open() as workspace, rollout_store(workspace) as store:
        rollout = halted_rollout()
        fresh = replace(
            rollout, state="planned", boards=tuple(map(untouched, rollout.boards)), gates=(), started_at=0.0
        )
        store.create(fresh, key="k", now=1.0)
    assert edgeopt("fleet", "report", "detector@1.4.0", "--html", "page.html")[0] == 0
