"""Names of processes in the ledger, and whether the one behind a name still lives."""

from __future__ import annotations

import os
import socket


def this_process() -> str:
    """``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def has_ended(owner: str) -> bool:
    """Whether a process of this computer is known to be gone; of other computers' nothing is known."""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # a permission error means that somebody else's process lives
    return False
