"""Builders of nouns around measurements, with seeded noise: what a board would have said."""

from __future__ import annotations

import hashlib
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from edgeopt.core.measurement import Accuracy, Correctness, Latency, Measurement, Memory
from edgeopt.core.model import Artifact
from edgeopt.core.plan import FULL, Plan
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import Recipe
from edgeopt.core.selection import Candidate
from edgeopt.core.variant import Provenance, Variant

MEBI = 1 << 20
ONE_THREAD = Settings()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def variant(name: str, *, size_bytes: int = 4 * MEBI) -> Variant:
    made = Provenance(digest("source"), Recipe(name), digest("data"), {"onnxruntime": "1.32.0"}, seed=0)
    return Variant(name=name, artifact=Artifact(digest(name), size_bytes, "onnx"), provenance=made)


def latency(median_ms: float, *, noise: float = 0.01, samples: int = 700, windows: int = 10, seed: int = 0) -> Latency:
    """Samples around a median, with a slow drift between windows, as boards have it."""
    rng = random.Random(seed)
    drifts = [rng.gauss(0, noise / 2) for _ in range(windows)]
    values = [
        max(1, int(median_ms * 1e6 * (1 + drifts[i * windows // samples] + abs(rng.gauss(0, noise)) - 0.67 * noise)))
        for i in range(samples)
    ]
    return latency_of(values, windows)


def latency_of(values: Sequence[int], windows: int = 1) -> Latency:
    """The record of exactly these samples."""
    n, ordered = len(values), sorted(values)
    middle = int(statistics.median(values))
    chunks = [values[i * n // windows : (i + 1) * n // windows] for i in range(windows)]
    return Latency(
        samples_ns=tuple(values),
        per_sample=1,
        windows_ns=tuple(int(statistics.median(chunk)) for chunk in chunks if chunk),
        median_ns=middle,
        mean_ns=int(statistics.fmean(values)),
        min_ns=ordered[0],
        max_ns=ordered[-1],
        mad_ns=int(statistics.median(abs(value - middle) for value in values)),
        cv=statistics.pstdev(values) / statistics.fmean(values),
        outlier_share=sum(value > 3 * middle for value in values) / n,
        p90_ns=ordered[int(0.9 * n)] if n >= 64 else None,
        p95_ns=ordered[int(0.95 * n)] if n >= 130 else None,
        p99_ns=ordered[int(0.99 * n)] if n >= 662 else None,
    )


def top1(hits: Sequence[int]) -> Accuracy:
    return Accuracy("top1", sum(hits) / len(hits), tuple(float(hit) for hit in hits), samples=len(hits))


def hits(correct: int, total: int = 1000) -> list[int]:
    """`correct` of `total` right; the samples that go wrong first are always the same ones."""
    return [1] * correct + [0] * (total - correct)


def fidelity(values: Sequence[float]) -> Accuracy:
    return Accuracy("fidelity", sum(values) / len(values), tuple(values), samples=len(values))


def measurement(
    name: str, timing: Latency | None, *, settings: Settings = ONE_THREAD, plan: Plan = FULL, **fields: object
) -> Measurement:
    """One launch that went well, unless `fields` say otherwise."""
    well = Measurement(
        variant_digest=digest(name),
        settings=settings,
        plan=plan,
        device_fingerprint=digest("board"),
        runtime_version="1.32.0",
        runner="0.1.0",
        status="ok",
        phases_ns={"import": 200_000_000, "load": 30_000_000, "first": 9_000_000},
        latency=timing,
        memory=Memory(import_bytes=40 * MEBI, load_bytes=60 * MEBI, run_bytes=64 * MEBI),
        correctness=Correctness(passed=True, cosine=0.9999, max_abs=0.001),
        accuracy=top1(hits(980)),
        placement={"CPUExecutionProvider": 41},
    )
    return replace(well, **fields)  # type: ignore[arg-type]


def candidate(
    name: str,
    median_ms: float,
    *,
    correct: int = 980,
    memory_mebi: int = 64,
    size_bytes: int = 4 * MEBI,
    **options: object,
) -> Candidate:
    """A variant with three launches; `options`: launches, noise, seed, threads, samples, or fields."""
    threads, launches = int(str(options.pop("threads", 1))), int(str(options.pop("launches", 3)))
    settings, seed = Settings(threads=threads), int(str(options.pop("seed", 0)))
    shape = {key: options.pop(key) for key in ("noise", "samples", "windows") if key in options}
    fields: dict[str, object] = {
        "accuracy": top1(hits(correct)),
        "memory": Memory(run_bytes=memory_mebi * MEBI),
        **options,
    }
    taken = [
        measurement(
            name,
            latency(median_ms, seed=1000 * seed + 10 * launch + threads, **shape),  # type: ignore[arg-type]
            settings=settings,
            **fields,  # type: ignore[arg-type]
        )
        for launch in range(launches)
    ]
    return Candidate(variant(name, size_bytes=size_bytes), settings, tuple(taken))


def failed(name: str, status: str, detail: str, *, threads: int = 1) -> Candidate:
    """A variant whose only launch ended badly."""
    settings = Settings(threads=threads)
    launch = measurement(
        name, None, settings=settings, status=status, detail=detail, memory=None, correctness=None, accuracy=None
    )
    return Candidate(variant(name), settings, (launch,))
