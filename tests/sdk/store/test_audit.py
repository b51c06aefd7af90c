"""The audit log: what was edited, moved, deleted or cut off is named; what a crash tore is not an attack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeopt.errors import StoreError, UsageError
from edgeopt.store.audit import START, AuditLog


def written(folder: Path, count: int = 5) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl")
    for number in range(count):
        log.append("rollout.pause", f"rollout-{number}", "fire drill", who="ann@desk", now=1000.0 + number)
    return log


def lines_of(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_what_was_appended_is_there_in_order_and_fits(tmp_path: Path) -> None:
    log = written(tmp_path)
    entries, verdict = log.entries(), log.verify()
    assert [entry.n for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0].previous == START
    assert (entries[2].who, entries[2].what, entries[2].subject) == ("ann@desk", "rollout.pause", "rollout-2")
    assert verdict.ok
    assert (verdict.lines, verdict.head) == (5, entries[-1].hash)


def test_a_log_that_does_not_exist_is_whole_and_empty(tmp_path: Path) -> None:
    verdict = AuditLog(tmp_path / "audit.jsonl").verify()
    assert (verdict.ok, verdict.lines, verdict.head) == (True, 0, START)


def edit(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b"fire drill", b"fire alarm"), *lines[3:]]


def edit_with_a_fitting_hash(lines: list[bytes]) -> list[bytes]:
    from dataclasses import replace

    from edgeopt.store import audit

    entry = audit._parsed(lines[2])
    assert entry is not None
    changed = replace(entry, why="fire alarm")
    return [*lines[:2], audit._line(replace(changed, hash=audit._hash(changed))), *lines[3:]]


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (edit, 3),
        (edit_with_a_fitting_hash, 4),
        (lambda lines: lines[:2] + lines[3:], 3),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
        (lambda lines: lines[:3], 4),
        (lambda lines: [*lines[:4], lines[4][:-30]], 5),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:1], b"\n", *lines[1:]], 2),
        (lambda lines: [], 1),
        (lambda lines: [*lines, b"not json\n"], 6),
        (lambda lines: [lines[0].replace(b'"n":1', b'"n":1.0'), *lines[1:]], 1),
    ],
    ids=[
        "edited",
        "edited-rehashed",
        "deleted",
        "swapped",
        "doubled",
        "cut-off",
        "torn-after-the-head",
        "no-first",
        "blank",
        "emptied",
        "appended",
        "respelt",
    ],
)
def test_the_first_line_that_does_not_fit_is_named(
    tmp_path: Path, tamper: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    log = written(tmp_path)
    log.path.write_bytes(b"".join(tamper(lines_of(log))))
    verdict = log.verify()
    assert not verdict.ok
    assert verdict.broken == line
    assert verdict.reason


def test_the_last_line_rewritten_with_a_fitting_hash_is_told_by_the_head(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    log.path.write_bytes(b"".join(edit_with_a_fitting_hash(lines_of(log))))
    assert log.verify().broken == 3


def test_a_missing_head_is_said(tmp_path: Path) -> None:
    log = written(tmp_path)
    (tmp_path / "audit.jsonl.head").unlink()
    assert "missing" in log.verify().reason
    with pytest.raises(StoreError, match="was changed"):
        log.append("publish", "x", who="a@b", now=1.0)


def test_a_line_torn_by_a_crash_is_no_attack_and_the_next_append_takes_it_away(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with open(log.path, "ab") as stream:
        stream.write(b'{"n":4,"time":1.0,"wh')
    verdict = log.verify()
    assert verdict.ok
    assert "torn by a crash" in verdict.reason
    log.append("publish", "digits@2", who="ann@desk", now=2.0)
    assert (log.verify().ok, log.verify().lines, log.verify().reason) == (True, 4, "")


def test_a_crash_between_line_and_head_is_no_attack(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    head = (tmp_path / "audit.jsonl.head").read_bytes()
    log.append("publish", "digits@2", who="ann@desk", now=2.0)
    (tmp_path / "audit.jsonl.head").write_bytes(head)
    assert log.verify().ok
    log.append("publish", "digits@3", who="ann@desk", now=3.0)
    assert (log.verify().ok, log.verify().lines) == (True, 5)


@pytest.mark.parametrize("keep", [0, 2])
def test_nothing_is_appended_to_a_log_whose_end_was_cut_off(tmp_path: Path, keep: int) -> None:
    log = written(tmp_path, 4)
    log.path.write_bytes(b"".join(lines_of(log)[:keep]))
    with pytest.raises(StoreError, match="was changed"):
        log.append("publish", "x", who="a@b", now=1.0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    log = written(tmp_path_factory.mktemp("log"), 3)
    data = bytearray(log.path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    log.path.write_bytes(bytes(data))
    assert not log.verify().ok


def test_text_of_any_kind_stays_on_its_line(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("rollout.halt", "a\nb\x1b[2J\ud800", "é" * 5000, who="ann\r@desk", now=1.0)
    log.append("publish", "x", who="a@b", now=1.0)
    assert len(lines_of(log)) == 2
    assert log.verify().ok
    assert len(log.entries()[0].why) == 2000


def test_a_word_that_is_no_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kind"):
        AuditLog(tmp_path / "audit.jsonl").append("Paused it", "x", who="a@b", now=1.0)


def test_two_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    program = (
        "import sys; from pathlib import Path; from edgeopt.store.audit import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for n in range(20): log.append('publish', sys.argv[2], who='a@b', now=float(n))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in ("one", "two")]
    assert [process.wait(60) for process in running] == [0, 0]
    verdict = AuditLog(path).verify()
    assert (verdict.ok, verdict.lines) == (True, 40)


def test_a_log_that_cannot_be_written_stops_the_deed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the audit log"):
        AuditLog(tmp_path / "file" / "audit.jsonl").append("publish", "x", who="a@b", now=1.0)


def test_each_line_is_json_by_itself(tmp_path: Path) -> None:
    keys = ["n", "time", "who", "what", "subject", "why", "previous", "hash"]
    assert all(list(json.loads(line)) == keys for line in lines_of(written(tmp_path)))
