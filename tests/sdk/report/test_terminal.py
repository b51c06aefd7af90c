import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgeopt.core.run import RunRecord
from edgeopt.report.terminal import print_measurement, print_run
from support.records import LINES, hostile_record, infeasible_record, measurement_of, run_record


def shown(record: RunRecord, width: int = 80, *, tty: bool = False, report: Path | None = None) -> str:
    stream = io.StringIO()
    print_run(record, Console(file=stream, width=width, force_terminal=tty), report=report)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_every_candidate_has_one_line_with_its_figures_and_nothing_is_wider_than_the_console(width: int) -> None:
    lines = shown(run_record(), width).splitlines()
    assert max(map(len, lines)) <= width
    for number, line in enumerate(LINES, 1):
        (row,) = [text for text in lines if text.startswith(f"{number:2} ")]
        assert line.name in row
    (winner,) = [text for text in lines if text.startswith(" 1 ")]
    for figure in ("4.21 ±0.06", "3.11×", "97.1 %", "−0.2", "61.2", "96.0", "★ winner"):
        assert figure in winner


def test_throughput_is_a_column_only_where_several_sessions_were_tried() -> None:
    record = run_record()
    assert "items/s" not in shown(record, 140)
    selection = record.selection
    assert selection is not None
    first = selection.assessments[0]
    launches = tuple(replace(one, items_per_second=433.0) for one in first.candidate.measurements)
    candidate = replace(first.candidate, settings=replace(first.candidate.settings, sessions=2), measurements=launches)
    several = (replace(first, candidate=candidate), *selection.assessments[1:])
    text = shown(replace(record, selection=replace(selection, assessments=several)), 140)
    (row,) = [line for line in text.splitlines() if line.startswith(" 1 ")]
    assert "items/s" in text
    assert "2 sessions" in row
    assert "433" in row


@pytest.mark.parametrize("width", [80, 140])
def test_every_reason_is_told(width: int) -> None:
    words = shown(run_record(), width).split()
    for line in LINES:
        assert set(line.reason.split()) <= set(words)
    assert "int8-percentile:" in words


def test_the_decision_names_gain_loss_place_and_way_back() -> None:
    text = " ".join(shown(run_record(), report=Path("/tmp/run.html")).split())
    assert "★ int8-entropy / 2 threads: 3.11× faster than the original." in text
    assert "4.21 ms instead of 13.1 ms (median), loses 0.2 points of top1" in text
    assert "Active on pi5 as app digits, release 3: healthy" in text
    assert "edgeopt device rollback pi5 digits" in text
    assert "Report: /tmp/run.html" in text


def test_nothing_feasible_says_the_nearest_and_its_miss() -> None:
    text = " ".join(shown(infeasible_record()).split())
    assert "✗ Nothing meets the budget. Nearest: int8-entropy / 2 threads." in text
    assert "0.72 ms over the limit" in text
    assert "★" not in text


def test_an_original_that_wins_is_kept() -> None:
    record = run_record((replace(LINES[5], verdict="winner"), replace(LINES[0], verdict="infeasible")))
    assert "Keep the original (2 threads)" in shown(record, 140)


def test_a_run_without_a_decision_prints_too() -> None:
    assert "has not chosen yet" in shown(replace(run_record(), state="running", selection=None, deployment=None))


def test_a_device_cannot_write_on_the_screen() -> None:
    plain, coloured = shown(hostile_record()), shown(hostile_record(), tty=True)
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(plain)
    assert "\x1b[2J" not in coloured
    assert "\x1b]0;" not in coloured
    assert r"\x1b[2J" in "".join(plain.split("\n"))
    assert "[/red]" in plain  # rich's markup stays text


def test_colour_is_left_out_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1;32m" in shown(run_record(), tty=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "32m" not in shown(run_record(), tty=True)


def test_a_bench_shows_only_what_the_sample_supports() -> None:
    stream = io.StringIO()
    print_measurement(measurement_of(LINES[0], 1, samples=400), Console(file=stream, width=80))
    text = stream.getvalue()
    assert "p95" in text
    assert "p99" not in text
    assert "400, CV 8.0 %" in text


def test_a_bench_that_failed_says_how() -> None:
    stream = io.StringIO()
    print_measurement(measurement_of(LINES[-1], 0), Console(file=stream, width=80))
    assert "! illegal_instruction: SIGILL in phase load" in stream.getvalue()
