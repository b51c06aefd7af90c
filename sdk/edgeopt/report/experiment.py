"""What a keeper of experiments is given of a run: parameters, figures with their units in their names, and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.measurement import Measurement
from edgeopt.core.run import RunRecord
from edgeopt.core.selection import Assessment, Interval
from edgeopt.core.variant import Rejection, Variant
from edgeopt.report import summary
from edgeopt.report.visible import visible

_LONGEST = 500
_MIB = 1 << 20
_STATISTICS = ("median", "mean", "min", "max", "p90", "p95", "p99")
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Entry:
    """One line of an experiment.

    Attributes:
        name: The run, or the variant.
        params: What went in.
        metrics: What came out; finite.
        tags: What became of it, in words.
        failed: Whether nothing that could be measured came of it.
    """

    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    failed: bool = False


def run_entry(record: RunRecord) -> Entry:
    """The run itself; its figures are those of the winner, or of the nearest miss.

    Args:
        record: As far as it is.
    """
    data, facts, selection = record.data, record.facts, record.selection
    params = {
        "model": record.model.name,
        "model_sha256": record.model.artifact.digest,
        "device": record.device.name,
        "board": facts.model or facts.cpu,
        "profile": record.profile_name,
        "data": data.source,
        "metric": data.metric,
        "calibration_samples": str(data.calibration_samples),
        "evaluation_samples": str(data.evaluation_samples),
        "seed": str(data.seed),
        "budget": "; ".join(summary.budget_parts(record)),
        **{f"version.{_name(name)}": version for name, version in record.versions.items()},
    }
    best = summary.chosen(record)
    metrics = {**(_figures(best, record) if best else {}), "variants": float(len(record.variants))}
    if record.trials:
        metrics["trials"] = float(len(record.trials))
    if selection is not None:
        metrics["device_noise_ratio"] = selection.noise
    if record.finished_at:
        metrics["run_seconds"] = record.finished_at - record.started_at
    tags = {
        "edgeopt.run_id": record.run_id,
        "edgeopt.state": record.state,
        "edgeopt.command": record.command,
        "edgeopt.winner": (selection.winner or "") if selection else "",
    }
    return Entry(record.run_id, _short(params), metrics, _short(tags), failed=record.state == "failed")


def variant_entries(record: RunRecord) -> tuple[Entry, ...]:
    """Every variant at the best of its settings, and what was not measured, with the reason."""
    best: dict[str, Assessment] = {}
    for item in record.selection.assessments if record.selection else ():
        best.setdefault(item.candidate.variant.name, item)
    made = [_variant(one, best.get(one.name), record) for one in record.variants]
    return (*made, *(_rejection(one) for one in record.rejections))


def bench_entry(model: str, device: str, plan: str) -> Entry:
    """Several launches of one model on a device, as one thing that was tried."""
    return Entry(f"bench {visible(model, 200)}", _short({"model": model, "device": device, "plan": plan}))


def launch_entry(launch: Measurement) -> Entry:
    """One launch of a model: what its device said of it."""
    latency, memory, accuracy = launch.latency, launch.memory, launch.accuracy
    times = {f"latency_{name}_ms": getattr(latency, f"{name}_ns") for name in _STATISTICS} if latency else {}
    times.update({f"phase_{_name(phase)}_ms": value for phase, value in launch.phases_ns.items()})
    others = {
        "peak_memory_mib": memory.peak_bytes / _MIB if memory and memory.peak_bytes else None,
        "throughput_items_per_second": launch.items_per_second,
        "cosine": launch.correctness.cosine if launch.correctness else None,
        f"metric_{_name(accuracy.metric.rpartition(':')[2])}" if accuracy else "": accuracy.value if accuracy else None,
    }
    scaled = {name: value / 1e6 for name, value in times.items() if value is not None}
    params = {
        "settings": str(launch.settings),
        "runtime": f"{launch.settings.runtime} {launch.runtime_version}",
        "plan": launch.plan.name,
        "sha256": launch.variant_digest,
        "device_fingerprint": launch.device_fingerprint,
    }
    tags = {"edgeopt.status": launch.status, "edgeopt.reason": launch.detail, "edgeopt.flags": ", ".join(launch.flags)}
    metrics = {**scaled, **{name: value for name, value in others.items() if value is not None}}
    return Entry(visible(str(launch.settings), 200), _short(params), metrics, _short(tags), failed=not launch.ok)


def _variant(variant: Variant, item: Assessment | None, record: RunRecord) -> Entry:
    recipe = variant.provenance.recipe
    params = {
        "variant": variant.name,
        "passes": " > ".join(one.name for one in recipe.passes) or "none",
        "precision": recipe.precision,
        "format": variant.artifact.format,
        "sha256": variant.artifact.digest,
        "seed": str(variant.provenance.seed),
        **{
            f"{_name(one.name)}.{_name(option)}": str(value)
            for one in recipe.passes
            for option, value in one.options.items()
        },
    }
    metrics = {"file_mib": variant.artifact.size_bytes / _MIB}
    if variant.metric is not None:
        metrics[f"host_{_metric(record)}"] = variant.metric
    if variant.cosine is not None:
        metrics["host_cosine"] = variant.cosine
    if item is None:
        return Entry(variant.name, _short(params), metrics)
    params["settings"] = str(item.candidate.settings)
    tags = {
        "edgeopt.verdict": item.verdict,
        "edgeopt.reason": item.reason,
        "edgeopt.pareto": "yes" if item.pareto else "no",
        "edgeopt.meets_budget": "yes" if item.feasible else "no",
    }
    figures = {**metrics, **_figures(item, record)}
    return Entry(variant.name, _short(params), figures, _short(tags), failed=item.verdict == "failed")


def _rejection(rejection: Rejection) -> Entry:
    tags = {
        "edgeopt.verdict": "not measured",
        "edgeopt.stopped_by": rejection.stage,
        "edgeopt.reason": rejection.reason,
    }
    return Entry(visible(rejection.name, _LONGEST), {}, {}, _short(tags), failed=True)


def _figures(item: Assessment, record: RunRecord) -> dict[str, float]:
    """What a candidate measured on the device, with the ends of the 95 % intervals."""
    name = _metric(record)
    limit = record.selection.budget.max_latency if record.selection else None
    found = {
        **(_interval(f"latency_{limit.statistic}", "ms", item.limited_latency_ns, 1e-6) if limit else {}),
        **_interval("latency_median", "ms", item.latency_ns, 1e-6),
        **_interval("speedup", "ratio", item.speedup),
        **_interval(f"{name}_drop", "", item.drop),
        "file_mib": item.size_bytes / _MIB,
    }
    optional = {
        name: item.metric,
        "peak_memory_mib": None if item.memory_bytes is None else item.memory_bytes / _MIB,
        "throughput_items_per_second": summary.throughput(item),
    }
    return {**found, **{key: value for key, value in optional.items() if value is not None}}


def _interval(name: str, unit: str, interval: Interval | None, scale: float = 1.0) -> dict[str, float]:
    if interval is None:
        return {}
    ends = {"": interval.value, "_low": interval.low, "_high": interval.high}
    return {f"{name}{end}{'_' if unit else ''}{unit}": value * scale for end, value in ends.items()}


def _metric(record: RunRecord) -> str:
    """``metric_top1``; of the user's own function the function's name."""
    return f"metric_{_name(record.data.metric.rpartition(':')[2])}"


def _name(text: str) -> str:
    """The characters that names of parameters and figures may have everywhere."""
    return _NO_NAME.sub("_", text)[:100] or "_"


def _short(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: visible(text, _LONGEST) for name, text in texts.items() if text}
