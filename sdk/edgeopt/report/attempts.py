"""What was tried over time: every launch on the device and every trial of a search, with the best so far."""

from __future__ import annotations

from edgeopt.core.run import RunRecord
from edgeopt.core.space import Trial
from edgeopt.report import quantities as q
from edgeopt.report import summary
from edgeopt.report.launches import Launch, launches_of
from edgeopt.report.picture import kind_of
from edgeopt.report.strip import Entry, Strip, strip_of

MOST_ROWS = 300
"""Trials that are listed; of more only the best are."""


def launch_strip(record: RunRecord) -> Strip | None:
    """Latency of every launch, in order; ``None`` where nothing was measured."""
    entries = [_launch(one) for one in launches_of(record)]
    limit = record.selection.budget.max_latency if record.selection else None
    line = (limit.limit_ns / 1e6, f"budget {limit}") if limit and limit.statistic == "median" else None
    return strip_of(entries, title="median latency, ms", x_title="launch", limit=line, may_log=True)


def _launch(one: Launch) -> Entry:
    latency, item = one.measurement.latency, one.item
    ran = latency is not None and one.measurement.ok
    what = q.milliseconds(latency.median_ns) if latency and ran else one.measurement.status
    tip = f"{one.number}: {item.candidate.key}, {what}, plan {one.measurement.plan.name}"
    value = latency.median_ns / 1e6 if latency and ran else None
    return Entry(value, kind_of(item), tip, counts=item.feasible and ran)


def launch_span(record: RunRecord) -> str:
    """How many launches there were and when, in words; empty where there was none."""
    launches = launches_of(record)
    if not launches:
        return ""
    count = f"{len(launches)} launch{'es' if len(launches) != 1 else ''} on the device"
    times = [one.measurement.started_at for one in launches if one.measurement.started_at > 0]
    if len(times) < 2:
        return f"{count}."
    return f"{count}, begun between {q.moment(min(times))} and {q.moment(max(times))} UTC by its clock."


def trial_strip(record: RunRecord) -> Strip | None:
    """The objective of every trial of a search, in order; ``None`` where none ran."""
    in_bytes = _in_bytes(record)
    entries = [_trial(trial, record, 1 << 20 if in_bytes else 1e6) for trial in record.trials]
    objective = record.selection.budget.objective if record.selection else "latency"
    unit = "MiB" if in_bytes else "ms"
    return strip_of(entries, title=f"{objective}, {unit}, of a short launch", x_title="trial", may_log=True)


def _trial(trial: Trial, record: RunRecord, unit: float) -> Entry:
    holds = trial.measured and trial.excess == 0
    cost, change = summary.trial_figures(record, trial)
    said = f"{cost}, {record.data.metric} {change}" if trial.measured else trial.reason
    value = trial.objectives[0] / unit if trial.measured else None
    tip = f"{trial.number}: {trial.chosen}: {said}"
    return Entry(value, "feasible" if holds else "infeasible", tip, counts=holds)


def _in_bytes(record: RunRecord) -> bool:
    return record.selection is not None and record.selection.budget.objective in ("memory", "size")


def listed_trials(record: RunRecord) -> tuple[Trial, ...]:
    """The trials that a page lists: all, or the `MOST_ROWS` best where there are more; in order."""
    if len(record.trials) <= MOST_ROWS:
        return record.trials
    best = sorted(record.trials, key=lambda trial: (not trial.measured, trial.excess, trial.objectives))[:MOST_ROWS]
    return tuple(sorted(best, key=lambda trial: trial.number))
