"""What the user asks for: limits, and what to minimise under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Objective = Literal["latency", "memory", "size", "time-per-item"]
"""``latency`` is the time of one request; ``time-per-item`` what a sample takes when all sessions are busy: throughput,
upside down."""

Statistic = Literal["median", "mean", "p90", "p95", "p99", "max"]


@dataclass(frozen=True)
class LatencyLimit:
    """An upper bound on one statistic of the latency, for example p90 ≤ 20 ms."""

    statistic: Statistic
    limit_ns: int

    def __str__(self) -> str:
        return f"{self.statistic} {self.limit_ns / 1e6:g} ms"


@dataclass(frozen=True)
class Budget:
    """Limits that a variant must meet on the device.

    Attributes:
        max_drop: Largest loss of the metric against the source model, absolute: 0.01 is one point of top-1.
            ``None``: accuracy is reported but not limited.
        max_latency: Bound on a latency statistic.
        max_memory_bytes: Bound on the peak resident memory of the worker.
        max_size_bytes: Bound on the model file.
        objective: What the winner has least of.
    """

    max_drop: float | None = 0.01
    max_latency: LatencyLimit | None = None
    max_memory_bytes: int | None = None
    max_size_bytes: int | None = None
    objective: Objective = "latency"
