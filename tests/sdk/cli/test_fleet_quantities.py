"""Quantities of a fleet: what is accepted means what it says; what is not is refused with the remedy."""

from __future__ import annotations

import pytest

from edgeopt.cli import fleet_quantities as quantities
from edgeopt.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("10min", 600), ("1.5h", 5400), ("90d", 7776000)]
)
def test_spans_have_units(text: str, seconds: float) -> None:
    assert quantities.parse_span(text, "--soak") == seconds


@pytest.mark.parametrize("text", ["", "10", "-1m", "0m", "m", "1 fortnight"])
def test_spans_without_a_unit_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--soak"):
        quantities.parse_span(text, "--soak")


def test_no_soak_may_be_said() -> None:
    assert quantities.parse_span("0", "--soak", zero=True) == 0
    assert quantities.parse_span("0s", "--soak", zero=True) == 0


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("100 %", 1.0), ("0", 0.0), ("0.5%", 0.005)])
def test_shares_are_percents_or_fractions(text: str, share: float) -> None:
    assert quantities.parse_share(text, "--max-failures") == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "five", "-5%", "5", "101%", "nan", "inf"])
def test_shares_above_the_whole_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-failures"):
        quantities.parse_share(text, "--max-failures")


def test_rates_are_sizes_a_second() -> None:
    assert quantities.parse_rate("5MB/s", "--bandwidth") == 5_000_000
    assert quantities.parse_rate("512 KiB / s", "--bandwidth") == 524_288
    for text in ("5MB", "5/s/s", "0MB/s", "fast", "5MB/min"):
        with pytest.raises(UsageError, match="--bandwidth"):
            quantities.parse_rate(text, "--bandwidth")


def test_lists_and_pairs() -> None:
    assert quantities.parse_list("1, 10%,100%", "--waves") == ("1", "10%", "100%")
    assert quantities.parse_pairs(["a=b", "c=d=e"], "--profile") == {"a": "b", "c": "d=e"}
    for text in ("", "1,,2", ","):
        with pytest.raises(UsageError, match="--waves"):
            quantities.parse_list(text, "--waves")
