"""Whether a board still is as it was left: what it says against what the rollouts put there. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeopt.core.release import BoardRelease
from edgeopt.core.rollout import Rollout
from edgeopt.core.sighting import Sighting


@dataclass(frozen=True)
class Expected:
    """What a board committed last, as far as this computer knows.

    Attributes:
        release: ``app@version``.
        manifest: SHA-256 of its manifest.
    """

    release: str
    manifest: str


def expected_by_board(rollouts: Iterable[Rollout]) -> dict[str, dict[str, Expected]]:
    """By board and app what the newest rollout that ended there put there.

    Args:
        rollouts: In the order in which they were started.
    """
    found: dict[str, dict[str, Expected]] = {}
    for rollout in rollouts:
        app = rollout.plan.release.partition("@")[0]
        expected = Expected(rollout.plan.release, rollout.plan.manifest)
        for board in rollout.boards:
            if board.state == "committed":
                found.setdefault(board.board, {})[app] = expected
    return found


def after_offers(expected: Mapping[str, Expected], offered: Iterable[str]) -> dict[str, Expected]:
    """What a board that pulls should run: of an app that is offered it chooses itself, whatever a rollout left there.

    Args:
        expected: What rollouts left there, by app.
        offered: Apps with an offer.
    """
    return {app: one for app, one in expected.items() if app not in set(offered)}


def drift_of(sighting: Sighting, expected: Mapping[str, Expected]) -> tuple[str, ...]:
    """What is not as it should be on a board, one line each; empty where all is well.

    Args:
        sighting: What the board said last.
        expected: By app what it should run.
    """
    said = {release.app: release for release in sighting.releases}
    gone = [f"{wanted.release} is gone" for app, wanted in sorted(expected.items()) if app not in said]
    found = [line for app, release in sorted(said.items()) for line in _of(release, expected.get(app))]
    return (*gone, *found) if sighting.seen_at else ()


def _of(release: BoardRelease, expected: Expected | None) -> Iterable[str]:
    name = f"{release.app}@{release.version}" if release.version else f"{release.app} without a version"
    if expected and expected.manifest != release.manifest:
        yield f"runs {name}; the last rollout left {expected.release}"
    if not release.verified and release.state != "safe_stop":
        yield f"the files of {name} do not fit their manifest"
    if release.state == "safe_stop":
        yield f"{release.app} is stopped: no healthy release is left there"
    elif release.state != "idle":
        yield f"an update of {release.app} is at {release.state}"
    if release.version and not release.signed:
        yield f"{name} is not signed by a trusted key"
    if release.running and set(release.running) != {release.model}:
        yield f"an application still runs another file than {name}"
