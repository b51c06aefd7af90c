"""What a run says is in a file that another process can follow, whatever happens to either of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgeopt.core.progress import Line, Progress, Stage
from edgeopt.workflow.progress_file import Followed, Recorded
from support.workflow import Heard


def ticking(step: float = 0.4) -> Callable[[], float]:
    times = iter(range(10_000))
    return lambda: 100.0 + step * next(times)


def test_what_is_said_is_told_on_and_can_be_followed_as_it_grows(tmp_path: Path) -> None:
    heard, path = Heard(), tmp_path / "run" / "progress.jsonl"
    followed = Followed(path)
    assert followed.catch_up() == Progress()
    said = Recorded(heard, path, lambda: 100.0)
    said.stage("Measuring", 3)
    said.advance("original")
    assert followed.catch_up() == Progress((Stage("Measuring", 3, 1),), (Line(100.0, "original"),), "", 1, 1)
    said.note("mind")
    said.stage("Activating", 0)
    assert followed.catch_up() == Progress(
        (Stage("Measuring", 3, 1), Stage("Activating", 0)), (Line(100.0, "original"), Line(100.0, "mind")), "", 1, 1
    )
    assert heard.lines == ["Measuring", "Measuring: original", "mind", "Activating"]


def test_details_are_kept_once_a_second_and_go_with_the_next_step(tmp_path: Path) -> None:
    said = Recorded(Heard(), tmp_path / "p", ticking())
    said.stage("Measuring", 2)
    for number in range(100):
        said.detail(f"launch {number}")
    assert len((tmp_path / "p").read_bytes().splitlines()) < 60
    followed = Followed(tmp_path / "p")
    assert followed.catch_up().detail.startswith("launch 9")
    said.advance("original")
    assert followed.catch_up().detail == ""


def test_a_run_that_is_taken_up_again_begins_its_stages_anew_and_keeps_what_it_said(tmp_path: Path) -> None:
    for text in ("first", "second"):
        said = Recorded(Heard(), tmp_path / "p", lambda: 1.0)
        said.stage("Measuring", 5)
        said.advance(text)
    found = Followed(tmp_path / "p").catch_up()
    assert found.stages == (Stage("Measuring", 5, 1),)
    assert [line.text for line in found.lines] == ["first", "second"]
    assert found.begun == 2


def test_half_a_line_waits_and_what_is_no_event_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "p"
    whole = b'{"at": 1.0, "kind": "note", "text": "whole", "total": 0}\n'
    path.write_bytes(b'\xff\n[]\n{"kind": "note"}\n{"at": 1.0, "kind": "note", "te')
    followed = Followed(path)
    assert followed.catch_up() == Progress()
    with open(path, "ab") as stream:
        stream.write(b'xt": "half", "total": 0}\n' + whole)
    assert [line.text for line in followed.catch_up().lines] == ["half", "whole"]


def test_a_disk_that_takes_nothing_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    heard = Heard()
    said = Recorded(heard, tmp_path / "file" / "progress.jsonl")
    said.stage("Measuring", 1)
    said.advance("original")
    assert heard.lines == ["Measuring", "Measuring: original"]
    assert os.listdir(tmp_path) == ["file"]


def test_only_the_newest_lines_are_kept(tmp_path: Path) -> None:
    said = Recorded(Heard(), tmp_path / "p")
    for number in range(1000):
        said.advance(str(number))
    found = Followed(tmp_path / "p").catch_up()
    assert [line.text for line in found.lines] == [str(number) for number in range(800, 1000)]
    assert found.steps == 1000
