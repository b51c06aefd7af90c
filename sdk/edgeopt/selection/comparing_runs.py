"""Compares two runs: ratios with intervals from their own samples, and every circumstance that is not the same.

The runs were measured at different times, not interleaved: differences within the noise of either board are none.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeopt.core.budget import Budget
from edgeopt.core.run import RunRecord
from edgeopt.core.run_comparison import CandidateChange, Change, Difference, FigureChange, RunComparison
from edgeopt.core.selection import Assessment, Interval, Selection
from edgeopt.selection.figures import Figures, figures_of
from edgeopt.selection.statistics import drop_interval
from edgeopt.selection.wording import mebibytes, milliseconds, points

_LEAST_NOISE = 0.01
_MEMORY_NOISE = 0.02
_TOOLS = ("edgeopt", "onnx", "onnxruntime", "torch")


def compare_runs(before: RunRecord, after: RunRecord) -> RunComparison:
    """What changed from one run to another.

    Args:
        before, after: Runs that have chosen; of whatever model, data and device: what differs is told.

    Raises:
        ValueError: One of them has no selection.
    """
    old, new = before.selection, after.selection
    if old is None or new is None:
        raise ValueError("both runs must have chosen")
    noise = max(_LEAST_NOISE, old.noise, new.noise)
    old_figures, new_figures = _figures(old, seed=0), _figures(new, seed=1)  # as independent as the runs are
    shared = [item for item in new.assessments if item.candidate.key in old_figures]
    return RunComparison(
        before.run_id,
        after.run_id,
        after.data.metric,
        old.winner,
        new.winner,
        old.best_so_far,
        new.best_so_far,
        _differences(before, after),
        _cautions(before, after, noise),
        noise,
        _chosen(before, after, old_figures, new_figures, noise),
        tuple(_candidate(old.assessment(item.candidate.key), item, old_figures, new_figures, noise) for item in shared),
        tuple(key for key in _keys(old) if key not in new_figures),
        tuple(key for key in _keys(new) if key not in old_figures),
    )


def _figures(selection: Selection, *, seed: int) -> dict[str, Figures]:
    candidates = [item.candidate for item in selection.assessments]
    return {item.key: item for item in figures_of(candidates, selection.budget, seed=seed)}


def _keys(selection: Selection) -> list[str]:
    return [item.candidate.key for item in selection.assessments]


def _chosen(
    before: RunRecord, after: RunRecord, old: Mapping[str, Figures], new: Mapping[str, Figures], noise: float
) -> tuple[FigureChange, ...]:
    """Of winner or nearest miss; empty where one run has neither."""
    assert before.selection is not None
    assert after.selection is not None
    one, other = old.get(before.selection.best_so_far or ""), new.get(after.selection.best_so_far or "")
    if one is None or other is None:
        return ()
    ratio = _latency_ratio(one, other)
    memory = _plain_ratio(one.memory_bytes, other.memory_bytes)
    size = _plain_ratio(one.size_bytes, other.size_bytes)
    return (
        FigureChange("latency", _latency_ns(one), _latency_ns(other), ratio, _less_is_better(ratio, noise)),
        _metric(before, after, one, other),
        FigureChange("memory", one.memory_bytes, other.memory_bytes, memory, _less_is_better(memory, _MEMORY_NOISE)),
        FigureChange("size", one.size_bytes, other.size_bytes, size, _less_is_better(size, 0.0)),
    )


def _latency_ns(item: Figures) -> float | None:
    return item.latency.value if item.latency else None


def _latency_ratio(before: Figures, after: Figures) -> Interval | None:
    return after.latency.over(before.latency) if before.latency and after.latency else None


def _plain_ratio(before: float | None, after: float | None) -> Interval | None:
    if not before or after is None:
        return None
    return Interval(after / before, after / before, after / before)


def _less_is_better(ratio: Interval | None, noise: float) -> Change:
    if ratio is None:
        return "unknown"
    if ratio.high < 1 - noise:
        return "better"
    return "worse" if ratio.low > 1 + noise else "same"


def _metric(before: RunRecord, after: RunRecord, one: Figures, other: Figures) -> FigureChange:
    """Paired where both ran over the same samples."""
    old, new = one.accuracy, other.accuracy
    if old is None or new is None or before.data.metric != after.data.metric:
        known = [item.value if item else None for item in (old, new)]
        return FigureChange("metric", known[0], known[1], None, "unknown")
    gain = Interval(new.value - old.value, new.value - old.value, new.value - old.value)
    paired = before.data.digest == after.data.digest and old.per_sample and len(old.per_sample) == len(new.per_sample)
    if paired:
        loss = drop_interval(old.per_sample, new.per_sample, seed=0)
        gain = Interval(-loss.value, -loss.high, -loss.low)
    change: Change = "better" if gain.low > 0 else "worse" if gain.high < 0 else "same"
    return FigureChange("metric", old.value, new.value, gain, change)


def _candidate(
    before: Assessment, after: Assessment, old: Mapping[str, Figures], new: Mapping[str, Figures], noise: float
) -> CandidateChange:
    key = after.candidate.key
    ratio = _latency_ratio(old[key], new[key])
    return CandidateChange(
        key,
        before.candidate.variant.artifact.digest == after.candidate.variant.artifact.digest,
        _latency_ns(old[key]),
        _latency_ns(new[key]),
        ratio,
        _less_is_better(ratio, noise),
        before.verdict,
        after.verdict,
    )


def _differences(before: RunRecord, after: RunRecord) -> tuple[Difference, ...]:
    old, new = _circumstances(before), _circumstances(after)
    names = dict.fromkeys((*old, *new))
    pairs = ((name, old.get(name, ""), new.get(name, "")) for name in names)
    return tuple(Difference(name, one, other) for name, one, other in pairs if one != other)


def _circumstances(record: RunRecord) -> dict[str, str]:
    """Everything that figures depend on, in words, by name."""
    facts, data = record.facts, record.data
    assert record.selection is not None
    runtimes = {f"runtime {one.name}": one.version for one in facts.runtimes}
    tools = {name: record.versions[name] for name in _TOOLS if name in record.versions}
    return {
        "model": record.model.name,
        "model file": record.model.artifact.digest[:16],
        "data": data.source,
        "data digest": data.digest[:16],
        "metric": data.metric,
        "samples": f"{data.calibration_samples} to calibrate, {data.evaluation_samples} to evaluate",
        "device": record.device.name,
        "board": facts.model or facts.cpu or facts.machine,
        "fingerprint": facts.fingerprint[:16],
        "governor": facts.governor,
        "power mode": facts.power_mode,
        "system": f"{facts.os}, {facts.kernel}",
        "profile": record.profile_name,
        **_limits(record.selection.budget),
        **runtimes,
        **tools,
    }


def _limits(budget: Budget) -> dict[str, str]:
    drop, memory, size = budget.max_drop, budget.max_memory_bytes, budget.max_size_bytes
    return {
        "objective": f"least {budget.objective}",
        "largest loss": "any" if drop is None else f"{points(drop)} points",
        "latency limit": "none"
        if budget.max_latency is None
        else f"{budget.max_latency.statistic} {milliseconds(budget.max_latency.limit_ns)}",
        "memory limit": "none" if memory is None else mebibytes(memory),
        "size limit": "none" if size is None else mebibytes(size),
    }


def _cautions(before: RunRecord, after: RunRecord, noise: float) -> tuple[str, ...]:
    found = []
    if before.model.artifact.digest != after.model.artifact.digest:
        found.append(
            f"The runs are of different networks ({before.model.name} and {after.model.name}): "
            "ratios compare what they do, not how well they were compressed."
        )
    if before.facts.fingerprint != after.facts.fingerprint:
        found.append("The boards, or how they were set up, differ: latencies tell of both board and network.")
    if before.data.metric != after.data.metric:
        found.append("The metrics are not the same, so that their values are not compared.")
    elif before.data.digest != after.data.digest:
        found.append("The evaluation samples differ: the metric's difference has no interval.")
    found.append(
        "The runs were measured at different times: "
        f"latencies that differ by less than {noise * 100:.1f} % are the same."
    )
    return tuple(found)
