"""Orders of an operator to a rollout: pause, resume, cancel; left for whoever drives it, and audited."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.fleet import Fleet
from edgeopt.core.rollout import Rollout
from edgeopt.fleet.rollout import UNDER_WAY
from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow.fleet.auditing import audit_log, deed, this_person
from edgeopt.workflow.fleet.boards import load_fleet
from edgeopt.workflow.fleet.engine import drive
from edgeopt.workflow.fleet.rolling import carrier_of
from edgeopt.workflow.fleet.rollouts import find_id, rollout_store
from edgeopt.workflow.workspace import Workspace


@dataclass(frozen=True)
class Given:
    """An order that was given.

    Attributes:
        rollout_id: To which rollout.
        driver: Who drives it, and carries it out; empty: nobody.
    """

    rollout_id: str
    driver: str


def give_order(
    name: str,
    command: str,
    workspace: Workspace,
    *,
    inventory: Path | None = None,
    now: Callable[[], float] = time.time,
) -> Given:
    """Order a rollout to pause, resume or cancel.

    Where nobody drives it, a cancel is carried out here, and boards that a driver left under way are asked what became
    of them; the other orders stand until somebody does.

    Args:
        name: As for `rollouts.find_rollout`.
        command: ``pause``, ``resume`` or ``cancel``.
        workspace: Where it is kept.
        inventory: As for `boards.load_fleet`.
        now: Seconds since the epoch.

    Raises:
        UsageError: The rollout has ended, or boards are to be asked and there is no inventory.
        StoreError: There is none, or the audit log cannot be written; then nothing was ordered.
    """
    with rollout_store(workspace) as store:
        rollout = store.rollout(find_id(name, store))
        driver = _driver(rollout, store, now())
        fleet = _to_be_asked(rollout, workspace, inventory) if command == "cancel" and not driver else None
        with deed(audit_log(workspace), f"order.{command}", rollout.rollout_id, rollout.plan.release, now=now):
            store.order(rollout.rollout_id, command, by=this_person())
        if fleet is not None:
            drive(store, rollout.rollout_id, fleet, carrier_of(fleet, workspace))
        return Given(rollout.rollout_id, driver)


def _driver(rollout: Rollout, store: RolloutStore, now: float) -> str:
    lease = store.lease(rollout.plan.release.partition("@")[0])
    driven = lease is not None and lease.rollout_id == rollout.rollout_id and lease.expires > now
    return lease.holder if lease and driven else ""


def _to_be_asked(rollout: Rollout, workspace: Workspace, inventory: Path | None) -> Fleet:
    """The boards where some are under way; else none has to be known, since nothing is begun."""
    if any(board.state in UNDER_WAY for board in rollout.boards):
        return load_fleet(workspace, inventory)
    return Fleet(())
