"""Earlier rollouts and the audit log, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from edgeopt.core.rollout import BoardProgress
from edgeopt.report import fleet_summary as summary
from edgeopt.report import quantities as q
from edgeopt.report.fleet_table import STYLES, board_reason
from edgeopt.report.layout import table, text
from edgeopt.store.audit import Entry
from edgeopt.store.rollouts import RolloutSummary


def print_history(rows: Sequence[tuple[RolloutSummary, BoardProgress | None]], console: Console) -> None:
    """A line a rollout, with how it went on a board where one was asked for."""
    if not rows:
        console.print("No rollout yet. Next: edgeopt fleet update APP@VERSION --to all --plan")
        return
    of_board = any(board for _, board in rows)
    made = table("rollout", "planned, UTC", "release", "state", "wave", *["on the board"] * of_board, "why", right=(4,))
    for one, board in rows:
        went = summary.MARKS.get(board.state, board.state) if board else ""
        made.add_row(
            one.rollout_id,
            q.moment(one.created_at),
            text(one.release, limit=60),
            text(one.state.replace("_", " ")),
            str(one.wave),
            *[text(went, STYLES.get(board.state, "") if board else "")] * of_board,
            text(board_reason(board) if board else one.reason, "dim", 160),
        )
    console.print(made)


def print_log(entries: Sequence[Entry], console: Console) -> None:
    """A line an entry, oldest first."""
    if not entries:
        console.print("The log is empty.")
        return
    made = table("#", "time, UTC", "who", "what", "subject", "why", right=(0,))
    for entry in entries:
        made.add_row(
            str(entry.n),
            q.moment(entry.time),
            text(entry.who, limit=40),
            text(entry.what, limit=40),
            text(entry.subject, limit=60),
            text(entry.why, "dim", 300),
        )
    console.print(made)
