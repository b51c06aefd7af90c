"""A run in words and rows: what the terminal and the page both say, so that they never differ."""

from __future__ import annotations

import shlex
import statistics
from dataclasses import dataclass

from edgeopt.core.recipe import BASELINE
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment, Selection
from edgeopt.core.space import Trial
from edgeopt.report import quantities as q

MARKS = {
    "winner": "★ winner",
    "tie": "= tie",
    "slower": "slower",
    "dominated": "dominated",
    "infeasible": "✗ misses",
    "failed": "! failed",
}
"""What a verdict is called in tables: a sign and a word, so that colour is never the only signal."""


@dataclass(frozen=True)
class Tile:
    """One headline figure of the chosen candidate against the baseline."""

    label: str
    value: str
    note: str


def baseline(selection: Selection) -> Assessment | None:
    """The unmodified model at its own best settings, or ``None`` where it was not measured."""
    originals = [
        item for item in selection.assessments if item.candidate.variant.name == BASELINE.name and item.latency_ns
    ]
    return min(originals, key=lambda item: item.latency_ns.value if item.latency_ns else 0.0, default=None)


def shows_throughput(selection: Selection) -> bool:
    """Whether several sessions were tried, so that throughput tells what latency does not."""
    return any(item.candidate.settings.sessions > 1 for item in selection.assessments)


def throughput(item: Assessment) -> float | None:
    """Median over the launches of the samples served a second."""
    rates = [launch.items_per_second for launch in item.candidate.measurements if launch.items_per_second]
    return statistics.median(rates) if rates else None


def chosen(record: RunRecord) -> Assessment | None:
    """The winner, else the nearest miss, else ``None``."""
    selection = record.selection
    key = selection and (selection.winner or selection.best_so_far)
    if selection is None or key is None:
        return None
    return next((item for item in selection.assessments if item.candidate.key == key), None)


def headline(record: RunRecord) -> str:
    """The answer in one sentence."""
    selection, best = record.selection, chosen(record)
    if selection is None:
        states = {"running": "This run has not chosen yet.", "failed": "This run failed before it could choose."}
        return states.get(record.state, "This run made no decision.")
    if best is None:
        return "No candidate could be measured."
    if selection.winner is None and record.state == "running":
        return f"This run has not chosen yet. Best so far: {best.candidate.key}."
    if selection.winner is None:
        return f"Nothing meets the budget. Nearest: {best.candidate.key}."
    original = baseline(selection)
    if original is not None and best.candidate.variant.name == BASELINE.name:
        return f"Keep the original ({best.candidate.settings}): nothing measured here is better."
    return f"{best.candidate.key}: {_gain(best, selection)}."


def _gain(best: Assessment, selection: Selection) -> str:
    """How the winner compares with the baseline, in the terms of the objective."""
    original = baseline(selection)
    if selection.budget.objective == "size" and original and best.size_bytes:
        return f"{q.ratio(original.size_bytes / best.size_bytes)} smaller than the original"
    if selection.budget.objective == "memory" and original and best.memory_bytes and original.memory_bytes:
        return f"{q.ratio(original.memory_bytes / best.memory_bytes)} less memory than the original"
    if selection.budget.objective == "time-per-item" and original and throughput(best) and throughput(original):
        gain = (throughput(best) or 0.0) / (throughput(original) or 1.0)
        return f"{q.ratio(gain)} of the original's throughput"
    if best.speedup is None:
        return "the best that was measured"
    if best.speedup.value < 1:
        return f"best under the budget, at {q.ratio(best.speedup.value)} the original's speed"
    return f"{q.ratio(best.speedup.value)} faster than the original"


def tiles(record: RunRecord) -> tuple[Tile, ...]:
    """The figures of the chosen candidate; empty where there is none."""
    best, selection = chosen(record), record.selection
    if best is None or selection is None:
        return ()
    original, metric = baseline(selection), record.data.metric
    made = [
        Tile(_latency_title(best), q.milliseconds(best.latency_ns.value), _was(original, "latency"))
        if best.latency_ns
        else None,
        Tile("Speed-up", q.ratio(best.speedup.value), _range(best)) if best.speedup else None,
        Tile(metric, q.metric_value(metric, best.metric), _change(metric, best)) if best.metric is not None else None,
        Tile("Peak memory", q.size(best.memory_bytes), _was(original, "memory")) if best.memory_bytes else None,
        Tile("Model file", q.size(best.size_bytes), _was(original, "size")),
    ]
    return tuple(tile for tile in made if tile is not None)


def worst_ns(item: Assessment) -> int | None:
    """Latency of the slowest input, where the time depends on the input."""
    known = [launch.latency.worst_ns for launch in item.candidate.measurements if launch.latency]
    return max((value for value in known if value is not None), default=None)


def latency_name(item: Assessment) -> str:
    """What `Assessment.latency_ns` is, with the worst case where it is an average."""
    worst = worst_ns(item)
    return "median" if worst is None else f"average, {q.milliseconds(worst)} at worst"


def _latency_title(best: Assessment) -> str:
    worst = worst_ns(best)
    return "Median latency" if worst is None else f"Average latency ({q.milliseconds(worst)} at worst)"


def _range(best: Assessment) -> str:
    interval = best.speedup
    if interval is None or interval.low == interval.high:
        return ""
    return f"95 % CI {q.significant(interval.low)} to {q.ratio(interval.high)}"


def _was(original: Assessment | None, what: str) -> str:
    if original is None:
        return ""
    latency = original.latency_ns.value if original.latency_ns else None
    texts = {
        "latency": q.milliseconds(latency),
        "memory": q.size(original.memory_bytes),
        "size": q.size(original.size_bytes),
    }
    return f"original {texts[what]}"


def _change(metric: str, best: Assessment) -> str:
    if best.drop is None:
        return ""
    unit = " points" if q.is_share(metric) else ""
    return f"{q.metric_change(metric, best.drop.value)}{unit} against the original"


def budget_parts(record: RunRecord) -> tuple[str, ...]:
    """The limits that were asked for, one phrase each, and the objective."""
    if record.selection is None:
        return ()
    budget, metric = record.selection.budget, record.data.metric
    parts = [
        f"at most {q.loss(metric, budget.max_drop)} lost" if budget.max_drop is not None else "",
        f"{budget.max_latency.statistic} latency ≤ {q.milliseconds(budget.max_latency.limit_ns)}"
        if budget.max_latency
        else "",
        f"memory ≤ {q.size(budget.max_memory_bytes)}" if budget.max_memory_bytes is not None else "",
        f"file ≤ {q.size(budget.max_size_bytes)}" if budget.max_size_bytes is not None else "",
        f"least {budget.objective} wins",
    ]
    return tuple(part for part in parts if part)


def decision(record: RunRecord) -> tuple[str, ...]:
    """What was decided, what it costs, where it is active and how to go back: one sentence each."""
    selection, best = record.selection, chosen(record)
    if selection is None or best is None:
        return (headline(record),)
    sentences = [headline(record)]
    if selection.winner is None:
        misses = [f"{key} misses by: {miss}." for key, miss in selection.misses.items()]
        return (*sentences, *misses, "The best so far is kept on disk; nothing was activated.")
    sentences += [_cost(record, best), *_kept(best), *_activation(record)]
    return tuple(sentence for sentence in sentences if sentence)


def _cost(record: RunRecord, best: Assessment) -> str:
    """Latency, loss, memory and size against the baseline, as one sentence."""
    original, metric = baseline(record.selection) if record.selection else None, record.data.metric
    parts = []
    if best.latency_ns and original and original.latency_ns and original is not best:
        median, before = q.milliseconds(best.latency_ns.value), q.milliseconds(original.latency_ns.value)
        parts.append(f"{median} instead of {before} ({latency_name(best)})")
    if best.drop is not None and original is not best:
        lost = best.drop.value
        parts.append(f"{'loses' if lost > 0 else 'gains'} {q.loss(metric, lost)}" if lost else f"loses no {metric}")
    if original and original is not best:
        parts.append(f"file {q.size(best.size_bytes)} instead of {q.size(original.size_bytes)}")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _kept(best: Assessment) -> tuple[str, ...]:
    layers = best.candidate.variant.kept_float
    if not layers:
        return ()
    names = ", ".join(layers[:4]) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")
    return (f"Kept in float to hold the accuracy: {names}.",)


def _activation(record: RunRecord) -> tuple[str, ...]:
    deployment = record.deployment
    if deployment is None:
        return ("It was not activated on the device.",)
    state = "healthy" if deployment.healthy else "NOT healthy"
    detail = f" ({deployment.detail})" if deployment.detail else ""
    active = f"Active on {deployment.device} as app {deployment.app}, release {deployment.release}: {state}{detail}."
    if deployment.previous is None:
        return (active, "There is no earlier release to go back to.")
    return (active, f"Back to release {deployment.previous}: {rollback_command(record)}")


def rollback_command(record: RunRecord) -> str:
    """The command that returns the device to the release before, or an empty text."""
    deployment = record.deployment
    if deployment is None or deployment.previous is None:
        return ""
    return shlex.join(["edgeopt", "device", "rollback", deployment.device, deployment.app])


def search_line(record: RunRecord) -> str:
    """How many points a search tried and what became of them; empty where there was none."""
    trials = record.trials
    if not trials:
        return ""
    ran = [trial for trial in trials if trial.measured]
    holding = sum(trial.excess == 0 for trial in ran)
    return f"{len(trials)} points were tried, {len(ran)} ran on the device, {holding} of them within the budget"


def forecast_line(record: RunRecord) -> str:
    """What put candidates in order before they were measured, and how right it was; empty where nothing did."""
    forecast = record.forecast
    if forecast is None or not forecast.predictions:
        return ""
    basis = f"{forecast.basis} over {forecast.rows} launches of the ledger" if forecast.rows else forecast.basis
    count = len(forecast.predictions)
    if forecast.correlation is None:
        return f"measured in the order of a forecast by {basis}; {count} launches are too few to judge it"
    told = f"rank correlation {forecast.correlation:.2f} over {count} first launches"
    return f"measured in the order of a forecast by {basis}; {told}"


def trial_figures(record: RunRecord, trial: Trial) -> tuple[str, str]:
    """What a trial has of the objective, and its change of the metric; from its short measurement."""
    if not trial.measured or record.selection is None:
        return q.NONE, q.NONE
    cost, lost = trial.objectives
    in_bytes = record.selection.budget.objective in ("memory", "size")
    return q.size(int(cost)) if in_bytes else q.milliseconds(cost), q.metric_change(record.data.metric, lost)


def warnings(record: RunRecord) -> tuple[str, ...]:
    """What weakens the answer, worst first."""
    best, data = chosen(record), record.data
    flags = sorted({flag for item in best.candidate.measurements for flag in item.flags}) if best else []
    found = [
        "The samples are generated random numbers: the metric says how close a variant is to the source model, "
        "nothing about accuracy on real data. Give --data for that."
        if data.generated
        else "",
        "The same samples were used for calibration and for evaluation: the metric is optimistic."
        if data.overlap
        else "",
        f"The chosen candidate's measurements are flagged: {', '.join(flags)}." if flags else "",
    ]
    return tuple(text for text in found if text)
