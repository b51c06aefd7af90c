"""What boards run, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeopt.core.sighting import BoardStatus, Sighting
from edgeopt.report import quantities as q
from edgeopt.report.layout import table, text


def print_status(rows: Sequence[BoardStatus], console: Console, *, now: float | None = None) -> None:
    """A line a board and app, what is not as it should be in words.

    Args:
        rows: What each board said or reported, and what is not as it was left.
        console: Where to.
        now: Seconds since the epoch, for how long boards are away; by default this computer's clock.
    """
    moment = time.time() if now is None else now
    made = table("board", "profile", "app", "version", "verified", "p95", "memory", "state", right=(5, 6))
    for row in rows:
        _add(made, row, moment)
    console.print(made)
    away = sum(not row.sighting.reachable for row in rows)
    drifted = sum(bool(row.drift) for row in rows)
    said = [
        f"{len(rows)} board{'s' * (len(rows) != 1)}",
        *[f"{away} away"] * bool(away),
        *[f"{drifted} not as they were left"] * bool(drifted),
    ]
    console.print(text(", ".join(said) + ("" if away or drifted else ": all as they were left") + "."))


def _add(made: Table, row: BoardStatus, now: float) -> None:
    sighting = row.sighting
    name, profile, state = text(sighting.board, limit=40), text(sighting.profile, limit=32), _state(row, now)
    if not sighting.releases:
        made.add_row(name, profile, "", "", "", "", "", state)
        return
    for index, release in enumerate(sighting.releases):
        figures = release.figures
        made.add_row(
            name if index == 0 else "",
            profile if index == 0 else "",
            text(release.app),
            text(release.version or q.NONE),
            text("yes" if release.verified else "NO", "" if release.verified else "bold red"),
            q.milliseconds(figures.p95_ns) if figures else "",
            q.size(figures.memory_bytes) if figures else "",
            state if index == 0 else "",
        )


def _state(row: BoardStatus, now: float) -> Text:
    """What is wrong, or how it is known that nothing is; then what else is to be known."""
    sighting = row.sighting
    problems = list(row.drift) if sighting.reachable else [_away(sighting, now), *row.drift]
    well = "as it was left" if sighting.releases else "nothing active"
    if sighting.by_report:
        well = f"reported {q.duration(now - sighting.seen_at)} ago"
    style = "yellow" if problems else "green" if sighting.releases else "dim"
    return text("; ".join([*(problems or [well]), *row.notes]), style, 300)


def _away(sighting: Sighting, now: float) -> str:
    since = f"away for {q.duration(now - sighting.seen_at)}" if sighting.seen_at else "never answered"
    return f"{since}: {sighting.detail}"


def print_enrolled(done: Sequence[tuple[str, str, str]], failed: Sequence[tuple[str, str]], console: Console) -> None:
    """A line a board that was enrolled or that was not."""
    made = table("board", "profile", "")
    for board, profile, said in done:
        made.add_row(text(board), text(profile), text(said, "green"))
    for board, why in failed:
        made.add_row(text(board), "", text(why, "red", 300))
    console.print(made)
