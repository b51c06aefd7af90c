"""The local page in a real Chromium, served by the real command, beside real runs."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.core.sighting import Sighting
from edgeopt.store.rollouts import RolloutStore
from edgeopt.store.sightings import Sightings
from edgeopt.workflow.listener import Silence
from edgeopt.workflow.progress_file import NAME, Recorded
from edgeopt.workflow.workspace import Workspace
from support.browser import CHROMIUM, SKIP_REASON
from support.driven_browser import Tab, driven_browser
from support.local_page import Served, keep, serving
from support.records import HOSTILE, hostile_record, infeasible_record, run_record
from support.rich_records import rich_record
from support.rollout_records import START, halted_rollout
from support.workflow import Computer, Task

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=SKIP_REASON)

NOW = 1_790_000_000.0
ROWS = "[...document.querySelectorAll('#runs tbody tr')].map(row => [...row.cells].map(cell => cell.innerText.trim()))"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with driven_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with runs of every kind, devices, a rollout, and boards that were asked."""
    folder = tmp_path_factory.mktemp("full")
    with Workspace.open(folder) as workspace:
        searching = replace(rich_record(24), run_id="r-search", state="running", selection=None, finished_at=0.0)
        keep(
            workspace,
            run_record(),
            replace(infeasible_record(), run_id="r-tight", started_at=NOW - 900, finished_at=NOW - 800),
            replace(run_record(), run_id="r-failed", state="failed", selection=None, started_at=NOW - 700),
            replace(hostile_record(), run_id="r-hostile", started_at=NOW - 600, finished_at=NOW - 500),
            replace(searching, started_at=NOW - 400),
        )
        cut_off(folder, "r-cut", NOW - 300)
        said = Recorded(Silence(), workspace.run_folder("r-search") / NAME, lambda: NOW)
        said.stage("Searching", 30)
        said.advance(HOSTILE)
        workspace.inventory.add(Device("pi5", "ssh", "10.0.0.5", user="pi", labels={"site": "north"}))
        workspace.inventory.add(Device("new-one", "ssh", "10.0.0.9"))
        with RolloutStore(workspace.ledger.url) as store:
            store.create(halted_rollout(), key="k", now=START)
        away = Sighting("shop-002", "pi5", False, NOW, NOW - 5000, detail="no route to host")
        Sightings(folder / "boards.json").remember([Sighting("shop-001", "pi5", True, NOW, NOW), away])
    return folder


def cut_off(folder: Path, run_id: str, started_at: float) -> None:
    """A run of a process that is gone."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with Workspace.open(folder) as workspace:
        keep(workspace, replace(run_record(), run_id=run_id, state="running", selection=None, started_at=started_at))
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        (owner,) = connection.execute("SELECT owner FROM runs WHERE run_id = ?", [run_id]).fetchone()
        gone = f"{owner.rpartition(':')[0]}:{ended.stdout.strip()}"
        connection.execute("UPDATE runs SET owner = ? WHERE run_id = ?", [gone, run_id])


@pytest.fixture(scope="module")
def served(home: Path, tab: Tab) -> Iterator[Served]:
    with serving(home) as running:
        tab.go(running.url)
        yield running


def test_the_address_that_is_shown_has_no_token(served: Served, tab: Tab) -> None:
    assert tab.read("location.href") == f"{served.base}/"
    assert tab.read("document.cookie") == ""  # scripts cannot read it


def test_runs_are_listed_newest_first_with_winner_target_and_state(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/")
    rows = [row[:5] for row in tab.read(ROWS)]
    assert [row[0] for row in rows] == ["r-cut", "r-search", "r-hostile", "r-failed", "r-tight", "r-20260101-7f3a"]
    assert [row[3] for row in rows] == [
        "‖ cut off", "… at work", "★ done", "! failed", "✗ misses the budget", "★ done",
    ]  # fmt: skip
    assert rows[-1] == ["r-20260101-7f3a", "digits", "pi5", "★ done", "int8-entropy / 2 threads"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/runs/r-search", "/runs/r-hostile", "/devices", "/fleet"])
def test_every_page_fits_and_the_browser_has_nothing_to_complain_of(
    served: Served, tab: Tab, path: str, width: int
) -> None:
    tab.console.clear()
    tab.go(served.base + path, width=width)
    tab.read("new Promise(done => setTimeout(done, 300))")  # the part has been asked for and put in
    assert tab.read("document.documentElement.scrollWidth") <= width
    assert tab.console == []
    assert tab.read("document.images.length + document.scripts.length") == 1
    assert "evil" not in tab.read("document.title")


def test_each_report_opens_from_the_list(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/")
    tab.click("a[href$='7f3a/report']", "edgeopt run r-20260101-7f3a")
    tab.wait_for("window.Chart && !!Chart.getChart('chart')")  # the report's own page, its own policy, its own script


def test_a_run_that_has_ended_shows_its_figures(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/runs/r-20260101-7f3a")
    assert "3.11× faster than the original" in tab.text()
    assert tab.read("document.querySelectorAll('.tiles li').length") == 5


def test_a_run_at_work_has_a_report_so_far(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/runs/r-search")
    tab.click("a.button", "edgeopt run r-search")
    assert "… This run has not chosen yet." in tab.text()
    assert "24 points were tried" in tab.text()


def test_a_search_is_shown_with_what_it_tried(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/runs/r-search")
    assert "24 points were tried" in tab.text()
    assert tab.read("document.querySelectorAll('#search svg circle, #search svg path').length") > 20
    assert "1 of 30" in tab.text()
    assert "\\u202e" in tab.text()  # what a device said, made visible


def test_devices_tell_what_they_are_and_when_they_were_seen(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/devices")
    cards = {
        text.split("\n")[0]: text
        for text in tab.read("[...document.querySelectorAll('.device')].map(d => d.innerText)")
    }
    assert {"local", "pi5", "new-one"} <= set(cards)
    for part in ("ssh pi@10.0.0.5", "site=north", "Cortex-A76", "8.00 GiB", "onnxruntime 1.32.0", "r-cut"):
        assert part in cards["pi5"]
    assert "never" in cards["new-one"]


def test_the_fleet_page_has_rollouts_with_their_boards_and_leads_to_the_rollouts_page(served: Served, tab: Tab) -> None:
    tab.go(f"{served.base}/fleet")
    text = tab.text()
    for part in ("1 rollout", "detector@1.4.0", "halted", "of 42", "shop-001", "no route to host"):
        assert part in text
    tab.click("#rollouts a", "detector@1.4.0: edgeopt rollout")
    assert "Waves and gates" in tab.text()


@pytest.mark.parametrize("path", ["/runs/nope", "/runs/nope/report", "/rollouts/nope", "/nowhere"])
def test_what_is_not_there_is_said_with_a_way_on(served: Served, tab: Tab, path: str) -> None:
    tab.go(served.base + path)
    assert served.ask(path, cookie=served.cookie())[0] == 404
    assert ("'nope'" in tab.text()) == ("nope" in path)
    tab.click("a.button", "Runs: edgeopt")
    assert "r-search" in tab.text()


def test_a_record_of_another_version_takes_only_its_own_page_along(home: Path, served: Served, tab: Tab) -> None:
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        record = json.loads(connection.execute("SELECT record FROM runs WHERE run_id = 'r-tight'").fetchone()[0])
        del record["facts"]
        connection.execute("UPDATE runs SET record = ? WHERE run_id = 'r-tight'", [json.dumps(record)])
    tab.go(f"{served.base}/runs/r-tight")
    assert "kept by another version of edgeopt" in tab.text()
    tab.go(f"{served.base}/")
    assert "r-tight" in tab.text()


def test_another_site_that_is_rebound_to_here_is_refused(served: Served, tab: Tab) -> None:
    tab.go(f"http://rebound.test:{served.port}{served.query}")
    assert f"This page is at http://127.0.0.1:{served.port}/ only." in tab.text()


def test_a_wrong_token_shows_nothing(home: Path, tab: Tab) -> None:
    with serving(home) as other:  # another port: the browser has no cookie for it
        tab.go(f"{other.base}/?token=wrong")
        assert "The token is another one" in tab.text()
        tab.go(f"{other.base}/")
        assert "it has the token" in tab.text()


def test_without_any_run_the_page_says_what_to_do(tmp_path: Path, tab: Tab) -> None:
    with serving(tmp_path) as served:
        tab.go(served.url)
        assert "No runs yet" in tab.text()
        assert "edgeopt deploy model.onnx" in tab.text()
        tab.go(f"{served.base}/fleet")
        assert "No rollouts yet" in tab.text()
        served.end()
        tab.wait_for("document.getElementById('alive').textContent.startsWith('edgeopt ui has ended')")
        assert "No rollouts yet" in tab.text()


def test_a_real_run_is_followed_from_its_beginning_to_its_report(computer: Computer, task: Task, tab: Tab) -> None:
    with serving(computer.edgeopt_home) as served:
        tab.go(served.url)
        assert "No runs yet" in tab.text()
        process = computer.start(*task.words())
        tab.wait_for("!!document.querySelector('.work .detail')")
        tab.read("document.querySelector('.work a').click()")
        tab.wait_for("!!document.querySelector('#stages .now')")
        tab.read("window.mine = 1")  # the page is not loaded again
        tab.wait_for("document.querySelector('h1').innerText.includes('★')")
        process.communicate()
        assert tab.read("window.mine") == 1
        tab.wait_for("document.body.innerText.includes('Activating')")
        tab.click("a.button", "net on local")
        assert "Candidates, best first" in tab.text()
