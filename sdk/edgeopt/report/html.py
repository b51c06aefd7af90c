"""The HTML report of a run: one page that opens without a network, with or without scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment
from edgeopt.report import attempts, conditions, kinds, layers, page, quantities, summary
from edgeopt.report.distribution import histograms
from edgeopt.report.drawing import drawing_of
from edgeopt.report.picture import Picture, picture_of
from edgeopt.report.visible import visible

CHART_LIBRARY = "chart-4.6.1.umd.min.js"
_EVIDENCE_ROWS = 80
_EVIDENCE_LAUNCHES = 6


def render_report(record: RunRecord) -> str:
    """The page of a run; unfinished and failed runs have one too.

    Args:
        record: Everything that the ledger knows of the run.

    Returns:
        A whole HTML document in UTF-8 that loads nothing from anywhere.
    """
    picture = picture_of(record)
    library = page.resource("_vendor", CHART_LIBRARY).partition("//# sourceMappingURL")[0]
    style = page.style()
    script = page.resource("templates", "sort.js") + page.resource("templates", "report.js")
    assessments = record.selection.assessments if record.selection else ()
    best = summary.chosen(record)
    return page.environment().get_template("report.html").render(
        record=record,
        summary=summary,
        best=best,
        picture=picture,
        drawing=drawing_of(picture) if picture else None,
        histograms=histograms(assessments),
        attempts=attempts,
        conditions=conditions,
        layers=layers,
        kinds=kinds,
        evidence=_evidence(best),
        style=page.trusted(style),
        scripts=(page.trusted(library), page.trusted(script)) if picture else (page.trusted(script),),
        data=page.trusted(_island(picture)),
        policy=page.policy([library, script] if picture else [script], style),
    )  # fmt: skip


def _island(picture: Picture | None) -> str:
    """JSON that may stand between script tags: nothing in it can end or open one."""
    text = json.dumps(asdict(picture) if picture else None, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _evidence(best: Assessment | None) -> list[tuple[str, list[str]]]:
    """What the device said before and after: a row per figure, a column per launch of the chosen candidate."""
    if best is None:
        return []
    launches = [dict(_flat(item.evidence)) for item in best.candidate.measurements[:_EVIDENCE_LAUNCHES]]
    names = list(dict.fromkeys(name for launch in launches for name in launch))[:_EVIDENCE_ROWS]
    return [(name, [launch.get(name, quantities.NONE) for launch in launches]) for name in names]


def _flat(value: Mapping[str, object], prefix: str = "", depth: int = 4) -> Iterator[tuple[str, str]]:
    """Nested JSON as pairs of a path and a short text."""
    for key, item in value.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(item, Mapping) and depth:
            yield from _flat(item, f"{name} · ", depth - 1)
        elif isinstance(item, bool):
            yield name, "yes" if item else "no"
        elif isinstance(item, float):
            yield name, quantities.significant(item, 4)
        elif item is not None:
            yield name, visible(str(item), 60)
