"""Reports in a store are read as what they are: untrusted bytes, authentic only under the board's own key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.publishing.reports import read_report, read_reports
from edgeopt_runner.agent import device_key, reports
from edgeopt_runner.agent.settings import parse
from support.pull_tree import agent_settings

ROW = {"app": "digits", "version": "1.0", "counter": 1, "verified": True, "signed": True}


def signed(root: Path, number: int, **facts: object) -> bytes:
    settings = parse(dict(agent_settings("http://store")))
    given_facts = {"apps": [ROW], "updates": {"digits": {"outcome": "committed", "reason": "ok"}}, "trouble": ""}
    return reports.report(str(root), settings, number, {**given_facts, **facts})


def test_the_latest_report_of_each_board_is_read_and_its_signature_told(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "board-1"
    folder.mkdir(parents=True)
    for number in (1, 2, 10):
        (folder / f"{number}.json").write_bytes(signed(tmp_path / "root", number))
    key = device_key.public(str(tmp_path / "root"))
    [found] = read_reports(str(tmp_path / "store"), {"board-1": key})
    assert (found.board, found.number, found.authentic, found.problem) == ("board-1", 10, True, "")
    assert found.apps[0].version == "1.0"
    assert found.updates == {"digits": ("committed", "ok")}
    assert not read_reports(str(tmp_path / "store"), {})[0].authentic
    assert read_reports(str(tmp_path / "nowhere"), {}) == ()


def test_a_report_of_another_board_or_number_or_changed_is_not_believed(tmp_path: Path) -> None:
    data = signed(tmp_path, 1)
    key = device_key.public(str(tmp_path))
    assert "another one" in read_report("board-2", 1, data, key).problem
    assert "another one" in read_report("board-1", 2, data, key).problem
    envelope = json.loads(data)
    envelope["payload"] = envelope["payload"].replace("committed", "committee")
    assert not read_report("board-1", 1, json.dumps(envelope).encode(), key).authentic


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 10_000,
        b"x" * 200_000,
        b'{"payload": "1", "signatures": []}',
        b'{"payload": "{}", "signatures": [1]}',
    ],
    ids=range(7),
)
def test_what_is_no_report_says_so(data: bytes) -> None:
    assert read_report("board-1", 1, data, "").problem


def test_marks_of_the_hardware_are_read_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    marks = ["mac-" + "0" * 16, "\x1b[31m", 7]
    key = device_key.public(str(tmp_path))
    data = signed(tmp_path, 3, apps=[], updates={}, hardware={"marks": marks, "moved": True})
    found = read_report("board-1", 3, data, key)
    assert (found.hardware, found.moved, found.authentic) == (("mac-" + "0" * 16,), True, True)
    old = read_report("board-1", 3, signed(tmp_path, 3, apps=[], updates={}), key)
    assert (old.hardware, old.moved, old.problem) == ((), False, "")


def test_text_for_terminals_is_cleaned(tmp_path: Path) -> None:
    updates = {"digits": {"outcome": "committed\x1b[2J", "reason": "a\nb"}}
    found = read_report("board-1", 1, signed(tmp_path, 1, updates=updates), "")
    assert "\x1b" not in str(found.updates)
    assert "\n" not in str(found.updates)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer(data: bytes) -> None:
    assert read_report("board-1", 1, data, "zz").problem
