"""Two runs side by side on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgeopt.core.run_comparison import RunComparison
from edgeopt.report import comparison as words
from edgeopt.report import quantities as q
from edgeopt.report.layout import table, text

STYLES = {"better": "green", "worse": "red", "same": "dim", "unknown": "dim"}


def print_comparison(found: RunComparison, console: Console, *, report: Path | None = None) -> None:
    """Print what changed: the answer, the figures, the candidates, the circumstances, and what to mind.

    Args:
        found: The runs.
        console: Where to; 80 columns are enough.
        report: Where the HTML page lies, to be named at the end.
    """
    console.print(text(f"{found.before} → {found.after}", "bold"))
    console.print(text(words.headline(found)))
    for print_part in (_print_figures, _print_candidates, _print_differences):
        print_part(found, console)
    for caution in found.cautions:
        console.print(Text.assemble(("note ", "yellow"), text(caution)))
    if report is not None:
        console.print(Text.assemble("Report: ", text(str(report))), soft_wrap=True)


def _print_figures(found: RunComparison, console: Console) -> None:
    if not found.figures:
        return
    made = table("", "before", "after", "after/before", "", right=(1, 2))
    for item in found.figures:
        row = (words.title(item, found.metric), *(words.value(item, which, found.metric) for which in _SIDES))
        mark = text(words.MARKS[item.change], STYLES[item.change])
        made.add_row(*map(text, row), text(words.change(item, found.metric)), mark)
    console.print(made)


_SIDES = ("before", "after")


def _print_candidates(found: RunComparison, console: Console) -> None:
    if found.candidates:
        made = table("measured by both", "before", "after", "after/before", "", "verdict", right=(1, 2))
        for item in found.candidates:
            ratio = words.span(item.ratio) if item.ratio else q.NONE
            times = (text(q.milliseconds(item.before)), text(q.milliseconds(item.after)))
            mark = text(words.MARKS[item.change], STYLES[item.change])
            made.add_row(text(item.key, limit=60), *times, text(ratio), mark, text(words.fate(item)))
        console.print(made)
    for name, keys in (("only before", found.gone), ("only after", found.added)):
        if keys:
            console.print(Text.assemble((f"{name}: ", "bold"), text(", ".join(keys))))


def _print_differences(found: RunComparison, console: Console) -> None:
    if not found.differences:
        console.print("Same network, data, board, budget and versions.")
        return
    made = table("differs", "before", "after")
    for item in found.differences:
        made.add_row(text(item.what), text(item.before or q.NONE, limit=80), text(item.after or q.NONE, limit=80))
    console.print(made)
