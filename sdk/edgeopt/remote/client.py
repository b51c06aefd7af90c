"""The runner's client: one device, its runner in place and answering, over a link that is made again when it is lost.

A lost link means *unknown*, never *failed*: every verb is idempotent, so the client reconnects and asks again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from edgeopt import home
from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.profile import Settings
from edgeopt.errors import BusyError, ConnectError, EdgeoptError, LinkLostError, ProtocolError, StoreError
from edgeopt.remote import jobs, loader, push, shell
from edgeopt.remote.bundle import BUNDLE_NAME, Bundle, build_bundle
from edgeopt.remote.facts import facts_of
from edgeopt.remote.link import STALL_SECONDS, Link
from edgeopt.remote.session import RECEIVE, Session
from edgeopt.remote.stage import Stage, order_of
from edgeopt.remote.untrusted import check_digest, field, one_line
from edgeopt_runner.protocol import LEASE_SECONDS, PROTOCOL

T = TypeVar("T")
OnProgress = Callable[[Mapping[str, Any]], None]

REQUEST_SECONDS = 60.0
PROBE_SECONDS = 180.0
_REQUEST_ATTEMPTS = 3
_TRANSFER_ATTEMPTS = 5
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 8.0
_FIRST_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 2.0
_POLL_SHARE = 0.08
"""A job is asked for about this share of its age after the last time: short ones soon, long ones seldom."""
PATIENCE_SECONDS = 600.0
"""How long a job waits for its device to come back: boards take minutes to reboot."""


def connect(
    device: Device,
    *,
    owner: jobs.Owner | None = None,
    known_hosts: Path | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> Connection:
    """Reach a device and put the runner there.

    Args:
        device: The device.
        owner: Who asks, for leases and jobs; by default this user on this computer.
        known_hosts: Pinned host keys; by default the file in edgeopt's home.
        stall_seconds: Longest silence that a call bears.

    Returns:
        A connection, to be closed; best used in a ``with``.

    Raises:
        ConnectError: It cannot be reached.
        UnknownHostKeyError: Its host key is not pinned.
        ChangedHostKeyError: Its host key is another than the pinned one.
        AuthenticationError: It refused the login.
        ProvisionError: It has no Python >= 3.6.
        RemoteDiskError: Its root cannot be written.
        ProtocolError: Its login prints things but starts nothing.
        DeadlineError: It fell silent.
        StoreError: edgeopt's home cannot be written here.
    """
    bundle = _bundle()
    return Connection(device, bundle, owner or jobs.this_owner(), known_hosts, stall_seconds)


def _bundle() -> Bundle:
    path = home.home() / "cache" / "runner" / BUNDLE_NAME
    try:
        return build_bundle(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}.", remedy="Set EDGEOPT_HOME to a folder of yours.") from None


class Connection:
    """A device with its runner. Made by `connect`; requests may come from several threads.

    Attributes:
        device: The device.
        owner: Who asks.
        patience_seconds: How long a job waits for the device to come back.
    """

    def __init__(
        self, device: Device, bundle: Bundle, owner: jobs.Owner, known_hosts: Path | None, stall_seconds: float
    ) -> None:
        self.device, self.owner = device, owner
        self._bundle, self._known_hosts, self._stall_seconds = bundle, known_hosts, stall_seconds
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._leased = 0
        self.patience_seconds = PATIENCE_SECONDS
        self._open()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def runner_digest(self) -> str:
        """SHA-256 of the code of the runner that answers."""
        return self._bundle.code_digest

    def close(self) -> None:
        """End the connection; jobs on the device go on."""
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None

    def _open(self) -> None:
        self._link = self._make_link()
        try:
            self.placed, channel, reader = loader.start(self._link, self.device, self._bundle)
            self._session = Session(self._link, channel, reader)
            self.hello = self._session.request("hello", {"protocols": [PROTOCOL]}, REQUEST_SECONDS)
            if self.hello.get("protocol") != PROTOCOL:
                raise ProtocolError(f"{self.device.name}: the runner speaks protocol {self.hello.get('protocol')!r}.")
        except BaseException:
            self.close()
            raise

    def _make_link(self) -> Link:
        if self.device.transport == "local":
            from edgeopt.remote.local import LocalLink

            return LocalLink(self.device.name)
        from edgeopt.remote.known_hosts import KnownHosts
        from edgeopt.remote.ssh import SshLink

        return SshLink(self.device, known_hosts=KnownHosts(self._known_hosts), stall_seconds=self._stall_seconds)

    def _live(self) -> tuple[Link, Session]:
        """The link and session, made again where they were given up."""
        with self._lock:
            if self._link is not None and self._session.broken_off:
                self.close()
            if self._link is None:
                self._open()
            assert self._link is not None
            return self._link, self._session

    def _drop(self, link: Link) -> None:
        with self._lock:
            if self._link is link:
                self.close()

    def _persist(self, call: Callable[[Link, Session], T], *, attempts: int, patience_seconds: float = 0.0) -> T:
        """Call, and on a lost link reconnect and call again: so often at least, and for so long at least."""
        wait_seconds, attempt, started = _FIRST_WAIT_SECONDS, 1, time.monotonic()
        while True:
            link: Link | None = None
            try:
                link, session = self._live()
                return call(link, session)
            except (LinkLostError, ConnectError):
                if link is not None:
                    self._drop(link)
                waited_seconds = time.monotonic() - started
                if attempt >= attempts and waited_seconds >= patience_seconds:
                    raise
            time.sleep(wait_seconds)
            wait_seconds, attempt = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS), attempt + 1

    def request(self, verb: str, *, deadline_seconds: float = REQUEST_SECONDS, **params: Any) -> dict[str, Any]:
        """Ask the runner; asks again over a new link where the link was lost (every verb is idempotent).

        Raises:
            RunnerError: The runner refused; `status` has its code.
            DeviceError: It cannot be reached any more, or its answer is none.
        """
        return self._persist(
            lambda _, session: session.request(verb, params, deadline_seconds), attempts=_REQUEST_ATTEMPTS
        )

    def probe(self, *, runtimes: bool = True) -> DeviceFacts:
        """What the device is and what it can run.

        Raises:
            ProtocolError: Its answer does not have that shape.
        """
        answer = self.request("probe", deadline_seconds=PROBE_SECONDS, runtimes=runtimes)
        return facts_of(answer, self.device.name)

    def have(self, digests: Sequence[str]) -> frozenset[str]:
        """Those of the objects that the device has."""
        answer = self.request("have", digests=list(digests))
        return frozenset(digests) & {str(digest) for digest in field(answer, "have", list, self._where("have"))}

    def push(self, path: Path, digest: str, progress: push.Progress | None = None) -> push.PushReport:
        """Bring a file to the device, verified there; resumed over at most five links.

        It goes through the session, which costs the device nothing; while a lease is held, whose renewal may not wait,
        through a process of its own.

        Args:
            path: The file.
            digest: Its SHA-256.
            progress: Hears of the bytes that are there.

        Raises:
            RemoteDiskError: No room there.
            RunnerError: It arrived with another digest.
            DeviceError: The device cannot be reached any more.
        """
        check_digest(digest, self._where("push"))
        sent, size, where = 0, path.stat().st_size, f"{self.device.name}: sending {path.name}"
        apart = bool(self._leased) or not self._takes_objects

        def once(link: Link, session: Session) -> None:
            nonlocal sent
            receiver = (
                push.receiver(link, self.placed, digest, size, where)
                if apart
                else session.receiving(digest, size, push.seconds_for(size))
            )
            for count in push.send_object(receiver, path, where, progress):
                sent += count

        if not apart or digest not in self.have([digest]):
            self._persist(once, attempts=_TRANSFER_ATTEMPTS)
        return push.PushReport(size, sent)

    @property
    def _takes_objects(self) -> bool:
        """Whether the runner takes objects in its session; the one behind a door may be older than this program."""
        verbs = self.hello.get("verbs")
        return isinstance(verbs, list) and RECEIVE in verbs

    def fetch(self, digest: str, destination: Path, limit_bytes: int) -> int:
        """Bring an object of the device here; returns its size.

        Raises:
            ProtocolError: Larger than `limit_bytes`, or not what its digest says.
            RunnerError: The device does not have it.
        """
        check_digest(digest, self._where("fetch"))
        return self._persist(
            lambda link, _: push.fetch_object(link, self.placed, digest, destination, limit_bytes),
            attempts=_TRANSFER_ATTEMPTS,
        )

    @contextlib.contextmanager
    def lease(self, reason: str) -> Iterator[None]:
        """Have the board for the length of the block; renewed by a thread.

        Raises:
            BusyError: Somebody else has it; names owner and reason.
        """
        self._take_lease(reason)
        self._leased += 1
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew_lease, args=(reason, ended), name="edgeopt-lease", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join(REQUEST_SECONDS)  # a renewal on its way would take the lease again, or meet a closed link
            self._leased -= 1
            with contextlib.suppress(EdgeoptError):
                _, session = self._live()
                session.request("unlease", self.owner.document(), REQUEST_SECONDS)

    def _take_lease(self, reason: str) -> None:
        answer = self.request(
            "lease", owner=self.owner.owner, host=self.owner.host, reason=reason, seconds=LEASE_SECONDS
        )
        if field(answer, "held", bool, self._where("lease")):
            return
        lease = answer.get("lease")
        holder = lease if isinstance(lease, dict) else {}
        who = f"{one_line(str(holder.get('owner')))}@{one_line(str(holder.get('host')))}"
        why = one_line(str(holder.get("reason") or ""))
        raise BusyError(
            f"{self.device.name} is in use by {who}{f' ({why})' if why else ''}.",
            remedy=f"Wait, or ask {who}; the lease ends {LEASE_SECONDS:g} s after its last sign of life.",
            status="busy",
        )

    def _renew_lease(self, reason: str, ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / 3):
            with contextlib.suppress(EdgeoptError):
                self._take_lease(reason)

    def run_job(self, job: Mapping[str, Any], on_progress: OnProgress | None = None) -> dict[str, Any]:
        """Submit a job and wait for its result, through lost links and reboots; a known job is collected, not repeated.

        Args:
            job: A document of `edgeopt.remote.jobs`.
            on_progress: Hears of every status.

        Returns:
            The result document; its ``status`` says whether it ended well.

        Raises:
            LinkLostError: The device did not come back; the job may go on there.
            ProtocolError: The result is not of this job.
            RunnerError: The runner refused it.
        """
        order = {**job, "owner": {**self.owner.document(), "reason": jobs.reason_of(job)}}
        status = self._ask_patiently("submit", job=order)
        started = time.monotonic()
        while field(status, "state", str, self._where("status")) in ("queued", "running"):
            if on_progress is not None:
                on_progress(status)
            elapsed_seconds = time.monotonic() - started
            time.sleep(min(max(elapsed_seconds * _POLL_SHARE, _FIRST_POLL_SECONDS), _LONGEST_POLL_SECONDS))
            status = self._ask_patiently("status", job_id=job["job_id"])
        result = self._ask_patiently("result", job_id=job["job_id"])
        return jobs.check_result(result, job, self.device.name)

    def stage(self, digest: str, settings: Settings, *, doing: str, idle_seconds: float) -> Stage:
        """Have the device load an object as a stage and answer requests; it ends with the link.

        Args:
            digest: SHA-256 of the stage, which was pushed there.
            settings: How to run it.
            doing: What it is, for messages: ``stage 2 of 3``.
            idle_seconds: How long the device waits for the next request.

        Raises:
            RunnerError: It was refused; `status` is ``busy`` where the board is somebody else's.
            DeviceError: The device cannot be reached any more.
        """
        link, _ = self._live()
        order = order_of(self.owner.document(), settings, reason=doing, idle_seconds=idle_seconds)
        return Stage(link, self.placed, digest, order, doing)

    def _ask_patiently(self, verb: str, **params: Any) -> dict[str, Any]:
        return self._persist(
            lambda _, session: session.request(verb, params, REQUEST_SECONDS),
            attempts=_REQUEST_ATTEMPTS,
            patience_seconds=self.patience_seconds,
        )

    def shell(self, script: str, *, deadline_seconds: float = REQUEST_SECONDS) -> shell.Said:
        """Run a script in the login's shell, for what lies outside the runner's root.

        Raises:
            ProtocolError: The login runs no commands (it is restricted to the runner).
            DeviceError: The device cannot be reached any more.
        """
        link, _ = self._live()
        return shell.run(link, script, deadline_seconds)

    def cancel(self, job_id: str) -> None:
        """End a job on the device."""
        self.request("cancel", job_id=job_id)

    def apps(self) -> list[dict[str, Any]]:
        """The applications on the device, with their releases."""
        found = field(self.request("apps"), "apps", list, self._where("apps"))
        return [entry for entry in found if isinstance(entry, dict)]

    def gc(self, keep: Sequence[str] = ()) -> tuple[int, int]:
        """Remove what no release, young job or `keep` names; returns how many objects, and how many bytes."""
        answer, where = self.request("gc", keep=list(keep)), self._where("gc")
        return field(answer, "removed", int, where), field(answer, "freed_bytes", int, where)

    def clean(self, *, force: bool = False) -> None:
        """Take everything of edgeopt's off the device, and end the connection.

        Raises:
            RunnerError: Applications are active there, and `force` is not set.
        """
        self.request("clean", deadline_seconds=PROBE_SECONDS, force=force)
        self.close()

    def logs(self, job_id: str, limit_bytes: int = 65536) -> str:
        """The last of what a job's worker printed."""
        answer = self.request("logs", job_id=job_id, bytes=limit_bytes)
        return str(field(answer, "text", str, self._where("logs")))

    def _where(self, verb: str) -> str:
        return f"{self.device.name}: {verb}"
