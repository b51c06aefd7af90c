"""Measures many small networks on one device, many in a job: starting a worker costs far more than timing one of them.

All are measured in turn, and then all again in the opposite order, so that what disturbs the board for a while does not
hit a network both times; what disturbs a measurement makes it longer, so the lesser time counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.core.measurement import OK, Measurement
from edgeopt.core.model import Artifact
from edgeopt.core.plan import Plan
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import Recipe
from edgeopt.core.variant import Provenance, Variant
from edgeopt.errors import PassError
from edgeopt.remote import jobs
from edgeopt.store.keys import Conditions, measurement_key
from edgeopt.workflow.measuring import ATTEMPTS, TRANSIENT, Bench, deadlines

PASSES = 2
MOST_IN_A_JOB = 24
"""A lost link or a crash repeats no more than these; about a quarter of a minute."""

_COSINE = 0.99
_BREAKS = frozenset({"crash", "illegal_instruction", "oom", "memory_guard", "process_guard"})
"""Ends of a worker that one of its networks may be to blame for; beside these, phases that took too long."""


@dataclass(frozen=True)
class Small:
    """A network to time.

    Attributes:
        name: What users read.
        artifact: Its file.
        golden: Its samples, with the outputs that it should have.
    """

    name: str
    artifact: Artifact
    golden: Artifact


def least_medians(bench: Bench, networks: Sequence[Small], settings: Settings, plan: Plan) -> list[float]:
    """The lesser median of each network's passes, in milliseconds; those that the ledger knows are not measured.

    Args:
        bench: The device, connected and leased, and the ledger.
        networks: What to time.
        settings: How each is run.
        plan: How each is measured; one that does not evaluate.

    Raises:
        PassError: A network cannot be loaded, gives wrong outputs, or takes the worker down; names it.
        DeviceError: The device cannot be reached, or lost the job again and again.
    """
    orders = [_ordered(bench, network, settings, plan) for network in networks]
    passes = [_Pass(bench, launch, orders) for launch in range(PASSES)]
    if count := sum(len(one.missing) for one in passes):
        bench.listener.stage("Measuring layers", count)
    for one in passes:
        one.complete()
    return [min(one.milliseconds(order) for one in passes) for order in orders]


@dataclass(frozen=True)
class _Order:
    """A network with everything that its measurement depends on."""

    network: Small
    conditions: Conditions
    key: str


def _ordered(bench: Bench, network: Small, settings: Settings, plan: Plan) -> _Order:
    own = replace(bench, prepared=replace(bench.prepared, golden=network.golden))
    provenance = Provenance(network.artifact.digest, Recipe("layer"), "", {}, 0)
    conditions = own.conditions(Variant("layer", network.artifact, provenance, cosine=_COSINE), settings, plan)
    return _Order(network, conditions, measurement_key(conditions))


class _Pass:
    """One measurement of every network: what is known of it, and what is missing, every second time from the end."""

    def __init__(self, bench: Bench, launch: int, orders: Sequence[_Order]) -> None:
        self._bench, self._launch = bench, launch
        known = {order.key: bench.known(order.key, launch) for order in orders}
        self._found = {key: measurement for key, measurement in known.items() if measurement is not None}
        self.missing = [order for order in orders[:: -1 if launch % 2 else 1] if order.key not in self._found]
        self._demand_ok(orders)

    def milliseconds(self, order: _Order) -> float:
        """The median of a network."""
        latency = self._found[order.key].latency
        assert latency is not None
        return latency.median_ns / 1e6

    def complete(self) -> None:
        """Measure what is missing, in jobs of a bounded number; each is in the ledger when it ends."""
        for start in range(0, len(self.missing), MOST_IN_A_JOB):
            part = self.missing[start : start + MOST_IN_A_JOB]
            self._measure(part)
            self._demand_ok(part)
            for order in part:
                self._bench.listener.advance(f"{order.network.name}: {self.milliseconds(order):.3f} ms")

    def _measure(self, part: Sequence[_Order]) -> None:
        """Again, at most three times in all, those that the board spoiled; the last is taken as it is, this once."""
        pending = list(part)
        for _ in range(ATTEMPTS):
            self._send(pending)
            pending = [order for order in pending if self._found[order.key].spoiled]
            if not pending:
                return

    def _send(self, part: Sequence[_Order]) -> None:
        """One job; where a network takes the worker down, the halves, until the one that does it stands alone."""
        result = self._run(part)
        status = str(result["status"])
        if status == OK:
            self._keep(part, jobs.layers_of(result))
        elif not (status in _BREAKS or status.startswith("timeout:")):
            jobs.require_ok(result, "measuring layers")
        elif len(part) == 1:
            self._keep(part, [_broken(part[0], status, str(result.get("detail") or ""))])
            self._demand_ok(part)
        else:
            middle = len(part) // 2
            self._send(part[:middle])
            self._send(part[middle:])

    def _run(self, part: Sequence[_Order]) -> Mapping[str, Any]:
        """The result of a job; again, at most three times in all, where the board lost it."""
        bench, conditions = self._bench, part[0].conditions
        bench.push(*(file for order in part for file in (order.network.artifact, order.network.golden)))
        files = [jobs.LayerFile(order.network.artifact, order.network.golden.digest) for order in part]
        result: Mapping[str, Any] = {}
        for _ in range(ATTEMPTS):
            job = jobs.layers_job(
                files,
                settings=conditions.settings,
                plan=conditions.plan,
                min_cosine=conditions.min_cosine,
                max_start_celsius=bench.profile.max_start_celsius,
                deadline_seconds=deadlines(conditions.plan),
            )
            result = bench.connection.run_job(job)
            if result["status"] not in TRANSIENT:
                break
        return result

    def _keep(self, part: Sequence[_Order], rows: Sequence[Measurement]) -> None:
        for order, row in zip(part, rows, strict=True):
            self._found[order.key] = row
            self._bench.remember(order.key, self._launch, row)

    def _demand_ok(self, orders: Sequence[_Order]) -> None:
        """Refuse where a network has no time."""
        failed = [order for order in orders if order.key in self._found and not self._found[order.key].ok]
        if not failed:
            return
        told = "; ".join(f"{order.network.name}: {_why(self._found[order.key])}" for order in failed)
        raise PassError(
            f"layers cannot be measured on {self._bench.connection.device.name}: {told}",
            remedy="Use macs or ratio in place of latency.",
        )


def _why(measurement: Measurement) -> str:
    if measurement.status != OK:
        return f"{measurement.status}, {measurement.detail or 'no detail'}"
    return measurement.correctness.reason if measurement.correctness else "its outputs are wrong"


def _broken(order: _Order, status: str, detail: str) -> Measurement:
    """What is known of a network that takes the worker down."""
    known = order.conditions
    return Measurement(
        variant_digest=known.variant_digest,
        settings=known.settings,
        plan=known.plan,
        device_fingerprint=known.device_fingerprint,
        runtime_version=known.runtime_version,
        runner=known.runner,
        status=status,
        detail=detail,
    )
