"""Requests to a board's trust: a tree that is good today, and what a host makes of it."""

from __future__ import annotations

import json
import time
from typing import Any

from support.hostile_metadata import DAY, World, first_world, signed_file

TODAY = int(time.time())


def world() -> World:
    """A tree that is good for a month from today."""
    made = first_world()
    made.roots.clear()
    made.expires = dict.fromkeys(made.expires, TODAY + 30 * DAY)
    made.add_root()
    return made


def answer(nonce: str, owner: World, now: int = TODAY, **changes: Any) -> dict[str, Any]:
    """A statement of freshness."""
    signed = {"_type": "freshness", "nonce": nonce, "spec_version": "1", "time": now, **changes}
    signed.setdefault("timestamp_version", owner.version["timestamp"])
    return signed_file(signed, *owner.signing.get("timestamp", owner.keys["timestamp"]))


def update(owner: World, freshness: dict[str, Any] | None) -> dict[str, Any]:
    """Parameters of ``trust_update``."""
    files = owner.files()
    params = {
        "roots": [json.loads(root) for root in files.roots],
        "timestamp": json.loads(files.timestamp),
        "snapshot": json.loads(files.snapshot),
        "targets": json.loads(files.targets),
        "delegated": {name: json.loads(file) for name, file in files.delegated.items()},
    }
    return params if freshness is None else {**params, "freshness": freshness}
