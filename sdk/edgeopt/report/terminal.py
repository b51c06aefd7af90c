"""What the command line shows: a run, a bench, and by their names the lists and the progress of the sibling modules.

A run is few lines of context, the table, the reasons, the decision.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgeopt.core.measurement import Measurement
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment, Selection
from edgeopt.report import quantities as q
from edgeopt.report import summary
from edgeopt.report.layout import facts, table, text
from edgeopt.report.listings import print_checks, print_devices, print_facts, print_runs
from edgeopt.report.progress import Progress
from edgeopt.report.visible import visible

__all__ = [
    "Progress",
    "print_checks",
    "print_devices",
    "print_facts",
    "print_measurement",
    "print_run",
    "print_runs",
]

STYLES = {"winner": "bold green", "tie": "cyan", "infeasible": "yellow", "failed": "red", "dominated": "dim"}
WIDE = 120
"""Columns from which on the reason has a column of its own."""


def print_run(record: RunRecord, console: Console, *, report: Path | None = None) -> None:
    """Print a whole run: what went in, every candidate, the rejected ones, the decision.

    Args:
        record: The run; may be unfinished.
        console: Where to; 80 columns are enough.
        report: Where the HTML page lies, to be named at the end.
    """
    console.print(text(f"Run {record.run_id}", "bold"), text(record.state))
    facts(console, _context(record))
    if record.selection is not None and record.selection.assessments:
        console.print()
        console.print(_candidates(record, record.selection, wide=console.width >= WIDE))
        if console.width < WIDE:
            _print_reasons(record.selection, console)
    if record.rejections:
        console.print(text("Not measured", "bold"))
        for rejection in record.rejections:
            _print_item(console, rejection.name, f"{rejection.stage}: {rejection.reason}")
    _print_decision(record, console, report)


def _context(record: RunRecord) -> tuple[tuple[str, str], ...]:
    data, facts_of = record.data, record.facts
    board = facts_of.model or facts_of.cpu or facts_of.machine
    runtimes = ", ".join(f"{runtime.name} {runtime.version}" for runtime in facts_of.runtimes)
    samples = f"{data.calibration_samples} to calibrate, {data.evaluation_samples} to evaluate"
    inputs = ", ".join(str(spec) for spec in record.model.signature.inputs)
    size = q.size(record.model.artifact.size_bytes)
    return (
        ("model", f"{record.model.name} ({inputs}), {size}, from {record.model.source}"),
        ("device", f"{record.device.name}: {board}, {facts_of.cores_physical} cores, {runtimes}"),
        ("profile", record.profile_name),
        ("data", f"{data.source}: {samples}; metric {data.metric}"),
        ("budget", "; ".join(summary.budget_parts(record))),
        ("search", summary.search_line(record)),
        ("forecast", summary.forecast_line(record)),
        ("took", q.duration(record.finished_at - record.started_at) if record.finished_at else ""),
    )


def _candidates(record: RunRecord, selection: Selection, *, wide: bool) -> Table:
    memory_unit = q.size_unit(item.memory_bytes for item in selection.assessments)
    size_unit = q.size_unit(item.size_bytes for item in selection.assessments)
    metric = visible(record.data.metric, 12)
    headers = ["#", "candidate", "thr", "median\nms", "speed", metric, "change"]
    rates = summary.shows_throughput(selection)
    headers += [f"peak\n{memory_unit[0]}", f"file\n{size_unit[0]}", *(["items/s"] if rates else [])]
    headers += ["verdict", *(["why"] if wide else [])]
    made = table(*headers, right=(0, 2, 3, 4, 5, 6, 7, 8, *([9] if rates else [])))
    for number, item in enumerate(selection.assessments, 1):
        figures = _figures(item, record.data.metric, memory_unit[1], size_unit[1])
        figures += [q.significant(summary.throughput(item) or 0.0) if summary.throughput(item) else q.NONE] * rates
        verdict = text(summary.MARKS[item.verdict], STYLES.get(item.verdict, ""))
        reason = [text(item.reason, "dim")] if wide else []
        made.add_row(str(number), _name(item), str(item.candidate.settings.threads), *figures, verdict, *reason)
    return made


def _name(item: Assessment) -> Text:
    settings = item.candidate.settings
    name = text(item.candidate.variant.name, "bold" if item.verdict == "winner" else "", limit=60)
    extra = [settings.runtime] * (settings.runtime != "onnxruntime") + [settings.precision] * bool(settings.precision)
    extra += [settings.provider] * bool(settings.provider)
    extra += [settings.graph_optimisation] * (settings.graph_optimisation != "all")
    extra += [f"{settings.inter_op} inter-op"] * (settings.inter_op != 1)
    extra += [f"{settings.sessions} sessions"] * (settings.sessions != 1)
    return name.append(f" {visible(', '.join(extra), 40)}", style="dim") if extra else name


def _figures(item: Assessment, metric: str, memory_unit: int, size_unit: int) -> list[str]:
    median = item.latency_ns
    latency = f"{q.significant(median.value / 1e6)} {q.error(median, 1e-6)}".strip() if median else q.NONE
    if (worst := summary.worst_ns(item)) is not None:
        latency = f"avg {latency}\nmax {q.significant(worst / 1e6)}"
    return [
        latency,
        q.ratio(item.speedup.value) if item.speedup else q.NONE,
        q.metric_value(metric, item.metric),
        q.metric_change(metric, item.drop.value if item.drop else None),
        q.significant(item.memory_bytes / memory_unit) if item.memory_bytes is not None else q.NONE,
        q.significant(item.size_bytes / size_unit),
    ]


def _print_reasons(selection: Selection, console: Console) -> None:
    console.print(text("Why", "bold"))
    for number, item in enumerate(selection.assessments, 1):
        _print_item(console, f"{number} {item.candidate.key}", item.reason)


def _print_item(console: Console, name: str, detail: str) -> None:
    line = Text.assemble(text(name, limit=80), ": ", text(detail, "dim"))
    console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _print_decision(record: RunRecord, console: Console, report: Path | None) -> None:
    decided = record.selection is not None and record.selection.winner is not None
    console.print()
    first, *others = summary.decision(record)
    console.print(text(("★ " if decided else "✗ ") + first, "bold green" if decided else "bold yellow"))
    for sentence in others:
        console.print(text(sentence))
    for warning in (*summary.warnings(record), *record.notes):
        console.print(Text.assemble(("note ", "yellow"), text(warning)))
    if report is not None:
        console.print(Text.assemble("Report: ", text(str(report))), soft_wrap=True)


def print_measurement(measurement: Measurement, console: Console) -> None:
    """Print one measurement of `edgeopt bench`; what the sample does not support is left out."""
    if not measurement.ok:
        reason = measurement.correctness.reason if measurement.correctness else ""
        console.print(text(f"! {measurement.status}: {measurement.detail or reason}", "bold red"))
    rows = [("settings", f"{measurement.settings.runtime} {measurement.runtime_version}, {measurement.settings}")]
    rows.append(("plan", measurement.plan.name))
    facts(console, [*rows, *_measured(measurement)])


def _measured(measurement: Measurement) -> list[tuple[str, str]]:
    latency, memory, accuracy = measurement.latency, measurement.memory, measurement.accuracy
    rate = measurement.items_per_second
    phases = ", ".join(f"{name} {q.milliseconds(value)}" for name, value in measurement.phases_ns.items())
    rows = [("phases", phases)]
    if latency is not None:
        named = (("min", latency.min_ns), ("p90", latency.p90_ns), ("p95", latency.p95_ns), ("p99", latency.p99_ns))
        spread = ", ".join(f"{name} {q.milliseconds(value)}" for name, value in named if value is not None)
        average, worst = latency.average_ns, latency.worst_ns
        by_input = f"average {q.milliseconds(average)}, worst {q.milliseconds(worst)}" if average and worst else ""
        per = f" of {latency.per_sample} inferences each" if latency.per_sample > 1 else ""
        rows += [
            ("median", q.milliseconds(latency.median_ns)),
            ("spread", f"{spread}, max {q.milliseconds(latency.max_ns)}, mean {q.milliseconds(latency.mean_ns)}"),
            ("by input", by_input),
            ("throughput", f"{q.significant(rate)} items/s" if rate is not None else ""),
            ("samples", f"{len(latency.samples_ns)}{per}, CV {latency.cv * 100:.1f} %"),
        ]
    if memory is not None:
        rows.append(("memory", f"peak {q.size(memory.peak_bytes)}, after import {q.size(memory.import_bytes)}"))
    if accuracy is not None:
        value = q.metric_value(accuracy.metric, accuracy.value)
        rows.append((accuracy.metric, f"{value} over {accuracy.samples} samples"))
    return [*rows, ("flags", ", ".join(measurement.flags))]
