"""Offers published releases to boards that pull: signs rollout files, lists and withdraws them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeopt.errors import UsageError
from edgeopt.publishing.offers import Terms, rollout_file
from edgeopt.publishing.tree import Pushed
from edgeopt.signing.repository import Repository
from edgeopt.workflow.fleet.agents import pulling_boards
from edgeopt.workflow.fleet.auditing import audit_log, deed
from edgeopt.workflow.fleet.storing import store
from edgeopt.workflow.fleet.tree import repository_of
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


@dataclass(frozen=True)
class Standing:
    """An offer that boards find when they look.

    Attributes:
        offer: What it says.
        boards: Those enrolled here that take it now.
        fitting: How many of those enrolled here it is for, the fraction aside.
    """

    offer: offers.Offer
    boards: tuple[str, ...]
    fitting: int


def offer(
    name: str,
    terms: Terms,
    workspace: Workspace,
    *,
    to: str = "",
    elsewhere: bool = False,
    now: Callable[[], float] = time.time,
) -> Offered:
    """Offer a release.

    An app has one offer at a time. The same release to the same labels stays the same rollout: a larger fraction adds
    boards to those that have it.

    Args:
        name: ``app@version``, published.
        terms: To whom.
        workspace: Whose tree and keys.
        to: Store to bring the tree to; empty: nowhere.
        elsewhere: It may be for boards that were enrolled from other computers only.
        now: Seconds since the epoch.

    Raises:
        UsageError: The release is not published, no board fits, or the terms cannot be signed.
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
    if not elsewhere:
        _require_boards(app, terms, workspace)
    before = _standing(repository, app)
    same = before is not None and (before.release, dict(before.labels)) == (version, terms.labels)
    kept = terms.rollout_id or (before.rollout_id if same and before is not None else "")
    data = rollout_file(app, version, dataclasses.replace(terms, rollout_id=kept), now())
    signed = dataclasses.replace(terms, rollout_id=offers.read(data).rollout_id)
    why = f"rollout {signed.rollout_id}, {signed.fraction_per_10000 / 100:g} %"
    with deed(audit_log(workspace), "offer", name, why, now=now):
        repository.add_target(offers.path(app), data)
        repository.publish(now())
    pushed = store(workspace, to) if to else None
    return Offered(app, version, signed, same, pushed)


def _require_boards(app: str, terms: Terms, workspace: Workspace) -> None:
    """Refuse an offer that no board which was enrolled here would ever take."""
    known = pulling_boards(workspace)
    every = _offer_to(app, terms.labels)
    reasons = [board.why_not(name, every) for name, board in known.items()]
    if known and not all(reasons):
        return
    words = ",".join(f"{name}={value}" for name, value in terms.labels.items()) or "all"
    what = f"{len(known)} pull: {reasons[0]}" if known else "none was told to pull: edgeopt device enrol NAME --url URL"
    raise UsageError(
        f"--to {words!r} is for no board that was enrolled here ({what}).",
        remedy="Correct it; or give --elsewhere where the boards were enrolled from another computer.",
    )


def _offer_to(app: str, labels: Mapping[str, str]) -> offers.Offer:
    """An offer to all boards with these labels."""
    return offers.Offer(app, "", "", "", labels, offers.WHOLE, 0, None, 0)


def standing_offers(workspace: Workspace) -> tuple[Standing, ...]:
    """What is offered now, by app.

    Raises:
        SigningError: The tree cannot be read.
        StoreError: What was noted of a board cannot be read.
    """
    repository, known = repository_of(workspace), pulling_boards(workspace)
    apps = [offers.app_of(target.path) for target in repository.listed("rollouts/")]
    found = [one for app in sorted(filter(None, apps)) if (one := _standing(repository, app)) is not None]
    return tuple(
        Standing(
            one,
            tuple(name for name, board in known.items() if not board.why_not(name, one)),
            sum(not board.why_not(name, _offer_to(one.app, one.labels)) for name, board in known.items()),
        )
        for one in found
    )


def withdraw(
    name: str, workspace: Workspace, *, to: str = "", now: Callable[[], float] = time.time
) -> tuple[offers.Offer, Pushed | None]:
    """Take an offer back: boards that have the release keep it, the others do not begin.

    Args:
        name: ``app``, or ``app@version`` as it is offered.
        workspace: Whose tree and keys.
        to: Store to bring the tree to; empty: nowhere.
        now: Seconds since the epoch.

    Returns:
        What was offered, and what was brought to the store.

    Raises:
        UsageError: That is not offered.
        SigningError: The tree cannot be read, or a key is missing.
        StoreError: The store cannot be written; the offer is withdrawn, and `publish --to` brings that there.
    """
    app, _, version = name.partition("@")
    standing = {one.offer.app: one.offer for one in standing_offers(workspace)}
    found = standing.get(app)
    if found is None or (version and version != found.release):
        there = ", ".join(f"{one.app}@{one.release}" for one in standing.values()) or "nothing"
        raise UsageError(f"{name} is not offered (offered: {there}).", remedy="See edgeopt fleet offers.")
    repository = repository_of(workspace)
    with deed(audit_log(workspace), "offer.withdraw", f"{app}@{found.release}", f"rollout {found.rollout_id}", now=now):
        repository.remove_target(offers.path(app))
        repository.publish(now())
    return found, store(workspace, to) if to else None


def _standing(repository: Repository, app: str) -> offers.Offer | None:
    """What is offered of an app now."""
    if not any(target.path == offers.path(app) for target in repository.listed("rollouts/")):
        return None
    try:
        return offers.read(repository.read(offers.path(app)))
    except ValueError:
        return None
