import math

import pytest

from edgeopt.core.selection import Interval
from edgeopt.report import quantities as q


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.2123, "4.21"),
        (13.08, "13.1"),
        (0.042149, "0.0421"),
        (1312.4, "1312"),
        (0, "0"),
        (math.nan, "NaN"),
        (-2.5, "−2.50"),
    ],
)
def test_three_digits_and_never_an_exponent(value: float, shown: str) -> None:
    assert q.significant(value) == shown


def test_an_interval_shows_its_wider_half_with_the_decimals_of_its_value() -> None:
    assert q.error(Interval(13.1, 12.9, 13.6)) == "±0.5"
    assert q.error(Interval(13.1, 13.1, 13.1)) == ""


def test_sizes_take_the_unit_that_fits() -> None:
    assert [q.size(value) for value in (None, 12, 98304, 64173875, 8 << 30)] == [
        "–",
        "12.0 B",
        "96.0 KiB",
        "61.2 MiB",
        "8.00 GiB",
    ]


def test_a_drop_is_shown_as_a_signed_change_in_the_metric_s_own_language() -> None:
    assert q.metric_change("top1", 0.0052) == "−0.5"
    assert q.metric_change("top1", -0.0052) == "+0.5"
    assert q.metric_change("top1", 0.0001) == "±0"
    assert q.metric_change("fidelity", 0.0012) == "−0.0012"
    assert q.metric_value("top1", 0.9709) == "97.1 %"
    assert q.metric_value("fidelity", 0.99871) == "0.9987"


def test_times_that_no_calendar_has_are_a_dash() -> None:
    assert q.moment(0) == q.moment(1e300) == "–"
    assert q.moment(1_767_225_600) == "2026-01-01 00:00"
    assert q.duration(212) == "3 min 32 s"
