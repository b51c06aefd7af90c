"""Choosing boards by words."""

from __future__ import annotations

import pytest

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board
from edgeopt.errors import UsageError
from edgeopt.fleet.selectors import select_boards


def board(name: str, profile: str, site: str, **labels: str) -> Board:
    return Board(Device(name, "ssh", host=name, profile=profile, labels=labels), site)


BOARDS = (
    board("press-1", "pi5", "oslo", region="north", tier="canary", shop="yes"),
    board("press-2", "pi5", "bergen", region="north"),
    board("saw-1", "orin", "oslo", region="south", kind="shop"),
    board("saw-2", "orin", "roma", region="south", tier="stable"),
)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("all", "press-1 press-2 saw-1 saw-2"),
        ("region=north", "press-1 press-2"),
        ("region=north,tier=canary", "press-1"),
        ("tier!=canary", "press-2 saw-1 saw-2"),
        ("site in (oslo, roma)", "press-1 saw-1 saw-2"),
        ("site notin (oslo,roma)", "press-2"),
        ("site not in (oslo)", "press-2 saw-2"),
        ("profile=orin,site!=roma", "saw-1"),
        ("name=press-*", "press-1 press-2"),
        ("saw-2", "saw-2"),
        ("saw-?", "saw-1 saw-2"),
        ("label=shop", "press-1 saw-1"),
        ("region=n*", "press-1 press-2"),
        ("all,tier=stable", "saw-2"),
    ],
)
def test_terms_choose_boards_in_their_order(selector: str, names: str) -> None:
    assert [board.name for board in select_boards(BOARDS, selector)] == names.split()


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("colour=red", r"no board has a label 'colour'\. Labels: kind, region, shop, tier"),
        ("region=east", "no board fits 'region=east'. region is one of: north, south"),
        (
            "region=north,site=roma",
            "no board fits .* region is one of: north, south. site is one of: bergen, oslo, roma",
        ),
        ("saw-9", "no board fits 'saw-9'. name is one of: press-1"),
        ("", "'' is no selector"),
        ("a=b,", "is no selector"),
        ("region in ()", "names nothing"),
        ("region==north", "is no term"),
        ("region>north", "is no term"),
        ("region in (north", "is no term"),
    ],
)
def test_what_chooses_nothing_says_what_there_is(selector: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select_boards(BOARDS, selector)


def test_an_empty_inventory_is_said_to_be_empty() -> None:
    with pytest.raises(UsageError, match="The inventory is empty"):
        select_boards((), "all")
