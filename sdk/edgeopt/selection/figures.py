"""What is known about each candidate, worked out from its launches: figures with intervals, or why there are none."""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeopt.core.budget import Budget
from edgeopt.core.measurement import OK, Accuracy, Measurement
from edgeopt.core.recipe import BASELINE
from edgeopt.core.selection import Candidate, Interval
from edgeopt.errors import UsageError
from edgeopt.selection.by_input import limited_bootstrap, typical_bootstrap
from edgeopt.selection.statistics import Bootstrap, drop_interval

_UNKNOWN = {"lost", "cancelled"}  # says nothing about the candidate
_HAPPENED = {
    "illegal_instruction": "needs an instruction that the CPU lacks",
    "oom": "ran out of memory",
    "memory_guard": "was stopped at the memory limit",
    "process_guard": "was stopped because it started too many processes",
    "crash": "crashed",
    "rebooted": "was running when the device rebooted",
    "load_failed": "could not be loaded",
    "runtime_missing": "found no runtime",
}


@dataclass(frozen=True)
class Figures:
    """A candidate's figures on the device.

    Attributes:
        candidate: Whose they are.
        failed: Whether a launch ended badly, or none is known.
        problem: Why it cannot be chosen whatever the budget says; empty when it can.
        working: Whether it ran with right outputs, so that it may be the best so far.
        latency: Median latency; the average over inputs where the time depends on them.
        limited: The statistic that the budget limits; ``None`` where it limits none or the samples do not support it.
            Where the time depends on the input, the slowest input's: a limit is a promise.
        item_ns: Time per item under load: one over the throughput, over the launches; ``None`` where it is not known.
        samples: Inferences behind `latency`.
        memory_bytes: Largest peak of all launches.
        accuracy: On the device.
        drop: Loss against the baseline on the same samples; where the device cannot run it, against it on the host.
        no_drop: Why there is no drop.
        stable: Whether less than half of the launches are flagged ``unstable``.
        depth: Least number of samples that the plan asks for; launches of lesser plans do not count.
    """

    candidate: Candidate
    failed: bool = False
    problem: str = ""
    working: bool = False
    latency: Bootstrap | None = None
    limited: Interval | None = None
    item_ns: Interval | None = None
    samples: int = 0
    memory_bytes: int | None = None
    accuracy: Accuracy | None = None
    drop: Interval | None = None
    no_drop: str = ""
    stable: bool = True
    depth: int = 0

    @property
    def key(self) -> str:
        """The candidate's."""
        return self.candidate.key

    @property
    def latency_ns(self) -> float:
        """Median latency; infinite where there is none."""
        return self.latency.value if self.latency else math.inf

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self.candidate.variant.artifact.size_bytes


def figures_of(candidates: Sequence[Candidate], budget: Budget, *, seed: int) -> list[Figures]:
    """The figures of all candidates, in the order of their keys.

    Raises:
        UsageError: Two candidates have the same key.
    """
    keys = [candidate.key for candidate in candidates]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise UsageError(f"two candidates are called {twice[0]!r}.", remedy="Put their measurements together.")
    found = [_launches(item, budget, seed) for item in sorted(candidates, key=lambda candidate: candidate.key)]
    found = [replace(item, accuracy=item.accuracy or _accuracy_of_same_file(item, found)) for item in found]
    original = baseline(found)
    on_host = next((item.candidate.reference for item in found if item.candidate.reference), None)
    reference = original.accuracy if original else on_host
    return [_with_drop(item, reference, seed) for item in found]


def baseline(figures: Sequence[Figures]) -> Figures | None:
    """The unmodified model at its fastest settings; ``None`` where it did not run."""
    originals = [item for item in figures if item.candidate.variant.name == BASELINE.name and item.latency]
    return min(originals, key=lambda item: (bool(item.problem), item.latency_ns, item.key), default=None)


def _launches(candidate: Candidate, budget: Budget, seed: int) -> Figures:
    """Everything but the drop."""
    launches = candidate.measurements
    done = [launch for launch in launches if launch.ok and launch.latency and launch.latency.samples_ns]
    valid = [launch for launch in done if launch.valid]
    failed, problem = _problem(candidate, done, valid)
    depth = max((launch.plan.min_samples for launch in valid or done), default=0)
    counted = [launch for launch in valid or done if launch.plan.min_samples == depth]
    latencies = [launch.latency for launch in counted if launch.latency]
    own_seed = zlib.crc32(candidate.key.encode()) ^ seed
    limit = budget.max_latency
    limited = limited_bootstrap(latencies, limit.statistic, seed=own_seed) if limit else None
    peaks = [launch.memory.peak_bytes for launch in launches if launch.memory]
    return Figures(
        candidate,
        failed=failed,
        problem=problem,
        working=bool(done) and all(launch.ok or launch.status in _UNKNOWN for launch in launches),
        latency=typical_bootstrap(latencies, seed=own_seed),
        limited=limited.interval() if limited else None,
        item_ns=_item_ns(counted),
        samples=sum(len(latency.samples_ns) for latency in latencies),
        memory_bytes=max((peak for peak in peaks if peak is not None), default=None),
        accuracy=_worst(launches),
        stable=2 * sum("unstable" in launch.flags for launch in counted) < max(1, len(counted)),
        depth=depth,
    )


def _item_ns(launches: Sequence[Measurement]) -> Interval | None:
    """Median of the launches' times per item, from the least to the most of them."""
    times = sorted(1e9 / launch.items_per_second for launch in launches if launch.items_per_second)
    return Interval(statistics.median(times), times[0], times[-1]) if times else None


def _problem(candidate: Candidate, done: Sequence[Measurement], valid: Sequence[Measurement]) -> tuple[bool, str]:
    """Whether a launch failed, and in one sentence why the candidate is out."""
    launches = candidate.measurements
    for launch in launches:
        if launch.status not in _UNKNOWN | {OK}:
            return True, _happened(launch)
    wrong = [launch.correctness for launch in launches if launch.correctness and not launch.correctness.passed]
    if wrong:
        detail = wrong[0].reason or f"cosine {wrong[0].cosine:.4f} to the source model"
        return False, f"gives wrong outputs on the device: {detail}"
    if not done:
        lost = f" ({launches[0].status}: {launches[0].detail})" if launches else ""
        return True, f"was not measured on the device{lost}"
    if not valid:
        flags = sorted({flag for launch in done for flag in launch.flags})
        return (
            False,
            f"cannot be ranked, all its launches are flagged {', '.join(flags)}: let the device rest and repeat",
        )
    return False, ""


def _happened(launch: Measurement) -> str:
    kind, _, phase = launch.status.partition(":")
    what = f"ran past its deadline ({phase or 'run'})" if kind == "timeout" else _HAPPENED.get(kind, f"failed ({kind})")
    detail = f": {launch.detail.rstrip('.')}" if launch.detail else ""
    return f"{what} on {launch.settings.runtime} {launch.runtime_version}, {launch.settings}{detail}".replace(" ,", ",")


def _worst(launches: Sequence[Measurement]) -> Accuracy | None:
    """The lowest accuracy of all launches; they only differ where the runtime does not repeat itself."""
    known = [launch.accuracy for launch in launches if launch.accuracy]
    return min(known, key=lambda accuracy: (math.isfinite(accuracy.value), accuracy.value), default=None)


def _accuracy_of_same_file(item: Figures, others: Sequence[Figures]) -> Accuracy | None:
    """Accuracy of the same file in the same runtime on the same device: threads change when, not what, is computed."""

    def what(candidate: Candidate) -> tuple[str, str, str]:
        settings = candidate.settings
        return candidate.variant.artifact.digest, settings.runtime, settings.graph_optimisation

    same = [other.accuracy for other in others if what(other.candidate) == what(item.candidate) and other.accuracy]
    return min(same, key=lambda accuracy: accuracy.value, default=None)


def _with_drop(item: Figures, reference: Accuracy | None, seed: int) -> Figures:
    """Add the loss of the metric, or why there is none. A fidelity is a loss against the source model by itself."""
    accuracy = item.accuracy
    if accuracy is None:
        return replace(item, no_drop="has no accuracy measured on the device")
    if not all(map(math.isfinite, (accuracy.value, *accuracy.per_sample))):
        return replace(item, no_drop=f"has a {accuracy.metric} on the device that is not a number")
    if accuracy.metric == "fidelity":
        before = Accuracy("fidelity", 1.0, (1.0,) * len(accuracy.per_sample), samples=accuracy.samples)
    elif reference is None or not math.isfinite(reference.value):
        return replace(item, no_drop="has no original to compare its accuracy with on the device")
    else:
        before = reference
    if (before.metric, before.samples) != (accuracy.metric, accuracy.samples):
        return replace(
            item,
            no_drop=f"was not evaluated on the samples of the original ({before.metric} on "
            f"{before.samples}, this one {accuracy.metric} on {accuracy.samples})",
        )
    if accuracy.per_sample and len(before.per_sample) == len(accuracy.per_sample):
        own_seed = zlib.crc32(item.key.encode()) ^ seed
        return replace(item, drop=drop_interval(before.per_sample, accuracy.per_sample, seed=own_seed))
    loss = before.value - accuracy.value
    return replace(item, drop=Interval(loss, loss, loss))
