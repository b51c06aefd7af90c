"""`edgeopt ui` as a command: it begins, says where it is, ends with Ctrl-C, says in one line why it cannot begin."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from support.bad_input import refused
from support.command import Command
from support.local_page import serving


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_ctrl_c_ends_it_with_exit_code_0_and_its_port_is_free_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        assert served.ask("/", cookie=served.cookie())[0] == 200
        port = str(served.port)
        assert served.end() == (0, "Ended.\n")
    with serving(tmp_path, "--port", port) as again:
        assert f":{port}/?token=" in again.url
        assert again.query != served.query  # the token is another one


def test_a_port_that_is_taken_is_one_clear_error(command: Command, edgeopt_home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        refused(command("ui", "--port", port, "--no-browser"), 2, f"127.0.0.1:{port}", "in use", "--port 0")


def test_a_port_that_is_none_is_refused(command: Command) -> None:
    refused(command("ui", "--port", "70000"), 2, "70000", "65535")


def test_without_the_web_framework_it_says_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeopt.workflow.ui.serving.find_spec", lambda name: None)
    refused(command("ui"), 2, "starlette and uvicorn", "pip install 'edgeopt[ui]'")


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(command: Command, edgeopt_home: Path) -> None:
    assert command("runs").code == 0
    ledger = edgeopt_home / "ledger.sqlite"
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE edgeopt_schema SET version = 999")
    refused(command("ui", "--port", "0", "--no-browser"), 2, "schema 999", "Update edgeopt")
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("SELECT version FROM edgeopt_schema").fetchall() == [(999,)]
