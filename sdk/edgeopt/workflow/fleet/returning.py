"""The way back of a rollout: the old content as a new signed release, for the boards that changed.

Not the boards' own `return`: a downgrade that nobody signed is what an attacker with a stolen login would order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.rollout import Rollout
from edgeopt.errors import UsageError
from edgeopt.fleet.rollout import UNDER_WAY
from edgeopt.workflow.fleet.auditing import audit_log, deed
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.orders import give_order
from edgeopt.workflow.fleet.publishing import publish, releases
from edgeopt.workflow.fleet.rolling import RolloutRequest
from edgeopt.workflow.fleet.rollouts import find_rollout
from edgeopt.workflow.workspace import Workspace

_CHANGED = UNDER_WAY | {"committed"}
_IN_DOUBT = frozenset({"waiting", "unreachable", "failed"})
"""What was begun there may have come to its end out of our sight, and what failed its soak still runs."""


@dataclass(frozen=True)
class WayBack:
    """Where a rollout goes back to.

    Attributes:
        rollout_id, release: The rollout that is undone, and what it brought.
        app, version: What the boards get again.
        boards: Those that changed, or may have.
        ended: Whether the rollout has ended.
    """

    rollout_id: str
    release: str
    app: str
    version: str
    boards: tuple[str, ...]
    ended: bool


def way_back(name: str, version: str, workspace: Workspace) -> WayBack:
    """Find where a rollout goes back to; nothing is changed.

    Args:
        name: The rollout, as for `rollouts.find_rollout`.
        version: Where to; empty: what most of the boards that changed had before.
        workspace: Where it is kept.

    Raises:
        UsageError: No board has changed, or what they had before is not published.
    """
    rollout = find_rollout(name, workspace)
    app = rollout.plan.release.partition("@")[0]
    changed = _changed(rollout)
    if not changed:
        raise UsageError(
            f"no board has {rollout.plan.release} from rollout {rollout.rollout_id}.",
            remedy="See edgeopt fleet status.",
        )
    wanted = version or _before(rollout, changed)
    known = {one.name: one for one in releases(workspace, app)}
    brought = known.get(rollout.plan.release)
    if brought is not None and brought.restores and not version:
        raise UsageError(
            f"rollout {rollout.rollout_id} is a way back itself (to {brought.restores}).",
            remedy=f"Go on with it: edgeopt fleet resume {rollout.rollout_id}; or name a version: --to VERSION.",
        )
    published = {one.version for one in known.values()}
    if wanted not in published:
        raise UsageError(
            f"{app}@{wanted} is not published (there is: {', '.join(sorted(published))})."
            if wanted
            else f"the boards had no published release of {app} before.",
            remedy="Name a version: --to VERSION; or edgeopt device rollback BOARD APP.",
        )
    ended = rollout.state in ("done", "cancelled")
    return WayBack(rollout.rollout_id, rollout.plan.release, app, wanted, changed, ended)


def _changed(rollout: Rollout) -> tuple[str, ...]:
    return tuple(
        board.board
        for board in rollout.boards
        if board.wave and (board.state in _CHANGED or (board.attempts and board.state in _IN_DOUBT))
    )


def _before(rollout: Rollout, changed: tuple[str, ...]) -> str:
    names = set(changed)
    counts = Counter(board.before for board in rollout.plan.boards if board.board in names and board.before)
    return counts.most_common(1)[0][0] if counts else ""


def restore(
    back: WayBack, waves: tuple[str, ...], workspace: Workspace, *, command: str, inventory: Path | None = None
) -> RolloutRequest:
    """End the rollout, publish the old content under a new counter, and say what is to be rolled out.

    The rollout is paused first, so that no board is begun while keys are unlocked, and ended once the way back is
    signed: without it, it can go on. Boards that were begun until then go back, too.

    Args:
        back: Where to.
        waves: Of the way back.
        workspace: Where the rollout is kept.
        command: The command line, for the log.
        inventory: As for `boards.load_fleet`.

    Raises:
        EdgeoptError: The release cannot be signed.
    """
    why = f"to {back.app}@{back.version}: {command}"
    with deed(audit_log(workspace), "rollout.rollback", back.rollout_id, why):
        name = _restored(back, workspace, inventory)
    boards = dict.fromkeys((*back.boards, *_changed(find_rollout(back.rollout_id, workspace))))
    return RolloutRequest(name, f"name in ({','.join(boards)})", waves, command=command)


def _restored(back: WayBack, workspace: Workspace, inventory: Path | None) -> str:
    """The name of the release that brings the old content back, signed; the rollout has ended."""
    if not back.ended:
        give_order(back.rollout_id, "pause", workspace)
    counter = max(one.counter for one in releases(workspace, back.app)) + 1
    name = f"{back.version.partition('+')[0]}+restored.{counter}"
    notes = f"instead of {back.release}, rollout {back.rollout_id}"
    published = publish(ReleaseRequest(back.app, name, restore=back.version, notes=notes), workspace)
    if not back.ended:
        give_order(back.rollout_id, "cancel", workspace, inventory=inventory)
    return published.release.name
