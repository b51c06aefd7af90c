"""A thousand boards in one process: they speak the runner's protocol, frame by frame, to the client that real ones use.

Only what a board *measures* is made up. A board keeps its state in a file where it is given a folder, so that it
outlives the host's process as a real one does.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board, Fleet
from edgeopt.remote import board as client
from edgeopt.workflow.fleet.engine_live import Carrier
from support.simulated_links import SimulatedConnection

BASE_NS = 8_000_000
BASE_BYTES = 60 << 20


@dataclass
class Behaviour:
    """What a board does, whatever it is told.

    Attributes:
        noise: Relative noise of what it measures.
        slower: Change of the latency that the new release has on it.
        soaked_slower: Further change after a while.
        outcome: How updates end.
        liar: Says that it is ten times faster.
        keeps_old: Says that it committed, and runs what it ran.
        offline: How often it cannot be reached; negative: never again.
        cut_after_bytes: The link is lost once when so much of a transfer has arrived.
        code: Goes with `outcome`.
    """

    noise: float = 0.08
    slower: float = 0.0
    soaked_slower: float = 0.0
    outcome: str = "committed"
    liar: bool = False
    keeps_old: bool = False
    offline: int = 0
    cut_after_bytes: int = 0
    code: str = ""


@dataclass
class SimulatedBoard:
    """A board behind the protocol.

    Attributes:
        name, profile, site: Who.
        behaviour: What it does.
        folder: Where its state outlives this process; ``None``: nowhere.
    """

    name: str
    profile: str = "pi5"
    site: str = ""
    behaviour: Behaviour = field(default_factory=Behaviour)
    folder: Path | None = None

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._random = random.Random(self.name)
        self.state: dict[str, Any] = {
            "manifest": "", "version": "0.9.0", "counter": 0, "fence": 0, "jobs": {}, "restarts": 0, "received": 0,
            "highest": 0, "objects": {}, "failed": {}, "speed": self._random.uniform(0.5, 3.0),
        }  # fmt: skip
        self._path = self.folder / f"{self.name}.json" if self.folder else None
        if self._path and self._path.exists():
            self.state = json.loads(self._path.read_text())

    def keep(self) -> None:
        """Write the state where it outlives us."""
        if self._path:
            partial = self._path.with_suffix(".part")
            partial.write_text(json.dumps(self.state))
            partial.replace(self._path)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request, as the runner's server gives it."""
        handler = getattr(self, f"verb_{request['verb']}", None)
        with self._lock:
            if handler is None:
                error = {"code": "unknown_verb", "message": str(request["verb"]), "remedy": ""}
                return {"id": request["id"], "ok": False, "error": error}
            result = handler(**request["params"])
            self.keep()
        return {"id": request["id"], "ok": True, "result": result}

    # the verbs

    def verb_hello(self, **_: Any) -> dict[str, Any]:
        return {
            "protocol": 1,
            "runner": "simulated",
            "pid": 1,
            "boot_id": self.name,
            "utc_offset_seconds": 3600,
            "verbs": ["receive"],
        }

    def verb_have(self, digests: list[str]) -> dict[str, Any]:
        return {"have": [digest for digest in digests if self.has(digest)], "partial": {}}

    def verb_trust(self) -> dict[str, Any]:
        nonce = hashlib.sha256(self.name.encode()).hexdigest()
        versions = dict.fromkeys(("root", "timestamp", "snapshot", "targets"), 1)
        return {"enrolled": True, **versions, "nonce": nonce, "last_trusted_time": 0.0, "insecure": False}

    def verb_trust_update(self, **metadata: Any) -> dict[str, Any]:
        assert metadata["freshness"]["signed"]["nonce"] == self.verb_trust()["nonce"]
        return self.verb_trust()

    def verb_preflight(self, **order: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {"code": "", "reason": "", "needs": [], "have": [], "free_bytes": 1 << 33}
        answer.update(need_bytes=0, collect_bytes=0, before=self._release(order["app"]))
        stopped = self._stopped(order)
        if stopped:
            return {**answer, "action": "refuse", **stopped}
        if self.state["manifest"] == order["manifest"]:
            return {**answer, "action": "nothing", "reason": "it is active already"}
        entry = json.loads(self.state["objects"][order["manifest"]]["text"])["entries"].get(self.profile)
        if entry is None:
            return {**answer, "action": "skip", "code": "no_entry", "reason": "the release has nothing for it"}
        files = (entry["model"], entry["golden"])
        needs = [{"sha256": f["digest"], "size": f["size_bytes"], "have": self.arrived(f["digest"])} for f in files]
        return {**answer, "action": "update", "needs": needs}

    def verb_releases(self, verify: bool = False) -> dict[str, Any]:
        return {"apps": [{**self._release("detector"), "verified": verify}]}

    def verb_submit(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["job_id"] not in self.state["jobs"]:
            self.state["jobs"][job["job_id"]] = {
                **{name: job[name] for name in ("job_id", "nonce", "kind")}, "status": "ok", "detail": "",
                job["kind"]: self._update(job) if job["kind"] == "update" else self._recheck(),
            }  # fmt: skip
        return self.verb_status(job["job_id"])

    def verb_status(self, job_id: str) -> dict[str, Any]:
        return {"state": "done" if job_id in self.state["jobs"] else "unknown", "phase": "commit"}

    def verb_result(self, job_id: str) -> dict[str, Any]:
        return self.state["jobs"][job_id]

    # what it does and measures

    def _update(self, job: Mapping[str, Any]) -> dict[str, Any]:
        speed, behaviour = self.state["speed"], self.behaviour
        found = {"outcome": behaviour.outcome, "code": behaviour.code, "reason": behaviour.code, "step": "commit"}
        found.update(before=self._figures(speed), after=None, version="", release=1, transitions=[])
        stopped = self._stopped(job)
        if stopped:
            return {**found, "outcome": "aborted", **stopped, "step": "preflight"}
        self.state["fence"] = job["fence"]
        release = json.loads(self.state["objects"][job["manifest"]]["text"])
        assert all(self.has(release["entries"][self.profile][part]["digest"]) for part in ("model", "golden"))
        found.update(after=self._figures(speed * (1 + behaviour.slower), behaviour.liar), version=release["version"])
        if behaviour.outcome in ("aborted", "skipped"):
            found.update(step="smoke", after=None)
        else:
            self.state["restarts"] += 1
        if behaviour.outcome == "committed" and not behaviour.keeps_old:
            self.state.update(manifest=job["manifest"], version=release["version"], counter=release["counter"])
            self.state["speed"] = speed * (1 + behaviour.slower)
        return found

    def _recheck(self) -> dict[str, Any]:
        figures = self._figures(self.state["speed"] * (1 + self.behaviour.soaked_slower))
        found = {name: self.state[name] for name in ("version", "manifest")}
        return {**found, "figures": figures, "verdict": "healthy", "reason": ""}

    def _figures(self, speed: float, liar: bool = False) -> dict[str, Any]:
        median = BASE_NS * speed * math.exp(self._random.gauss(0, self.behaviour.noise)) / (10 if liar else 1)
        p95 = median * (1.1 + abs(self._random.gauss(0, self.behaviour.noise)))
        memory = int(BASE_BYTES * math.exp(self._random.gauss(0, 0.02)))
        figures = {"median_ns": int(median), "p95_ns": int(p95), "memory_bytes": memory}
        return {**figures, "cosine": 0.9999, "runs": 50, "disturbed": ""}

    def _stopped(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if order["fence"] < self.state["fence"]:
            return {"code": "fenced", "reason": f"fence {self.state['fence']} is known here"}
        return {}

    def _release(self, app: str) -> dict[str, Any]:
        names = ("version", "counter", "manifest", "highest", "failed")
        release = {name: self.state[name] for name in names}
        return {**release, "app": app, "model": "", "number": 1, "state": "idle", "signed": True, "verified": False}

    # its objects

    def has(self, digest: str) -> bool:
        return bool(self.state["objects"].get(digest, {}).get("whole"))

    def arrived(self, digest: str) -> int:
        return int(self.state["objects"].get(digest, {}).get("bytes", 0))

    def receive(self, digest: str, size: int, data: bytes) -> None:
        """Keep what arrived of an object; its text where it is short, since only manifests are read."""
        with self._lock:
            known = self.state["objects"].setdefault(digest, {"bytes": 0, "text": "", "whole": False})
            self.state["received"] += len(data)
            known["bytes"] += len(data)
            if known["bytes"] == size:
                known["whole"] = True
                if size < 1 << 16:
                    assert hashlib.sha256(data).hexdigest() == digest or known["bytes"] != len(data)
                    known["text"] = data.decode("utf-8", "replace") if data[:1] == b"{" else ""
            self.keep()


class SimulatedSource:
    """A release for simulated boards.

    Args:
        folder: Where its files are made.
        profiles: That it has entries for.
        version: Its version.
        size_bytes: Of each model.
    """

    def __init__(self, folder: Path, profiles: tuple[str, ...], version: str = "1.0.0", size_bytes: int = 2048) -> None:
        self.folder, self.version = folder, version
        folder.mkdir(parents=True, exist_ok=True)
        entries = {
            name: {
                "model": self._file(f"{version}{name}".encode() * (size_bytes // 8)),
                "golden": self._file(b"golden"),
            }
            for name in profiles
        }
        text = json.dumps({"app": "detector", "version": version, "counter": 2, "entries": entries}, sort_keys=True)
        self.digest = self._file(text.encode())["digest"]
        self.bytes_of_all: Counter[str] = Counter()

    def _file(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest
        if not path.exists():
            path.write_bytes(data)
        return {"digest": digest, "size_bytes": len(data), "format": "onnx"}

    def manifest(self, app: str, version: str) -> Path:
        return self.folder / self.digest

    def file(self, digest: str) -> Path | None:
        path = self.folder / digest
        return path if path.exists() else None

    def metadata(self, trust: client.TrustState) -> Mapping[str, Any]:
        return {"roots": [], "delegated": {}, "freshness": {"signed": {"nonce": trust.nonce}, "signatures": []}}


@dataclass
class SimulatedFleet:
    """Boards, and the way to them.

    Attributes:
        boards: By name.
    """

    boards: dict[str, SimulatedBoard]

    @classmethod
    def of(cls, count: int, shape: Callable[[int], dict[str, Any]], folder: Path | None = None) -> SimulatedFleet:
        """So many boards; `shape` gives the fields of each by its number."""
        made = (SimulatedBoard(f"board-{n:05}", folder=folder, **shape(n)) for n in range(count))
        return cls({board.name: board for board in made})

    @property
    def fleet(self) -> Fleet:
        return Fleet(
            tuple(
                Board(Device(name, "ssh", host=name, profile=board.profile), site=board.site)
                for name, board in self.boards.items()
            )
        )

    def carrier(self, source: SimulatedSource) -> Carrier:
        """Reaches them."""
        devices = {board.name: board.device for board in self.fleet.boards}
        return Carrier(
            devices, source, open_device=lambda device: SimulatedConnection(self.boards[device.name], device)
        )

    def total(self, name: str) -> int:
        """A number of all boards together: ``received``, ``restarts``."""
        return sum(int(board.state[name]) for board in self.boards.values())
