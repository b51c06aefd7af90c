"""Finds rollouts in the ledger's database."""

from __future__ import annotations

from edgeopt.core.rollout import BoardProgress, Rollout
from edgeopt.errors import StoreError
from edgeopt.store.rollouts import RolloutStore, RolloutSummary
from edgeopt.workflow.workspace import Workspace

_RECENT = 20


def rollout_store(workspace: Workspace) -> RolloutStore:
    """The rollouts of a workspace, to be closed; best used in a ``with``.

    Raises:
        StoreError: The database cannot be opened.
    """
    return RolloutStore(workspace.ledger.url)


def find_rollout(name: str, workspace: Workspace) -> Rollout:
    """A rollout as it stands.

    Args:
        name: Its id, or a beginning of it; ``last`` is the newest, ``app`` or ``app@version`` the newest of those.

    Raises:
        StoreError: There is none, or several fit.
    """
    with rollout_store(workspace) as store:
        return store.rollout(find_id(name, store))


def find_id(name: str, store: RolloutStore) -> str:
    """The id of a rollout that is named as for `find_rollout`.

    Raises:
        StoreError: There is none.
    """
    known = store.rollouts(200)
    for one in known:
        if name in ("last", one.release, one.release.partition("@")[0]):
            return one.rollout_id
    if not known:
        raise StoreError("there is no rollout yet.", remedy="Start one: edgeopt fleet update APP@VERSION --to all.")
    return name


def standing_rollouts(workspace: Workspace) -> tuple[Rollout, ...]:
    """The rollouts that left something on a board which no later one replaced, in the order in which they were planned.

    Raises:
        StoreError: They cannot be read.
    """
    with rollout_store(workspace) as store:
        return tuple(store.rollout(rollout_id) for rollout_id in store.last_committed())


def newest_by_app(workspace: Workspace) -> tuple[Rollout, ...]:
    """The newest rollout of each app."""
    with rollout_store(workspace) as store:
        newest: dict[str, RolloutSummary] = {}
        for one in store.rollouts(200):
            newest.setdefault(one.release.partition("@")[0], one)
        return tuple(store.rollout(one.rollout_id) for one in newest.values())


def history_of(
    what: str, workspace: Workspace, *, limit: int = _RECENT
) -> tuple[tuple[RolloutSummary, BoardProgress | None], ...]:
    """Rollouts, newest first: all, those of an app, or those that a board took part in with how they went there.

    Raises:
        StoreError: Neither an app nor a board of that name was ever part of one, or they cannot be read.
    """
    with rollout_store(workspace) as store:
        of_app = store.rollouts(limit, app=what)
        if of_app or not what:
            return tuple((one, None) for one in of_app)
        of_board = store.of_board(what, limit)
    if not of_board:
        raise StoreError(f"{what!r} is no app or board of any rollout.", remedy="See edgeopt fleet history.")
    return of_board
