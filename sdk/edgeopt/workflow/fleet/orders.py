"""Orders of an operator to a rollout: pause, resume, cancel; left for whoever drives it, and audited."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeopt.core.fleet import Fleet
from edgeopt.workflow.fleet.auditing import note, this_person
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


def give_order(name: str, command: str, workspace: Workspace, *, now: Callable[[], float] = time.time) -> Given:
    """Order a rollout to pause, resume or cancel.

    Where nobody drives it, a cancel is carried out here; the other orders stand until somebody does.

    Args:
        name: As for `rollouts.find_rollout`.
        command: ``pause``, ``resume`` or ``cancel``.
        workspace: Where it is kept.
        now: Seconds since the epoch.

    Raises:
        UsageError: The rollout has ended.
        StoreError: There is none.
    """
    with rollout_store(workspace) as store:
        rollout = store.rollout(find_id(name, store))
        store.order(rollout.rollout_id, command, by=this_person())
        note(workspace, f"order.{command}", rollout.rollout_id, rollout.plan.release, now=now)
        lease = store.lease(rollout.plan.release.partition("@")[0])
        driven = lease is not None and lease.rollout_id == rollout.rollout_id and lease.expires > now()
        if command == "cancel" and not driven:
            fleet = Fleet(())  # nothing is begun: no board has to be known
            drive(store, rollout.rollout_id, fleet, carrier_of(fleet, workspace))
        return Given(rollout.rollout_id, lease.holder if lease and driven else "")
