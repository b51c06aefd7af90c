"""What a network has to compute, counted from its file, and what a device took for it: what predictions rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.profile import Settings


@dataclass(frozen=True)
class Work:
    """What one sample takes, counted and not measured.

    Attributes:
        macs: Multiply-accumulates in floating point.
        narrow_macs: Multiply-accumulates in 8 bits.
        spared_macs: How many of both a runtime may spare by Winograd's algorithms (3x3 convolutions of stride 1).
        weight_bytes: Of the weights as they are stored.
        activation_bytes: Of everything that is computed on the way, each tensor once.
        operators: Nodes by kind, without those that only hold constants.
        uncounted: Nodes whose sizes nobody could work out, so that the other figures are too small.
        table_bytes: Of the weights that are tables, of which one sample reads a few rows.
    """

    macs: int
    narrow_macs: int
    spared_macs: int
    weight_bytes: int
    activation_bytes: int
    operators: Mapping[str, int] = field(default_factory=dict)
    uncounted: int = 0
    table_bytes: int = 0

    @property
    def streamed_bytes(self) -> int:
        """Of the weights that every sample reads from end to end."""
        return max(0, self.weight_bytes - self.table_bytes)


@dataclass(frozen=True)
class Machine:
    """What of a device decides how long things take there.

    Attributes:
        fingerprint: Of the device's facts.
        name: ``uname -m``.
        isa: Flags of the CPU that matter to inference.
        cores: CPUs that may be used.
        max_khz: Highest clock; ``None`` where it is not known.
        bandwidth_gb_per_second: Of the memory by its data sheet; 0 where it is not known.
    """

    fingerprint: str
    name: str
    isa: tuple[str, ...]
    cores: int
    max_khz: int | None = None
    bandwidth_gb_per_second: float = 0.0


@dataclass(frozen=True)
class Task:
    """Work on a machine under settings: what a time is predicted for.

    Attributes:
        work: Of one sample.
        settings: How it is run.
        machine: Where.
    """

    work: Work
    settings: Settings
    machine: Machine


@dataclass(frozen=True)
class Observation:
    """How long a task took on a board.

    Attributes:
        model: Digest of the network that the variant was made of.
        variant: Digest of the file that ran.
        task: What was done.
        latency_ns: Median of a request.
    """

    model: str
    variant: str
    task: Task
    latency_ns: float


@dataclass(frozen=True)
class Prediction:
    """Of one candidate, what was expected before the board was asked, and what it then took.

    Attributes:
        key: The candidate's.
        predicted_ns, measured_ns: Latencies of its first launch.
    """

    key: str
    predicted_ns: float
    measured_ns: float


@dataclass(frozen=True)
class Forecast:
    """What decided the order in which candidates were measured, and how well that order was foreseen.

    Attributes:
        basis: Name of the predictor.
        rows: Launches in the ledger that it learned from; 0 where it knows none.
        predictions: What was foreseen and what came, in the order of the launches.
        correlation: Spearman's rank correlation of both; ``None`` with fewer than three.
    """

    basis: str
    rows: int = 0
    predictions: tuple[Prediction, ...] = ()
    correlation: float | None = None
