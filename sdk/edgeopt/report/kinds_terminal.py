"""A run for several boards on a terminal: each kind as a run of its own, then the boards and the decision."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgeopt.core.group import GroupRecord
from edgeopt.report import kinds
from edgeopt.report.layout import table, text
from edgeopt.report.terminal import print_run


def print_kinds(record: GroupRecord, console: Console, *, report: Path | None = None) -> None:
    """Print a run for several boards.

    Args:
        record: The run; may be incomplete.
        console: Where to; 80 columns are enough.
        report: Where the HTML page lies, to be named at the end.
    """
    for run in record.runs:
        print_run(run, console)
        console.print()
    made = table(*kinds.COLUMNS, right=(2,))
    for run in record.runs:
        for part in run.boards:
            cells = kinds.row(run, part)
            style = "red" if part.lost else "yellow" if part.disagrees else "green"
            made.add_row(*(text(cell) for cell in cells[:-1]), text(cells[-1], style))
    console.print(text(f"Run {record.group}", "bold"), text(record.state))
    console.print(made)
    decided = record.state == "done"
    console.print(
        text(("★ " if decided else "✗ ") + kinds.headline(record), "bold green" if decided else "bold yellow")
    )
    for sentence in kinds.sentences(record):
        console.print(text(sentence))
    for warning in kinds.warnings(record):
        console.print(Text.assemble(("note ", "yellow"), text(warning)))
    if report is not None:
        console.print(Text.assemble("Report: ", text(str(report))), soft_wrap=True)
