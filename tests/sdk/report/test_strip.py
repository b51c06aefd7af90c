import math

import pytest

from edgeopt.report.strip import BOTTOM, HEIGHT, LEFT, MOST, RIGHT, TOP, WIDTH, Entry, strip_of


def chart(*entries: Entry, **options: object):
    return strip_of(entries, title="latency, ms", x_title="launch", **options)  # type: ignore[arg-type]


def corners(best: str) -> list[tuple[float, float]]:
    return [tuple(map(float, corner.split(","))) for corner in best.split()]  # type: ignore[misc]


def test_marks_stand_side_by_side_in_order_and_lower_values_stand_lower() -> None:
    made = chart(Entry(4.0, "feasible", "a"), Entry(2.0, "feasible", "b"), Entry(8.0, "feasible", "c"))
    assert [dot.x for dot in made.dots] == sorted(dot.x for dot in made.dots)
    assert made.dots[1].y > made.dots[0].y > made.dots[2].y
    assert all(LEFT < dot.x < WIDTH - RIGHT and TOP < dot.y < HEIGHT - BOTTOM for dot in made.dots)


def test_the_staircase_is_the_least_so_far_of_what_counts() -> None:
    made = chart(
        Entry(5.0, "feasible", "a", counts=True),
        Entry(1.0, "infeasible", "fast but wrong"),
        Entry(6.0, "feasible", "b", counts=True),
        Entry(3.0, "feasible", "c", counts=True),
    )
    levels = [y for _, y in corners(made.best)]
    assert levels == [made.dots[0].y, made.dots[0].y, made.dots[3].y, made.dots[3].y]
    assert corners(made.best)[-1][0] == WIDTH - RIGHT


def test_what_gave_nothing_stands_at_the_upper_edge_and_what_has_no_kind_nowhere() -> None:
    made = chart(Entry(None, "infeasible", "crashed"), Entry(2.0, "feasible", "ran"), Entry(None, "", "unknown"))
    assert [(dot.failed, dot.y == TOP) for dot in made.dots] == [(True, True), (False, False)]


def test_a_span_reaches_from_its_beginning_to_its_value() -> None:
    (dot,) = chart(Entry(60.0, "calm", "heat", low=50.0)).dots
    assert dot.y < dot.y_low


def test_a_limit_near_the_values_is_drawn_and_a_far_one_is_not() -> None:
    near = chart(Entry(4.0, "feasible", "a"), limit=(8.0, "budget"))
    assert near.limit_at is not None
    assert near.limit_at < near.dots[0].y
    assert chart(Entry(4.0, "feasible", "a"), limit=(400.0, "budget")).limit_at is None


@pytest.mark.parametrize("values", [(), (None, None), (math.nan, math.inf)])
def test_without_a_value_there_is_no_chart(values: tuple[float | None, ...]) -> None:
    assert chart(*(Entry(value, "feasible", "") for value in values)) is None


def test_ten_thousand_entries_make_a_bounded_number_of_marks_and_an_exact_staircase() -> None:
    entries = [Entry(float(10_000 - index), "feasible", "", counts=True) for index in range(10_000)]
    made = strip_of(entries, title="", x_title="trial")
    assert made is not None
    assert len(made.dots) <= MOST
    assert corners(made.best)[0][1] < corners(made.best)[-1][1]
    assert made.x_ticks[0].label == "1"


def test_hostile_text_is_made_visible() -> None:
    assert "\x1b" not in chart(Entry(1.0, "feasible", "\x1b[2J")).dots[0].tip
