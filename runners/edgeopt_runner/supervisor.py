"""The supervisor of one job: detached from the connection, it waits for the board, runs the job and writes its end.

It outlives the SSH session, so that a dropped link loses nothing, and it is a process apart from the worker, so that
whatever a runtime does to its own process, somebody is left to tell.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

from edgeopt_runner import faults, leases, offspring, processes, storage
from edgeopt_runner.guard import GuardedWorker, Outcome, limits_of
from edgeopt_runner.job_document import IN_SUPERVISOR
from edgeopt_runner.locks import FileLock, board_lock_path
from edgeopt_runner.protocol import CANCELLED, HEARTBEAT_SECONDS, LEASE_SECONDS, TIMEOUT
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.results import result_document

QUEUE_SECONDS = 24 * 3600.0
_POLL_SECONDS = 0.25
_TAKE_UP_SECONDS = 0.05
_ENV_KINDS = ("measure", "layers", "check", "pipeline")

Check = Callable[[Dict[str, Any]], Dict[str, Any]]


def supervise(root: str, job_id: str) -> int:
    """Fork off a supervisor for the job and return when it has written its state (or found another at work)."""
    ready_read, ready_write = os.pipe()
    if os.fork():
        os.close(ready_write)
        os.read(ready_read, 1)
        return 0
    os.close(ready_read)
    os.setsid()
    if _take_up(storage.job_folder(root, job_id)):
        Supervisor(root, job_id).run(lambda: os.close(ready_write))
    sys.stderr.flush()
    os._exit(0)


def _take_up(folder: str) -> bool:
    """Take the job for as long as this process lives; False when another supervisor has written that it does it.

    Two hosts may submit one job at once: the later one must not say that nobody took it up.
    """
    lock = FileLock(os.path.join(folder, "supervisor.lock"))
    while not lock.acquire():
        if os.path.exists(os.path.join(folder, "state.json")):
            return False
        time.sleep(_TAKE_UP_SECONDS)
    return True


class Supervisor:
    """Takes one job from ``queued`` to ``done``.

    Args:
        root: The runner's root.
        job_id: The job, whose ``job.json`` is there.
    """

    def __init__(self, root: str, job_id: str) -> None:
        self._root = root
        self._folder = storage.job_folder(root, job_id)
        self._job_id = job_id
        self._job = storage.read_json(os.path.join(self._folder, "job.json"))
        self._owner = self._job["owner"]
        self._cancelled = threading.Event()
        self._ended = threading.Event()
        self._lease_turn = threading.Lock()
        self._holds_board = False
        self._checks = 0
        self._step = ""
        self._state = {"state": "queued", "phase": "queue", "phase_since": time.monotonic(), "waiting_for": ""}
        self._state["supervisor"] = processes.identity(os.getpid())

    def run(self, ready: Callable[[], None]) -> None:
        """Do the whole job.

        Args:
            ready: Called when the state is on disk.
        """
        if os.path.exists(os.path.join(self._folder, "result.json")):
            return
        signal.signal(signal.SIGTERM, lambda *_: self._cancelled.set())
        self._note(durable=True)
        heart = threading.Thread(target=self._beat, daemon=True)
        heart.start()
        ready()
        try:
            status, detail, fields = self._conduct()
        except Exception as error:  # the rim: a job always gets its result
            refusal = refusal_of(error)
            status, detail, fields = refusal.code, refusal.message, {}
        self._ended.set()
        faults.point("supervisor.before_result", match=self._job_id)
        document = result_document(self._job, status, detail, fields)
        storage.write_json(os.path.join(self._folder, "result.json"), document)
        self._note(state="done", worker={})

    def _note(self, durable: bool = False, **changes: Any) -> None:
        self._state.update(changes)
        storage.write_json(os.path.join(self._folder, "state.json"), self._state, durable)

    def _beat(self) -> None:
        """Write the heartbeat, and renew the lease while the board is ours."""
        descriptor = os.open(os.path.join(self._folder, "heartbeat"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        renewed = time.monotonic()
        while True:
            # in place and of fixed length: renaming a file every second would wear out SD cards
            os.pwrite(descriptor, b"%020.3f" % time.monotonic(), 0)
            if time.monotonic() - renewed > LEASE_SECONDS / 3:
                self._renew_lease()
                renewed = time.monotonic()
            if self._ended.wait(HEARTBEAT_SECONDS):
                return

    def _renew_lease(self) -> None:
        with self._lease_turn:
            if self._holds_board:
                try:
                    leases.take(self._root, self._owner, LEASE_SECONDS)
                except OSError:
                    pass  # the lock still keeps the board ours; the lease only tells others

    def _conduct(self) -> Tuple[str, str, Dict[str, Any]]:
        """Wait for the board, do the work there, and leave the board."""
        board = FileLock(board_lock_path(self._root))
        had_lease = self._wait_for_board(board)
        self._holds_board = True
        try:
            self._note(durable=True, state="running", waiting_for="", phase="start", phase_since=time.monotonic())
            offspring.end_orphans()
            if self._job["kind"] in IN_SUPERVISOR:
                return self._release()
            return self._fields(self._guarded("job.json", self._job))
        finally:
            with self._lease_turn:
                self._holds_board = False
                if not had_lease:
                    leases.give_back(self._root, self._owner)
            board.release()

    def _wait_for_board(self, board: FileLock) -> bool:
        """Take lock and lease; returns whether the owner had the lease before. Raises Refusal when the wait is over."""
        started = time.monotonic()
        allowed = limits_of(self._job).deadline_seconds.get("queue", QUEUE_SECONDS)
        while not self._cancelled.is_set():
            lease = leases.current(self._root)
            if (lease is None or leases.belongs(lease, self._owner)) and board.acquire():
                held, lease, had_lease = leases.take(self._root, self._owner, LEASE_SECONDS)
                if held:
                    return had_lease
                board.release()
            waiting_for = leases.described(lease)
            if waiting_for != self._state["waiting_for"]:
                self._note(waiting_for=waiting_for)
            if time.monotonic() - started > allowed:
                raise Refusal(TIMEOUT + ":queue", "waited %g s for %s" % (allowed, waiting_for))
            self._cancelled.wait(_POLL_SECONDS)
        raise Refusal(CANCELLED, "cancelled while it waited for the board")

    def _release(self) -> Tuple[str, str, Dict[str, Any]]:
        result = self._change(str(self._job["kind"]))
        return result["status"], result["detail"], result

    def _change(self, kind: str) -> Dict[str, Any]:
        """Do a job that changes or looks at the releases of an app."""
        from edgeopt_runner import releases
        from edgeopt_runner.updates import standing, update

        if kind == "update":
            return update.update(self._root, self._job, self._check, self._on_step)
        kinds = {"recheck": standing.recheck, "return": standing.go_back}
        kinds.update(activate=releases.activate, rollback=releases.rollback)
        return kinds[kind](self._root, self._job, self._check)

    def _on_step(self, step: str) -> None:
        """A step of a change is the phase that the host sees, whatever phases its workers go through."""
        self._step = step
        self._tell(step, time.monotonic())

    def _tell(self, phase: str, since: float) -> None:
        """Note a phase; a disk that is full for this alone must not end what is under way, least of all a commit."""
        with contextlib.suppress(OSError):
            self._note(phase=phase, phase_since=since)

    def _check(self, check_job: Dict[str, Any]) -> Dict[str, Any]:
        """Run a check in a guarded worker; returns its result document."""
        job = dict(check_job, kind="check", job_id=self._job_id, nonce=self._job["nonce"], owner=self._owner)
        job.setdefault("limits", self._job.get("limits"))
        self._checks += 1
        document = "check-%d.json" % self._checks
        storage.write_json(os.path.join(self._folder, document), job)
        status, detail, fields = self._fields(self._guarded(document, job))
        return result_document(job, status, detail, fields)

    def _guarded(self, document: str, job: Dict[str, Any]) -> Outcome:
        """Run a worker on a document of the job's folder."""
        faults.point("supervisor.before_spawn", match=self._job_id)
        interpreter = self._interpreter(str(job["kind"]))

        def command(events: int) -> List[str]:
            order = ["--root", self._root, "--job", self._job_id, "--document", document]
            channel = ["--events-fd", str(events), "--parent", str(os.getpid())]
            return processes.program(interpreter) + ["work"] + order + channel

        log_path = os.path.join(self._folder, "log")
        with GuardedWorker(command, log_path, limits_of(job), self._on_phase) as worker:
            self._note(worker=worker.identity)
            faults.point("supervisor.after_spawn", match=self._job_id)
            return worker.wait(self._cancelled)

    def _on_phase(self, phase: str, since: float) -> None:
        if not self._step:
            self._tell(phase, since)

    def _interpreter(self, kind: str) -> str:
        """The provisioned environment's interpreter for work that needs a runtime, else the one that runs us."""
        provisioned = storage.provisioned_python(self._root)
        return provisioned if kind in _ENV_KINDS and os.path.exists(provisioned) else sys.executable

    def _fields(self, outcome: Outcome) -> Tuple[str, str, Dict[str, Any]]:
        """Status, detail and what the kind adds, with the fall of MemAvailable where the worker did not watch it."""
        fields = outcome.result or {}
        memory = (fields.get("measurement") or {}).get("memory")
        if isinstance(memory, dict) and memory.get("available_drop_bytes") is None:
            memory["available_drop_bytes"] = outcome.available_drop_bytes
        return outcome.status, outcome.detail, fields
