"""What one worker launch on a device found (record schema: facts on measurement §5.4).

All times are nanoseconds of a monotonic clock, all memory bytes. A value that the sample or the device does not support
is ``None``, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.plan import Plan
from edgeopt.core.profile import Settings

OK = "ok"
"""The status of a measurement that ran to its end; any other status names what happened instead."""

_SPOILING = frozenset({"throttled", "swapped", "env_changed", "clock_suspect"})


@dataclass(frozen=True)
class Latency:
    """Steady-state latency of one launch; no outlier is deleted.

    Attributes:
        samples_ns: Every measured inference, in order; the mean of each batch where `per_sample` is above 1.
        per_sample: Inferences behind one sample; above 1 (very fast models) the percentiles are those of batches.
        windows_ns: Median of each window.
        median_ns, mean_ns, min_ns, max_ns, mad_ns: Of `samples_ns`.
        p90_ns, p95_ns, p99_ns: ``None`` where n < 64, 130, 662.
        cv: Standard deviation over mean.
        outlier_share: Share of samples above three times the median.
        average_ns, worst_ns: Mean and largest of the medians of each input, over the evaluation samples, of a model
            that does not take equally long for all (early exits); else ``None``. `samples_ns` are of these inputs, too.
    """

    samples_ns: tuple[int, ...]
    per_sample: int
    windows_ns: tuple[int, ...]
    median_ns: int
    mean_ns: int
    min_ns: int
    max_ns: int
    mad_ns: int
    cv: float
    outlier_share: float
    p90_ns: int | None = None
    p95_ns: int | None = None
    p99_ns: int | None = None
    average_ns: int | None = None
    worst_ns: int | None = None


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of the worker process, by phase (VmHWM, reset between phases).

    Attributes:
        import_bytes: After importing the runtime, before the model.
        load_bytes: Peak while loading the model.
        run_bytes: Peak while running it.
        pss_bytes: Proportional share in steady state.
        available_drop_bytes: Fall of MemAvailable seen from outside the process.
    """

    import_bytes: int | None = None
    load_bytes: int | None = None
    run_bytes: int | None = None
    pss_bytes: int | None = None
    available_drop_bytes: int | None = None

    @property
    def peak_bytes(self) -> int | None:
        """The largest of the phases' peaks."""
        peaks = [value for value in (self.import_bytes, self.load_bytes, self.run_bytes) if value is not None]
        return max(peaks) if peaks else None


@dataclass(frozen=True)
class Correctness:
    """Golden outputs on the device against the source model's, before and after the load.

    Attributes:
        passed: Finite, right shapes, not constant where the reference is not, same before and after the load, and a
            cosine no smaller than the host asked for (what the same file reached there, less a margin).
        cosine: Smallest cosine similarity to the source model's outputs.
        max_abs: Largest absolute difference to them; ``None`` where outputs were not finite.
        reason: Why it did not pass; empty when it did.
    """

    passed: bool
    cosine: float
    max_abs: float | None
    reason: str = ""


@dataclass(frozen=True)
class Accuracy:
    """The metric over the evaluation set, run on the device.

    Attributes:
        metric: ``top1``, ``fidelity`` or the user's function.
        value: Mean of `per_sample`, or the user's number. For ``fidelity`` the mean cosine.
        per_sample: One number a sample (1/0 for top-1), for paired comparison; empty for user functions.
        extra: Side figures by name (``sqnr_db``, ``top1_agreement``).
        samples: Size of the evaluation set.
    """

    metric: str
    value: float
    per_sample: tuple[float, ...] = ()
    extra: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0


@dataclass(frozen=True)
class Measurement:
    """One launch of one variant with one setting under one plan.

    Attributes:
        variant_digest: The file that ran, as the device hashed it.
        settings: How it ran.
        plan: How it was measured.
        device_fingerprint: Where.
        runtime_version: Version of the runtime that ran it.
        runner: Version of the runner.
        status: ``ok``, or what happened: ``illegal_instruction``, ``oom``, ``memory_guard``, ``process_guard``,
            ``crash``, ``timeout:<phase>``, ``rebooted``, ``lost``, ``load_failed``, ``runtime_missing``, ``error``.
        detail: One sentence on a status that is not ``ok``.
        phases_ns: Durations of ``import``, ``load``, ``first`` by name.
        latency, memory, correctness, accuracy: ``None`` where the launch did not get that far. The latency is that of
            one request, whole batch included, taken while every session was busy.
        items_per_second: Samples served a second, all sessions together, while the latency was taken; ``None`` where
            requests were paced, or it is not known.
        evidence: Temperatures, clocks, governor, swap, load: before, after and their differences (JSON values).
        flags: What weakens it: ``unstable``, ``contended``, ``throttled``, ``swapped``, ``started_hot``,
            ``env_changed``, ``warmup_capped``, ``clock_suspect`` (the processor's clock fell while it was timed).
        placement: Operators by where they ran, for example ``{"CPUExecutionProvider": 41}``.
        started_at: Seconds since the epoch on the device, for display.
    """

    variant_digest: str
    settings: Settings
    plan: Plan
    device_fingerprint: str
    runtime_version: str
    runner: str
    status: str
    detail: str = ""
    phases_ns: Mapping[str, int] = field(default_factory=dict)
    latency: Latency | None = None
    memory: Memory | None = None
    correctness: Correctness | None = None
    accuracy: Accuracy | None = None
    items_per_second: float | None = None
    evidence: Mapping[str, object] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    placement: Mapping[str, int] = field(default_factory=dict)
    started_at: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the launch ran to its end with right outputs."""
        return self.status == OK and (self.correctness is None or self.correctness.passed)

    @property
    def valid(self) -> bool:
        """Whether it may rank: ran to its end, and nothing on the board spoiled the numbers."""
        return self.ok and not _SPOILING.intersection(self.flags)

    @property
    def spoiled(self) -> bool:
        """Whether it ran to its end, but the board spoiled the numbers."""
        return self.ok and not self.valid
