"""`edgeopt report`: pages, pictures and comparisons of runs that the ledger has, and clear words where it cannot."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.workflow.workspace import Workspace
from support.bad_input import refused
from support.command import Command
from support.records import run_record
from support.run_pairs import later


@pytest.fixture
def command(
    tmp_path: Path, edgeopt_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in an empty folder; the ledger has two runs, and one that has not chosen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    unfinished = replace(run_record(), run_id="r-open", state="running", selection=None, finished_at=0.0)
    with Workspace.open() as workspace:
        for record in (unfinished, run_record(), later(speed=1.25)):
            workspace.ledger.start_run(record.run_id, record.run_id, record.command, started_at=record.started_at)
            workspace.ledger.save_run(record)
    return Command(capsys)


def test_without_words_the_page_of_the_newest_run_is_written(command: Command) -> None:
    assert "report.html written (run r-later)" in command("report").stdout
    assert Path("report.html").read_text().startswith("<!doctype html>")


def test_a_picture_alone_writes_no_page(command: Command) -> None:
    outcome = command("report", "r-later", "--svg", "a.svg", "--json")
    assert json.loads(outcome.stdout) == {"run": "r-later", "svg": "a.svg"}
    assert Path("a.svg").read_text().startswith("<svg xmlns=")
    assert not Path("report.html").exists()


def test_a_png_is_drawn(command: Command) -> None:
    pytest.importorskip("matplotlib", reason="no Matplotlib: pip install 'edgeopt[picture]'")
    assert command("report", "r-later", "--png", "a.png").code == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_png_is_refused_before_anything_is_written(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeopt.report.picture_png.find_spec", lambda name: None)
    refused(command("report", "--png", "a.png", "--html", "a.html"), 2, "Matplotlib", "edgeopt[picture]", "--svg")
    assert not Path("a.html").exists()


def test_two_runs_are_compared(command: Command) -> None:
    outcome = command("report", "--compare", "r-20260101-7f3a", "r-later", "--html", "both.html")
    assert outcome.code == 0
    assert "int8-entropy / 2 threads won again: 1.25× faster." in outcome.stdout
    assert "0.800× (0.79" in outcome.stdout
    assert "1.25× faster" in Path("both.html").read_text()


def test_a_comparison_is_one_json_document(command: Command) -> None:
    found = json.loads(command("report", "--compare", "r-20260101-7f3a", "last", "--json").stdout)
    assert (found["before"], found["after"]) == ("r-20260101-7f3a", "r-later")
    latency = next(item for item in found["figures"] if item["name"] == "latency")
    assert latency["ratio"]["low"] < 0.8 < latency["ratio"]["high"]
    assert latency["change"] == "better"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nope"], ["'nope' is not in the ledger", "edgeopt runs"]),
        (["r-later", "r-open"], ["2 runs are named", "--compare"]),
        (["r-open", "--svg", "a.svg"], ["r-open (running) has measured nothing yet", "--html"]),
        (["--svg", "missing/a.svg"], ["--svg 'missing/a.svg'", "Make the folder"]),
        (["--compare", "r-later"], ["was given 1 runs", "RUN RUN"]),
        (["--compare"], ["was given 0 runs", "RUN RUN"]),
        (["--compare", "r-later", "r-later"], ["both runs are r-later", "edgeopt runs"]),
        (["--compare", "r-later", "nope"], ["'nope' is not in the ledger", "edgeopt runs"]),
        (["--compare", "r-later", "r-open"], ["r-open (running) has not chosen", "edgeopt deploy digits.onnx"]),
        (["--compare", "r-later", "last", "--svg", "a.svg"], ["--svg is the picture of one run", "--html"]),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(command: Command, words: list[str], parts: list[str]) -> None:
    refused(command("report", *words), 2, *parts)
    assert not Path("report.html").exists()
    assert not Path("a.svg").exists()


def test_an_unfinished_run_has_a_page(command: Command) -> None:
    assert command("report", "r-open").code == 0
    assert "has not chosen yet" in Path("report.html").read_text()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(command: Command, edgeopt_home: Path) -> None:
    path = edgeopt_home / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE edgeopt_schema SET version = 999")
    database.close()
    for words in (["report"], ["report", "--compare", "r-later", "r-open"]):
        refused(command(*words), 2, "has schema 999", "Update edgeopt")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT version FROM edgeopt_schema").fetchall() == [(999,)]
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (3,)
    database.close()
