import dataclasses
from typing import Any

import pytest

from edgeopt.core.run import RunRecord
from edgeopt.report import conditions
from edgeopt.report.launches import launches_of, reading
from support.records import run_record
from support.rich_records import THROTTLED, rich_record


def with_evidence(evidence: Any, flags: tuple[str, ...] = ()) -> RunRecord:
    record = run_record()
    assert record.selection is not None
    changed = tuple(
        dataclasses.replace(item, candidate=dataclasses.replace(item.candidate, measurements=tuple(
            dataclasses.replace(one, evidence=evidence, flags=flags) for one in item.candidate.measurements
        )))
        for item in record.selection.assessments
    )  # fmt: skip
    return dataclasses.replace(record, selection=dataclasses.replace(record.selection, assessments=changed))


def test_heat_clock_and_throttling_are_told_over_all_launches() -> None:
    said = conditions.sentences(rich_record())
    assert said[0] == "Temperature: 46.1 to 81.5 °C."
    assert said[1] == "Clock: 1500 to 2400 MHz."
    assert said[2] == f"Throttling: 1 of 22 launches were throttled, began hot or lost clock ({THROTTLED})."
    assert said[3] == "Other load: up to 2 % of the processors' time during a measurement."
    assert said[4] == "Flags over 22 launches: contended 2×, throttled 1×, unstable 2×."


def test_the_throttled_launch_stands_out_in_both_charts() -> None:
    for strip in conditions.strips(rich_record()):
        marked = [number for number, dot in enumerate(strip.dots, 1) if dot.kind == "infeasible"]
        assert marked == [THROTTLED]


def test_a_board_that_tells_nothing_has_no_charts_and_says_so() -> None:
    record = with_evidence({})
    assert conditions.strips(record) == ()
    assert conditions.sentences(record) == (
        "Temperature: the board does not tell it.",
        "Clock: the board does not tell it.",
        "Throttling: none was seen.",
        "Other load: not known.",
        "Flags: no launch has one.",
    )


def test_a_run_without_a_decision_has_no_conditions() -> None:
    record = dataclasses.replace(run_record(), selection=None)
    assert conditions.sentences(record) == ()
    assert launches_of(record) == ()


@pytest.mark.parametrize(
    "nonsense",
    [
        {"before": "hot", "after": [1], "watched": {"last_khz": "fast", "hottest_celsius": {}}, "others_share": True},
        {"after": {"temperature_celsius": float("inf"), "frequency_khz": 5}, "watched": {"last_khz": 10**400}},
    ],
)
def test_nonsense_of_a_device_is_no_figure(nonsense: Any) -> None:
    record = with_evidence(nonsense, flags=("\x1b[2Jowned",))
    assert conditions.strips(record) == ()
    said = " ".join(conditions.sentences(record))
    assert "the board does not tell it" in said
    assert "\x1b" not in said


def test_a_reading_follows_its_path() -> None:
    assert reading({"a": {"b": 3}}, "a", "b") == 3.0
    assert reading({"a": {"b": True}}, "a", "b") is None
