"""A signed release tree made with python-tuf alone, every part of which a test may spoil."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edgeopt_runner.protocol import offers

ROLES = ("root", "targets", "snapshot", "timestamp")
SETTINGS = {"runtime": "onnxruntime", "threads": 1, "graph_optimisation": "all", "spinning": True}
PROFILE = "generic-x86_64"


class PullTree:
    """A tree in a folder; every `publish` makes new versions of all that is not root.

    Args:
        folder: Where it is written.
        expires: Of all metadata.
    """

    def __init__(self, folder: Path, *, expires: dt.datetime | None = None) -> None:
        self.folder = folder
        self.expires = expires or dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(days=30)
        self.signers = {role: CryptoSigner.generate_ed25519() for role in (*ROLES, "rollouts")}
        self.version = 0
        self._targets: dict[str, TargetFile] = {}
        self._offers: dict[str, TargetFile] = {}
        self.root = Root(version=1, expires=self.expires, consistent_snapshot=True)
        for role in ROLES:
            self.root.add_key(self.signers[role].public_key, role)
        self._write(self.root, self.signers["root"])

    @property
    def first_root(self) -> dict[str, Any]:
        """Root version 1, to pin."""
        found: dict[str, Any] = json.loads((self.folder / "metadata/1.root.json").read_text())
        return found

    def rotate(self, role: str) -> None:
        """A new root in which a role has another key."""
        old, new = self.signers["root"], CryptoSigner.generate_ed25519()
        self.root.revoke_key(self.signers[role].public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.signers[role] = new
        self.root.version += 1
        self._write(self.root, old, self.signers["root"])

    def release(self, app: str, version: str, counter: int, model: bytes, golden: bytes, **changes: Any) -> str:
        """Add a release with its files; returns the digest of its manifest."""
        entry = {
            "variant": "original",
            "model": {"digest": self.blob(model), "size_bytes": len(model), "format": "onnx"},
            "golden": {"digest": self.blob(golden), "size_bytes": len(golden), "format": "npz"},
            "settings": SETTINGS,
            "machines": [],
            "min_runtime": "",
            "health": {"min_cosine": 0.99, "max_latency_ns": None, "max_memory_bytes": None, "runs": 5},
            "measured": None,
            "scratch_bytes": 0,
            "run_id": "",
            **changes.pop("entry", {}),
        }
        now = int(dt.datetime.now().timestamp())
        manifest = {
            "schema": 1,
            "app": app,
            "version": version,
            "counter": counter,
            "created": now - 60,
            "expires": now + 86400,
            "entries": {changes.pop("profile", PROFILE): entry},
            "revoked": [],
            "restores": "",
            "notes": "",
            **changes,
        }
        data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        return self._target(self._targets, offers.target(app, version), data)

    def offer(self, app: str, version: str, rollout: str = "0" * 16, **changes: Any) -> None:
        """Offer a release to boards."""
        document: dict[str, Any] = {
            "app": app,
            "release": version,
            "target": offers.target(app, version),
            "rollout_id": rollout,
            "labels": {},
            "fraction_per_10000": offers.WHOLE,
            "not_before": 0,
            "window": None,
            "created": int(dt.datetime.now().timestamp()) - 60,
            **changes,
        }
        self._target(self._offers, offers.path(app), json.dumps(document).encode())

    def blob(self, data: bytes) -> str:
        """Put a file of a release into the tree."""
        digest = hashlib.sha256(data).hexdigest()
        self._put(f"blobs/{digest}", data)
        return digest

    def publish(self) -> None:
        """Sign all of it."""
        self.version += 1
        key = self.signers["rollouts"].public_key
        role = DelegatedRole("rollouts", [key.keyid], 1, False, paths=["rollouts/*"])
        delegations = Delegations({key.keyid: key}, {"rollouts": role})
        targets = Targets(self.version, expires=self.expires, targets=self._targets, delegations=delegations)
        rollouts = Targets(self.version, expires=self.expires, targets=self._offers)
        named = {f"{name}.json": MetaFile(self.version) for name in ("targets", "rollouts")}
        self._write(targets, self.signers["targets"])
        self._write(rollouts, self.signers["rollouts"], name="rollouts")
        self._write(Snapshot(self.version, expires=self.expires, meta=named), self.signers["snapshot"])
        stamp = Timestamp(self.version, expires=self.expires, snapshot_meta=MetaFile(self.version))
        self._write(stamp, self.signers["timestamp"])

    def _target(self, role: dict[str, TargetFile], path: str, data: bytes) -> str:
        role[path] = TargetFile.from_data(path, data, ["sha256"])
        digest = hashlib.sha256(data).hexdigest()
        folder, _, name = path.rpartition("/")
        self._put(f"targets/{folder}/{digest}.{name}", data)
        return digest

    def _write(self, signed: Any, *signers: CryptoSigner, name: str = "") -> None:
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        role = name or signed.type
        file = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self._put(f"metadata/{file}", metadata.to_bytes(JSONSerializer(compact=True)))
        if role == "timestamp":  # servers make entity tags of size and second, and tests publish twice in one
            os.utime(self.folder / "metadata" / file, (1_700_000_000, 1_700_000_000 + signed.version))

    def _put(self, path: str, data: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(data)


def agent_settings(url: str, **changes: Any) -> Mapping[str, Any]:
    """Settings of an agent that does not wait long between tries."""
    retry = {"attempts": 4, "first_seconds": 0.01}
    return {"url": url, "device_id": "board-1", "profile": PROFILE, "retry": retry, **changes}
