"""Offers a published release to boards that pull: signs its rollout file, and brings the tree to their store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeopt.errors import UsageError
from edgeopt.publishing.offers import Terms, rollout_file
from edgeopt.publishing.tree import Pushed
from edgeopt.signing.repository import Repository
from edgeopt.workflow.fleet.auditing import note
from edgeopt.workflow.fleet.storing import store
from edgeopt.workflow.fleet.tree import repository_of, tree_folder
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol import offers


@dataclass(frozen=True)
class Offered:
    """A release that is offered.

    Attributes:
        app, version: The release.
        terms: To whom; with the rollout's identifier.
        widened: Whether it is the rollout that was offered before, with other terms.
        pushed: What was brought to the store; ``None``: nothing was asked to be.
    """

    app: str
    version: str
    terms: Terms
    widened: bool
    pushed: Pushed | None = None


def offer(
    name: str, terms: Terms, workspace: Workspace, *, to: str = "", now: Callable[[], float] = time.time
) -> Offered:
    """Offer a release.

    An app has one offer at a time. The same release to the same labels stays the same rollout: a larger fraction adds
    boards to those that have it.

    Args:
        name: ``app@version``, published.
        terms: To whom.
        workspace: Whose tree and keys.
        to: Store to bring the tree to; empty: nowhere.
        now: Seconds since the epoch.

    Raises:
        UsageError: The release is not published, or the terms cannot be signed.
        SigningError: The tree cannot be read, or a key is missing.
        StoreError: The store cannot be written; the offer is signed, and `publish --to` brings it there.
    """
    app, _, version = name.partition("@")
    repository = repository_of(workspace)
    if not any(target.path == offers.target(app, version) for target in repository.targets(app)):
        known = ", ".join(target.path.rpartition("/")[2].removesuffix(".json") for target in repository.targets(app))
        raise UsageError(
            f"{name} is not published (of {app or 'it'} there is: {known or 'nothing'}).",
            remedy="Publish it first: edgeopt publish APP@VERSION --from RUN.",
        )
    before = _standing(repository, app)
    same = before is not None and (before.release, dict(before.labels)) == (version, terms.labels)
    kept = terms.rollout_id or (before.rollout_id if same and before is not None else "")
    data = rollout_file(app, version, dataclasses.replace(terms, rollout_id=kept), now())
    signed = dataclasses.replace(terms, rollout_id=offers.read(data).rollout_id)
    note(workspace, "offer", name, f"rollout {signed.rollout_id}, {signed.fraction_per_10000 / 100:g} %", now=now)
    repository.add_target(offers.path(app), data)
    repository.publish(now())
    pushed = store(tree_folder(workspace), to) if to else None
    return Offered(app, version, signed, same, pushed)


def _standing(repository: Repository, app: str) -> offers.Offer | None:
    """What is offered of an app now."""
    if not any(target.path == offers.path(app) for target in repository.listed("rollouts/")):
        return None
    try:
        return offers.read(repository.read(offers.path(app)))
    except ValueError:
        return None
