import math
from dataclasses import replace

import pytest

from edgeopt.core.selection import Interval
from edgeopt.report.axes import axis_for
from edgeopt.report.drawing import HEIGHT, WIDTH, drawing_of
from edgeopt.report.picture import picture_of
from support.records import LINES, run_record

MEASURED = sum(line.status == "ok" for line in LINES)


def test_every_measured_candidate_is_a_point_and_no_other() -> None:
    picture = picture_of(run_record())
    assert picture is not None
    assert sorted(point.number for point in picture.points) == list(range(1, MEASURED + 1))
    assert [point.number for point in picture.points if point.kind == "winner"] == [1]
    assert {point.label.split(" /")[0] for point in picture.points if point.kind == "baseline"} == {"original"}


def test_a_broken_variant_does_not_press_the_others_together() -> None:
    picture = picture_of(run_record())
    assert picture is not None
    assert [point.number for point in picture.points if point.clamped] == [9, 10]
    assert picture.y.low > 95
    assert drawing_of(picture).marks[-1].label == "10 ▼ 41.9"


def test_budget_lines_stand_where_the_budget_is() -> None:
    picture = picture_of(run_record())
    assert picture is not None
    assert picture.latency is not None
    assert picture.floor is not None
    assert picture.latency.value == 16.0
    assert picture.floor.value == pytest.approx(96.31)


def test_the_front_rises_only_and_skips_what_is_dominated() -> None:
    picture = picture_of(run_record())
    assert picture is not None
    assert [x for x, _ in picture.front] == [4.21, 12.3, 12.3]
    assert [round(y, 2) for _, y in picture.front] == [97.09, 97.09, 97.31]


def test_without_a_metric_the_size_takes_its_axis() -> None:
    record = run_record()
    assert record.selection is not None
    bare = tuple(replace(item, metric=None, drop=None) for item in record.selection.assessments)
    picture = picture_of(replace(record, selection=replace(record.selection, assessments=bare)))
    assert picture is not None
    assert picture.y_title.startswith("size")
    assert picture.floor is None


def test_numbers_that_no_axis_can_hold_are_left_out() -> None:
    record = run_record()
    assert record.selection is not None
    first, *others = record.selection.assessments
    broken = replace(first, latency_ns=Interval(math.nan, math.nan, math.nan))
    picture = picture_of(replace(record, selection=replace(record.selection, assessments=(broken, *others))))
    assert picture is not None
    assert 1 not in {point.number for point in picture.points}


def test_a_single_candidate_and_none_at_all_are_no_problem() -> None:
    picture = picture_of(run_record(LINES[:1]))
    assert picture is not None
    assert len(drawing_of(picture).marks) == 1
    assert picture_of(run_record(LINES[-1:])) is None


def test_marks_and_labels_stay_on_the_sheet() -> None:
    picture = picture_of(run_record())
    assert picture is not None
    for mark in drawing_of(picture).marks:
        assert 0 <= mark.x <= WIDTH
        assert 0 <= mark.y <= HEIGHT
        assert 0 <= mark.label_x <= WIDTH


def test_the_axis_is_logarithmic_where_the_spread_asks_for_it() -> None:
    assert axis_for([1.0, 30.0], may_log=True).log
    assert not axis_for([1.0, 3.0], may_log=True).log
    axis = axis_for([1.0, 30.0], may_log=True)
    assert axis.share(math.sqrt(axis.low * axis.high)) == pytest.approx(0.5)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert axis_for([5.0, 5.0]).high > 5.0 > axis_for([5.0, 5.0]).low
    assert axis_for([0.0]).high > 0
