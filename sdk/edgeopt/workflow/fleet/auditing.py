"""Writes the fleet's audit log for this user: one line before each deed, so that no deed is without one; a second one
where nothing came of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from edgeopt.errors import EXIT_WAITS, EdgeoptError, StoreError, UsageError
from edgeopt.remote.jobs import this_owner
from edgeopt.store.audit import AUDIT_FILE, AuditLog, Entry, Verdict
from edgeopt.workflow.workspace import Workspace


def audit_log(workspace: Workspace) -> AuditLog:
    """The log of a workspace: `audit.jsonl` in its root."""
    return AuditLog(workspace.root / AUDIT_FILE)


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


@contextlib.contextmanager
def deed(
    log: AuditLog, what: str, subject: str, why: str = "", *, now: Callable[[], float] = time.time
) -> Iterator[None]:
    """Do something, with a line before it: ``publish``; where it fails, one more: ``publish.failed`` with the reason.

    What waits for other people's signatures has ``publish.waits``. A deed that was killed has only the first line.

    Raises:
        StoreError: The log cannot be written, or was tampered with; then nothing was done.
    """
    log.append(what, subject, why, who=this_person(), now=now())
    try:
        yield
    except BaseException as error:
        waits = isinstance(error, EdgeoptError) and error.exit_code == EXIT_WAITS
        said = error.message if isinstance(error, EdgeoptError) else type(error).__name__
        with contextlib.suppress(StoreError):  # what went wrong first is what is told
            log.append(f"{what}.{'waits' if waits else 'failed'}", subject, said, who=this_person(), now=now())
        raise


def log_of(subject: str, workspace: Workspace) -> tuple[Entry, ...]:
    """The lines about a rollout, a release or a board."""
    return tuple(entry for entry in audit_log(workspace).entries() if entry.subject == subject)


def verify_log(workspace: Workspace, expect: str | None = None) -> Verdict:
    """Check the chain.

    Args:
        workspace: Whose log.
        expect: The hash of a line that was noted elsewhere, in full: it must be in the chain; ``None``: none was.

    Raises:
        UsageError: `expect` is no hash.
        StoreError: The log cannot be read.
    """
    if expect is not None and (len(expect) != 64 or set(expect) - set("0123456789abcdef")):
        raise UsageError(f"--expect {expect[:80]!r} is no hash.", remedy="Give the 64 digits that verify named.")
    log = audit_log(workspace)
    verdict = log.verify()
    if verdict.ok and expect is not None and all(entry.hash != expect for entry in log.entries()):
        reason = f"the line with hash {expect[:12]} is not there: the log was rewritten or cut off"
        return dataclasses.replace(verdict, broken=verdict.lines + 1, reason=reason)
    return verdict
