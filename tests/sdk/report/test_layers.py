import dataclasses

from edgeopt.core.layers import LayerFigures
from edgeopt.report import layers
from support.records import run_record
from support.rich_records import rich_record


def test_layers_come_by_sensitivity_then_by_time_with_bars_against_the_largest() -> None:
    known = (LayerFigures("slow", None, 4.0), LayerFigures("mild", 0.2, 1.0), LayerFigures("worst", 0.8, None))
    rows = layers.rows_of(dataclasses.replace(run_record(), layers=known))
    assert [row.name for row in rows] == ["worst", "mild", "slow"]
    assert [(row.share, row.share_bar) for row in rows] == [("80.0 %", 1.0), ("20.0 %", 0.25), ("–", 0.0)]
    assert [(row.time, row.time_bar) for row in rows] == [("–", 0.0), ("1.00 ms", 0.25), ("4.00 ms", 1.0)]


def test_layers_that_the_winner_keeps_in_float_are_marked() -> None:
    rows = layers.rows_of(rich_record())
    assert [row.name for row in rows if row.kept] == ["/features/conv1/Conv"]


def test_the_caption_says_what_is_known_and_what_is_left_out() -> None:
    assert layers.caption(run_record()) == ""
    said = layers.caption(rich_record(layers=70))
    assert "(70 layers)" in said
    assert "(56 layers)" in said
    assert said.endswith("The first 60 are shown.")
    assert len(layers.rows_of(rich_record(layers=70))) == layers.MOST


def test_layers_without_error_have_no_bars() -> None:
    rows = layers.rows_of(dataclasses.replace(run_record(), layers=(LayerFigures("a", 0.0), LayerFigures("b", 0.0))))
    assert [row.share_bar for row in rows] == [0.0, 0.0]
