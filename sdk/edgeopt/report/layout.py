"""The house's form on a terminal: safe text, tables, lists of facts.

Text goes through `visible` and into `rich.text.Text`, never into rich's markup: a device cannot write on the screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeopt.report.visible import visible


def text(value: str, style: str = "", limit: int = 400) -> Text:
    """Untrusted text for the console."""
    return Text(visible(value, limit), style=style)


def table(*headers: str, right: Sequence[int] = ()) -> Table:
    """A table in the house's form; headers are our own words, columns in `right` are numbers."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for index, header in enumerate(headers):
        number = index in right
        side: Literal["left", "right"] = "right" if number else "left"
        made.add_column(Text(header), justify=side, no_wrap=number or header == "verdict", overflow="fold")
    return made


def facts(console: Console, rows: Sequence[tuple[str, str]], width: int = 9) -> None:
    """Lines of ``name  value``, long values wrapped under their beginning; empty values are left out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if value:
            grid.add_row(text(name), text(value))
    console.print(grid)
