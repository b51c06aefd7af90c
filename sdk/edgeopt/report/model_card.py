"""The card of what a run chose, as Markdown (after Mitchell et al., "Model Cards for Model Reporting", 2019).

What it is, where it was measured and how, what it loses, what weakens the answer, and how to make it again.
"""

from __future__ import annotations

import re

from edgeopt.core.run import RunRecord
from edgeopt.report import quantities as q
from edgeopt.report import summary
from edgeopt.report.visible import visible

_MARKUP = re.compile(r"([\\`*_\[\]<>#|&])")
_FENCE = "```"


def render_card(record: RunRecord) -> str:
    """The card of a run's winner, or of the nearest miss; of a run without either what is known.

    Args:
        record: Everything that the ledger knows of the run.
    """
    best = summary.chosen(record)
    parts = [f"# {_plain(record.model.name)} for {_plain(record.device.name)}", *_paragraphs(summary.decision(record))]
    if best is not None:
        variant = best.candidate.variant
        recipe = variant.provenance.recipe
        parts += ["## Figures, measured on the device", _figures(record)]
        parts += [
            "## What it is",
            _table(
                ("variant", variant.name),
                ("passes", " > ".join(one.name for one in recipe.passes) or "none: the original"),
                ("precision", recipe.precision),
                ("settings", str(best.candidate.settings)),
                ("file", f"{variant.artifact.format}, {q.size(variant.artifact.size_bytes)}"),
                ("SHA-256", variant.artifact.digest),
            ),
        ]
    parts += ["## Where and with what it was measured", _conditions(record)]
    if warnings := summary.warnings(record):
        parts += ["## What weakens this", "\n".join(f"* {_plain(text)}" for text in warnings)]
    command = visible(record.command).replace(_FENCE, "'''")
    parts += ["## How to make it again", f"{_FENCE}sh\n{command}\n{_FENCE}"]
    return "\n\n".join(parts) + "\n"


def _paragraphs(sentences: tuple[str, ...]) -> list[str]:
    first, *rest = sentences
    return [f"**{_plain(first)}**", *([" ".join(_plain(text) for text in rest)] if rest else [])]


def _figures(record: RunRecord) -> str:
    """The tiles of the report, as rows."""
    rows = [(tile.label, tile.value, tile.note) for tile in summary.tiles(record)]
    lines = ["| figure | value | |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows)])


def _conditions(record: RunRecord) -> str:
    facts, data = record.facts, record.data
    runtimes = ", ".join(f"{one.name} {one.version}" for one in facts.runtimes)
    return _table(
        ("device", f"{facts.model or facts.cpu or record.device.name}, {facts.os}, kernel {facts.kernel}"),
        ("runtimes", runtimes),
        ("profile", record.profile_name),
        (
            "data",
            f"{data.source}: {data.evaluation_samples} samples to evaluate, {data.calibration_samples} to calibrate",
        ),
        ("asked for", "; ".join(summary.budget_parts(record))),
        ("run", f"{record.run_id}, {q.moment(record.started_at)} UTC, {record.state}"),
        ("source model", f"{record.model.artifact.digest} (SHA-256)"),
        ("made with", ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))),
    )


def _table(*rows: tuple[str, str]) -> str:
    lines = [f"| {_plain(name)} | {_plain(value)} |" for name, value in rows if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _plain(text: str) -> str:
    """Text that no reader of Markdown takes for markup."""
    return _MARKUP.sub(r"\\\1", visible(text))
