"""What boards answered last survives their absence."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.core.release import BoardRelease
from edgeopt.core.sighting import Sighting
from edgeopt.errors import StoreError
from edgeopt.store.sightings import Sightings

RELEASE = BoardRelease("digits", "1.0", failed={"0.9": "slow"})


def test_a_board_that_does_not_answer_keeps_what_it_said_and_when(tmp_path: Path) -> None:
    kept = Sightings(tmp_path / "deep" / "boards.json")
    kept.remember([Sighting("b", "pi5", True, 10.0, 10.0, "", (RELEASE,)), Sighting("a", "pi5", True, 10.0, 10.0)])
    (away,) = kept.remember([Sighting("b", "pi5", False, 20.0, detail="no route")])
    assert away == Sighting("b", "pi5", False, 20.0, 10.0, "no route", (RELEASE,))
    assert [one.board for one in kept.all()] == ["a", "b"]
    assert kept.all()[1] == away


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "boards.json"
    path.write_text("{}")
    with pytest.raises(StoreError, match=r"boards\.json"):
        Sightings(path).all()


def test_none_are_known_at_first(tmp_path: Path) -> None:
    assert Sightings(tmp_path / "boards.json").all() == ()
