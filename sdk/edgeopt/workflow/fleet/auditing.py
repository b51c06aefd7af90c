"""Writes the fleet's audit log for this user: one line before each deed, so that no deed is without one."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgeopt.remote.jobs import this_owner
from edgeopt.store.audit import AuditLog, Entry
from edgeopt.workflow.workspace import Workspace


def audit_log(workspace: Workspace) -> AuditLog:
    """The log of a workspace: `audit.jsonl` in its root."""
    return AuditLog(workspace.root / "audit.jsonl")


def this_person() -> str:
    """``user@host``."""
    owner = this_owner()
    return f"{owner.owner}@{owner.host}"


def note(
    workspace: Workspace, what: str, subject: str, why: str = "", *, now: Callable[[], float] = time.time
) -> Entry:
    """Add a line by this user; see `AuditLog.append`.

    Raises:
        StoreError: The log cannot be written, or was tampered with.
    """
    return audit_log(workspace).append(what, subject, why, who=this_person(), now=now())
