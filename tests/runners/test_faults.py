"""Fault points do what is asked, only where it is asked, and refuse what does not exist."""

import time

import pytest

from edgeopt_runner import faults


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch):
    def arm(text: str) -> None:
        monkeypatch.setenv("EDGEOPT_FAULT", text)
        monkeypatch.setattr(faults, "_faults", None)

    return arm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine.lod:kill9", "no point 'engine.lod'"),
        ("engine.load:explode", "no action 'explode'"),
        ("engine.load", "no action ''"),
    ],
)
def test_unknown_points_and_actions_are_refused_with_those_that_exist(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        faults.parse(text)


def test_parsing_keeps_point_action_value_and_match() -> None:
    parsed = faults.parse("engine.run:sleep=0.002@abc, engine.run:kill9,")
    assert parsed == {
        "engine.run": [faults.Fault("engine.run", "sleep", "0.002", "abc"), faults.Fault("engine.run", "kill9", "", "")]
    }


def test_a_fault_fires_only_where_it_matches(armed) -> None:
    armed("engine.load:raise=ENOSPC@abc")
    faults.point("engine.load", match="abd")
    faults.point("engine.run", match="abc")
    with pytest.raises(OSError, match="No space left"):
        faults.point("engine.load", match="abcdef")


def test_armed_tells_which_points_have_a_fault(armed) -> None:
    armed("engine.run:sleep=0")
    assert faults.armed("engine.run")
    assert not faults.armed("engine.load")
    with pytest.raises(KeyError):
        faults.armed("engine.start")


def test_without_the_variable_nothing_happens(armed) -> None:
    armed("")
    faults.point("engine.run", match="abc")
    assert not faults.armed("engine.run")


def test_sleep_delays(armed) -> None:
    armed("engine.run:sleep=0.05")
    started = time.monotonic()
    faults.point("engine.run")
    assert time.monotonic() - started >= 0.05
