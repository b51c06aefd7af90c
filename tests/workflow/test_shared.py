"""Threads of one run: an error in one ends the others at their next step, and is what the user is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgeopt.errors import UsageError
from edgeopt.workflow.kinds.shared import Shared, Stopped
from edgeopt.workflow.progress_file import Followed, Recorded
from support.workflow import Heard

LONG = 1000


def fails() -> None:
    raise UsageError("the second one fails at once.")


@pytest.mark.parametrize("step", ["advance", "detail"])
def test_the_first_error_ends_what_trains_for_an_hour_and_is_the_one_that_is_raised(step: str) -> None:
    said, ended = Shared(Heard()), []

    def trains() -> None:
        for _ in range(LONG):
            try:
                getattr(said, step)("epoch")
            except Stopped:
                ended.append(step)
                raise
            threading.Event().wait(0.005)

    def a_kind() -> None:
        said.at_once([trains, trains], "boards")

    with pytest.raises(UsageError, match="the second one"):
        said.at_once([a_kind, fails], "kinds")
    assert ended == [step, step]


def test_what_each_gave_comes_in_their_order() -> None:
    first = threading.Event()

    def slower() -> int:
        assert first.wait(60)
        return 1

    def faster() -> int:
        first.set()
        return 2

    assert Shared(Heard()).at_once([slower, faster], "threads") == [1, 2]


def test_a_kind_is_followed_in_its_own_file_and_the_run_in_another(tmp_path: Path) -> None:
    heard = Heard()
    run = Shared(heard).also(Recorded(Heard(), tmp_path / "run"))
    recorded = Recorded(Heard(), tmp_path / "kind")
    to_all, kind = run.also(recorded), run.also(recorded)
    to_all.stage("Measuring", 0)
    kind.named("a1").advance("int8")
    run.advance("of another kind")
    assert heard.lines == ["Measuring", "Measuring: a1: int8", "Measuring: of another kind"]
    told = [[line.text for line in Followed(tmp_path / name).catch_up().lines] for name in ("run", "kind")]
    assert told == [["a1: int8", "of another kind"], ["a1: int8"]]
    assert Followed(tmp_path / "kind").catch_up().begun == 1
