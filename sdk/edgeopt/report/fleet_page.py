"""The page of a rollout: one HTML document that opens without a network, with or without scripts."""

from __future__ import annotations

from collections.abc import Sequence

from edgeopt.core.rollout import Rollout
from edgeopt.report import fleet_summary, page
from edgeopt.report.fleet_picture import profile_pictures, timeline_of
from edgeopt.store.audit import Entry


def render_rollout(rollout: Rollout, *, command: str = "", log: Sequence[Entry] = ()) -> str:
    """The page of a rollout; one that is not finished has one too.

    Args:
        rollout: As it stands.
        command: The command line that started it; empty where it is not known.
        log: What the audit log has of it, in order.

    Returns:
        A whole HTML document in UTF-8 that loads nothing from anywhere.
    """
    style = page.style("rollout.css")
    script = page.resource("templates", "sort.js")
    boards = fleet_summary.urgent_first(rollout.boards, rollout)
    return page.environment().get_template("rollout.html").render(
        rollout=rollout,
        summary=fleet_summary,
        boards=boards,
        unlisted=len(rollout.boards) - len(boards),
        pictures=profile_pictures(rollout),
        timeline=timeline_of(rollout),
        command=command,
        log=log,
        style=page.trusted(style),
        script=page.trusted(script),
        policy=page.policy([script], style),
    )  # fmt: skip
