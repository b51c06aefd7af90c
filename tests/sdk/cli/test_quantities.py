"""Quantities: what is accepted means what it says; what is not is refused with the remedy."""

from __future__ import annotations

import pytest

from edgeopt.cli import quantities
from edgeopt.core.budget import LatencyLimit
from edgeopt.errors import UsageError


@pytest.mark.parametrize(
    ("text", "drop"), [("1%", 0.01), ("0.01", 0.01), ("1pt", 0.01), ("2.5 points", 0.025), ("0", 0.0), ("none", None)]
)
def test_drop_reads_percent_points_and_fractions(text, drop):
    assert quantities.parse_drop(text) == drop


@pytest.mark.parametrize("text", ["", "one", "-1%", "5", "1‰", "1%%"])
def test_drop_refuses_what_is_no_loss(text):
    with pytest.raises(UsageError, match="--max-drop") as caught:
        quantities.parse_drop(text)
    assert "1%" in caught.value.remedy or "Did you mean" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("20ms", LatencyLimit("median", 20_000_000)),
        ("p90 20 ms", LatencyLimit("p90", 20_000_000)),
        ("p99 <= 1.5s", LatencyLimit("p99", 1_500_000_000)),
        ("mean 800us", LatencyLimit("mean", 800_000)),
    ],
)
def test_latency_reads_statistic_and_unit(text, limit):
    assert quantities.parse_latency(text) == limit


@pytest.mark.parametrize("text", ["20", "p42 20ms", "fast", "0ms", "-3ms", "p90 20"])
def test_latency_refuses_what_is_no_time(text):
    with pytest.raises(UsageError, match="--max-latency"):
        quantities.parse_latency(text)


@pytest.mark.parametrize(("text", "size"), [("200MB", 200_000_000), ("512 KiB", 524_288), ("1.5GB", 1_500_000_000)])
def test_bytes_reads_decimal_and_binary_units(text, size):
    assert quantities.parse_bytes(text, "--max-memory") == size


@pytest.mark.parametrize("text", ["", "MB", "12 parsecs", "0MB"])
def test_bytes_refuses_what_is_no_size(text):
    with pytest.raises(UsageError, match="--max-memory"):
        quantities.parse_bytes(text, "--max-memory")


def test_shapes_reads_one_shape_an_input():
    assert quantities.parse_shapes(["x=1,3,224,224", "mask=1x77"]) == {"x": (1, 3, 224, 224), "mask": (1, 77)}


@pytest.mark.parametrize("text", ["1,3,224", "x=", "x=1,a", "x=1,0,3", "=1,2"])
def test_shapes_refuses_what_is_no_shape(text):
    with pytest.raises(UsageError, match="--input"):
        quantities.parse_shapes([text])


def test_shapes_refuses_an_input_named_twice():
    with pytest.raises(UsageError, match="twice"):
        quantities.parse_shapes(["x=1,2", "x=1,3"])


def test_counts_keep_order_and_drop_repeats():
    assert quantities.parse_counts("4,1,2,4", "--threads") == (4, 1, 2)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "two", "-1"])
def test_counts_refuses_what_is_no_list_of_numbers(text):
    with pytest.raises(UsageError, match="--threads"):
        quantities.parse_counts(text, "--threads")
