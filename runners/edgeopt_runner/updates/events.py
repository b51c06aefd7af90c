"""What happened to releases here, one JSON line each: ``log/events.jsonl``, and one older file of the same size.

For people and for `fleet history`; nothing is decided by it, and a full disk only silences it.
"""

import contextlib
import json
import os
import time
from typing import Any, Dict

from edgeopt_runner.results import one_line

FOLDER = "log"
NAME = "events.jsonl"
LARGEST_BYTES = 256 << 10


def tell(root: str, app: str, record: Dict[str, Any], step: str, detail: str = "") -> None:
    """Write a line.

    Args:
        root: The runner's root.
        app: The app.
        record: Of a transaction: ``kind``, ``transaction``, and where they are known ``version``, ``who``, ``rollout``
            and ``signed``.
        step: What begins or has ended.
        detail: In words.
    """
    event: Dict[str, Any] = {"time": time.time(), "app": app, "step": step, "detail": one_line(detail)}
    for name in ("kind", "transaction", "target", "version", "who", "rollout"):
        event[name] = record.get(name, "")
    event["unsigned"] = not record.get("signed", False)
    line = (json.dumps(event, sort_keys=True, default=str) + "\n").encode("utf-8")
    path = os.path.join(root, FOLDER, NAME)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _make_room(path, len(line))
        with open(path, "ab") as stream:
            stream.write(line)


def _make_room(path: str, more: int) -> None:
    try:
        if os.stat(path).st_size + more > LARGEST_BYTES:
            os.replace(path, path + ".1")
    except FileNotFoundError:
        pass
