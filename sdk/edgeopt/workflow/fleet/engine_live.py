"""A real board as the engine wants it: the runner's client, the signed tree, and patches where they are smaller."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgeopt.core.device import Device
from edgeopt.core.release import BoardRelease
from edgeopt.deltas.best import Patch, best_patch
from edgeopt.errors import ProtocolError, RunnerError, StoreError, UnknownDeviceError
from edgeopt.remote import board as client
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.untrusted import field
from edgeopt.workflow.fleet.engine_port import BoardPort, OnBytes, Order, Outcome, Preflight, Throttle

_POLL_SECONDS = 0.5
_OVERTAKEN = frozenset({"stale", "rollback_attack"})
_MEASURED = {"healthy": "committed", "unhealthy": "rolled_back", "inconclusive": "inconclusive"}


class Source(Protocol):
    """Where a rollout's files and signatures come from. Called from many threads."""

    def manifest(self, app: str, version: str) -> Path:
        """The file of a signed manifest."""

    def file(self, digest: str) -> Path | None:
        """A file of any release by its digest, or ``None`` where it is not here."""

    def metadata(self, trust: client.TrustState) -> Mapping[str, Any]:
        """What a board lacks, with ``freshness``: the signed answer to its nonce."""


@dataclass(frozen=True)
class Parcel:
    """How one file goes to a board: whole, or as a patch that it rebuilds the file from."""

    need: client.Needed
    path: Path
    patch: Patch | None

    @property
    def send_bytes(self) -> int:
        """What goes over the link."""
        return self.patch.size_bytes if self.patch else self.need.size - self.need.have


class Carrier:
    """Reaches boards for the engine.

    Args:
        devices: By name of the board.
        source: Files and signatures.
        patches: Folder that patches are kept in; ``None``: files go whole.
        open_device: Makes the connection.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        source: Source,
        patches: Path | None = None,
        open_device: Callable[[Device], Connection] = connect,
    ) -> None:
        self._devices, self.source, self.patches, self._open = devices, source, patches, open_device
        self._making = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, board: str) -> Iterator[BoardPort]:
        """A board, connected for the length of the block."""
        device = self._devices.get(board)
        if device is None:
            raise UnknownDeviceError(
                f"{board} is not in the inventory any more.", remedy="Put it back, or go on without."
            )
        with self._open(device) as connection:
            yield LiveBoard(connection, self)

    def patch_for(self, bases: tuple[client.Base, ...], target: Path, codecs: tuple[str, ...]) -> Patch | None:
        """The patch for a board that has these models; made by one thread at a time, once for all alike.

        Where none can be written, to a disk that is full for example, files go whole from then on.
        """
        here = {base.sha256: path for base in bases if (path := self.source.file(base.sha256)) is not None}
        with self._making:
            if self.patches is None or not codecs:
                return None
            try:
                return best_patch(here, target, codecs, self.patches)
            except OSError:
                self.patches = None
                return None


class LiveBoard:
    """A connected board.

    Args:
        connection: Stays the caller's.
        carrier: Whose board it is.
    """

    def __init__(self, connection: Connection, carrier: Carrier) -> None:
        self._connection, self._carrier = connection, carrier
        self._client = client.BoardClient(connection)

    def utc_offset_seconds(self) -> float | None:
        """How far its local time is ahead of UTC, as its runner said when it began to speak."""
        offset = self._connection.hello.get("utc_offset_seconds")
        if not isinstance(offset, (int, float)) or isinstance(offset, bool) or not abs(offset) < 86400:
            return None
        return float(offset)

    def bring_trust(self) -> None:
        """Have it verify the newest metadata; asked anew where somebody else brought newer ones meanwhile."""
        try:
            self._bring_trust()
        except RunnerError as error:
            if error.status not in _OVERTAKEN:
                raise
            self._bring_trust()

    def _bring_trust(self) -> None:
        metadata = dict(self._carrier.source.metadata(self._client.trust()))
        freshness = metadata.pop("freshness")
        self._client.bring_trust(metadata, freshness)

    def preflight(self, order: Order) -> Preflight:
        """Send the manifest, and ask what the board would do."""
        manifest = self._carrier.source.manifest(order.app, order.version)
        self._connection.push(manifest, order.manifest)
        found = self._client.preflight(_order(order))
        parcels = [self._parcel(need, found.have) for need in found.needs if need.have < need.size]
        send_bytes = sum(parcel.send_bytes for parcel in parcels)
        return Preflight(
            found.action, found.code, found.reason, send_bytes, found.free_bytes, found.before, (found, parcels)
        )

    def _parcel(self, need: client.Needed, bases: tuple[client.Base, ...]) -> Parcel:
        path = self._carrier.source.file(need.sha256)
        if path is None:
            raise StoreError(f"{need.sha256[:12]} of the release is not here.", remedy="Publish the release again.")
        codecs = self._connection.hello.get("codecs")
        known = tuple(str(codec) for codec in codecs) if isinstance(codecs, list) else ()
        patch = self._carrier.patch_for(bases, path, known) if not need.have else None
        return Parcel(need, path, patch if patch and patch.size_bytes < need.size else None)

    def send(self, order: Order, preflight: Preflight, throttle: Throttle, on_bytes: OnBytes) -> int:
        """Make room if there is too little, and bring what it lacks."""
        found, parcels = preflight.way
        if found.need_bytes > found.free_bytes and found.collect_bytes:
            self._client.collect([order.manifest, *(need.sha256 for need in found.needs)])
        total, sent = preflight.send_bytes, 0
        for parcel in parcels:
            meter = _Meter(throttle, on_bytes, sent, total)
            sent += self._patched(parcel, meter) if parcel.patch else self._whole(parcel, meter)
        return sent

    def _whole(self, parcel: Parcel, meter: _Meter) -> int:
        return self._connection.push(parcel.path, parcel.need.sha256, meter).sent_bytes

    def _patched(self, parcel: Parcel, meter: _Meter) -> int:
        """Send a patch and have the file rebuilt; whole where the board cannot."""
        assert parcel.patch is not None
        patch, need = parcel.patch, parcel.need
        sent = self._connection.push(patch.path, patch.digest, meter).sent_bytes
        rebuild = jobs.rebuild_job(base=patch.base, patch=patch.digest, result=need.sha256, size=need.size)
        with contextlib.suppress(RunnerError):
            self._connection.run_job(rebuild)
        return sent + self._whole(parcel, meter.anew())

    def update(self, order: Order, on_phase: Callable[[str], None]) -> Outcome:
        """Give the order and wait for its end."""
        found = self._client.update(
            _order(order), rollout=order.rollout, on_progress=_phases(on_phase), job_id=order.job_id
        )
        return _outcome(found, order)

    def collect(self, order: Order, on_phase: Callable[[str], None]) -> Outcome | None:
        """How an order that it was given before ended: by the job's name, whoever's fence it bore."""
        where = f"{self._connection.device.name}: update"
        while True:
            status = self._connection.request("status", job_id=order.job_id)
            state = field(status, "state", str, where)
            if state == "unknown":
                return None
            if state not in ("queued", "running"):
                break
            on_phase(str(status.get("phase", "")))
            time.sleep(_POLL_SECONDS)
        result = self._connection.request("result", job_id=order.job_id)
        if (result.get("job_id"), result.get("kind")) != (order.job_id, "update"):
            raise ProtocolError(f"{where}: a result of another job.", remedy="Is something else answering?")
        return _outcome(self._client.outcome_of(result), order)

    def recheck(self, order: Order) -> Outcome:
        """Measure what is active once more."""
        found = self._client.recheck(order.app, fence=order.fence)
        outcome: Any = _MEASURED[found.verdict]
        return Outcome(outcome, reason=found.reason, after=found.figures, version=found.version)

    def release(self, app: str) -> BoardRelease | None:
        """What it has of an app, its files hashed."""
        return next((found for found in self._client.releases(verify=True) if found.app == app), None)


class _Meter:
    """Hears of the bytes of one file and counts those of all."""

    def __init__(self, throttle: Throttle, on_bytes: OnBytes, before: int, total: int) -> None:
        self._throttle, self._on_bytes, self._before, self._total = throttle, on_bytes, before, total
        self._there: int | None = None

    def anew(self) -> _Meter:
        """One for another file in the same place."""
        return _Meter(self._throttle, self._on_bytes, self._before, self._total)

    def __call__(self, there: int, of: int) -> None:
        moved = there - self._there if self._there is not None and there > self._there else 0
        self._there = there
        self._on_bytes(min(self._before + there, self._total), self._total)
        self._throttle(moved or min(there, of))


def _order(order: Order) -> client.Order:
    return client.Order(order.app, order.manifest, order.target, order.profile, order.fence, order.insecure_unsigned)


def _phases(on_phase: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    return lambda status: on_phase(str(status.get("phase", "")))


def _outcome(found: client.UpdateOutcome, order: Order) -> Outcome:
    done = found.outcome in ("committed", "nothing")
    version = order.version if done else ""
    return Outcome(found.outcome, found.code, found.reason, found.before, found.after, version, found.step)
