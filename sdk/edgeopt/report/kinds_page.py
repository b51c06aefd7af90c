"""The page of a run for several boards: one HTML document with a section for each kind, which loads nothing."""

from __future__ import annotations

from edgeopt.core.group import GroupRecord
from edgeopt.report import kinds, page, summary
from edgeopt.report.drawing import drawing_of
from edgeopt.report.picture import picture_of


def render_kinds(record: GroupRecord) -> str:
    """The page of a run for several boards, finished or not.

    Returns:
        A whole HTML document in UTF-8 that loads nothing from anywhere.
    """
    style, script = page.style(), page.resource("templates", "sort.js")
    pictures = [picture_of(run) for run in record.runs]
    return page.environment().get_template("kinds.html").render(
        record=record,
        kinds=kinds,
        summary=summary,
        drawn=[(picture, drawing_of(picture)) if picture else None for picture in pictures],
        style=page.trusted(style),
        script=page.trusted(script),
        policy=page.policy([script], style),
    )  # fmt: skip
