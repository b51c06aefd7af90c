"""One poll: what the store offers this board now, verified, fetched, and carried out by the supervisor.

Everything that it does may be broken off anywhere: files resume, an update that was begun is collected by the next
poll, and what was carried out is found to be carried out.
"""

import time
from typing import Any, Callable, Dict, List, NamedTuple

from edgeopt_runner import faults
from edgeopt_runner.agent import STORE_REFUSED, deltas, orders
from edgeopt_runner.agent.board import Board
from edgeopt_runner.agent.memory import Memory, pause_polls
from edgeopt_runner.agent.settings import Settings, labels_of
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.protocol import EXPIRED, offers
from edgeopt_runner.protocol.offers import Offer
from edgeopt_runner.refusals import Refusal, refusal_of
from edgeopt_runner.updates import manifest as manifests

SETTLED = ("rolled_back", "aborted", "safe_stop")
"""Ends of an offer that are not tried again by themselves, but for those that say nothing about the release."""

AGAIN = "retry"
"""What is remembered of an end that another try may mend."""

RAN = ("committed", "nothing", "drift")
"""Ends after which the board ran what is offered: where it does not now, somebody wanted that."""

Clock = Callable[[], time.struct_time]

Hold = Callable[[], str]
"""Why an update may not begin now; empty where it may."""

Verdict = NamedTuple("Verdict", [("app", str), ("release", str), ("outcome", str), ("code", str), ("reason", str)])
"""What became of an app in a poll: an outcome of an update, or ``nothing``, ``left_out``, ``waiting``, ``paused``,
``drift`` (it ran here, and somebody has changed that since), ``refused`` (by the board, before anything was
fetched; asked again every poll), ``failed`` (it could not be brought here)."""


class Poll:
    """One look at the store.

    Args:
        board: What this board trusts and runs.
        settings: Who it is.
        tree: The store.
        memory: What it remembers.
        clock: Local time, for windows.
    """

    def __init__(
        self, board: Board, settings: Settings, tree: Tree, memory: Memory, clock: Clock = time.localtime
    ) -> None:
        self._board, self._settings, self._tree, self._memory = board, settings, tree, memory
        self._clock = clock

    def run(self) -> List[Verdict]:
        """Look, and do what is to be done.

        Returns:
            One verdict an app.

        Raises:
            Refusal: The metadata could not be brought or were refused; nothing was done.
        """
        self._memory.polls += 1
        self._board.refresh(self._tree, self._memory)
        faults.point("pull.trusted")
        return [self._app(path) for path in self._board.offered(self._settings.apps)]

    def _app(self, path: str) -> Verdict:
        """What becomes of the offer at a target path; what goes wrong is a verdict too, so that others go on."""
        app = offers.app_of(path)
        try:
            return self._taken(self._offer(path, app))
        except Exception as error:  # the rim: whatever is wrong with one app, the others go on
            refusal = refusal_of(error)
            return Verdict(app, "", "failed", refusal.code, refusal.message)

    def _offer(self, path: str, app: str) -> Offer:
        data = self._bring_target(path, offers.LIMIT_BYTES)
        try:
            offer = offers.read(data)
        except ValueError as error:
            raise Refusal(STORE_REFUSED, "%s is refused: %s" % (path, error), "Offer the release again.")
        if offer.app != app:
            raise Refusal(STORE_REFUSED, "%s offers %s" % (path, offer.app), "Offer the release again.")
        self._board.believe(offer.created)
        return offer

    def _bring_target(self, path: str, limit: int) -> bytes:
        """The bytes of a signed target. Raises Refusal."""
        found = self._board.target(path)
        if found is None or found["length"] > limit:
            raise Refusal(STORE_REFUSED, "%s is not signed, or has more than %d bytes" % (path, limit))
        folder, _, name = path.rpartition("/")
        place = "targets/%s/%s.%s" % (folder, found["sha256"], name)
        with open(self._tree.bring(self._board.root, place, found["sha256"], found["length"]), "rb") as stream:
            return stream.read(limit)

    def _taken(self, offer: Offer) -> Verdict:
        why = offers.why_not(offer, self._settings.device_id, labels_of(self._settings))
        if why:
            return _verdict(offer, "left_out", reason=why)
        if self._board.now() < offer.not_before:
            return _verdict(offer, "waiting", reason="it begins at %d (seconds since the epoch)" % offer.not_before)
        return self.take(offer, lambda: self._closed(offer))

    def _closed(self, offer: Offer) -> str:
        """Why an offer's update may not begin now; empty where it may."""
        local = self._clock()
        is_open = offers.is_open(offer.window, local.tm_wday, local.tm_hour * 60 + local.tm_min)
        return "" if is_open else "its window is closed; the files are here"

    def take(self, offer: Offer, hold: Hold = lambda: "") -> Verdict:
        """Do what is to be done about an offer that is for this board.

        Args:
            offer: Which release.
            hold: Says, once its files are here, why the update may not begin.

        Raises:
            Refusal: Something could not be brought or is not signed.
        """
        manifest = self._board.target(offer.target)
        if manifest is None:
            raise Refusal(STORE_REFUSED, "%s is offered and not signed" % offer.target, "Publish it again.")
        record = self._memory.app(offer.app, offer.rollout_id, manifest["sha256"])
        if record["pause"] > 0:
            self._memory.note(offer.app, dict(record, pause=record["pause"] - 1))
            return _verdict(offer, "paused", record["code"], record["reason"])
        if record["outcome"] in SETTLED:
            return _verdict(offer, record["outcome"], record["code"], record["reason"])
        release = manifests.parse(self._bring_target(offer.target, manifests.LARGEST_BYTES))
        if release.expires <= self._board.now():
            raise Refusal(EXPIRED, "%s %s has expired" % (offer.app, offer.release), "Publish it again.")
        return self._prepared(offer, record, hold)

    def _prepared(self, offer: Offer, record: Dict[str, Any], hold: Hold) -> Verdict:
        """Collect what an agent before us began; else ask what is needed, bring it, and update unless held back."""
        order = self._order(offer, record)
        if orders.is_under_way(self._board.root, self._job(order, record)):
            return self._carried_out(offer, record, order)
        found = self._board.preflight(order)
        if found["action"] == "nothing" and record["outcome"] == "committed":
            return _verdict(offer, "nothing", reason=found["reason"])
        if found["action"] != "update":
            outcome = {"nothing": "nothing", "skip": "skipped"}.get(found["action"], "refused")
            return self._noted(offer, record, {"outcome": outcome, "code": found["code"], "reason": found["reason"]})
        if record["outcome"] in RAN:
            if found["before"]["version"] != offer.release and not self._board.left(offer.app, offer.release):
                reason = "it ran here, and %s runs now" % (found["before"]["version"] or "another")
                return self._noted(offer, record, {"outcome": "drift", "reason": reason})
            record = dict(record, attempt=record["attempt"] + 1)  # its files were damaged since: once more
        bases = [base["sha256"] for base in found["have"]]
        for need in found["needs"]:
            if not deltas.bring(self._tree, self._board.root, need, bases, self._settings.device_id):
                self._tree.bring(self._board.root, "blobs/%s" % need["sha256"], need["sha256"], need["size"])
            faults.point("pull.blob", match=offer.app)
        why = hold()
        if why:
            return _verdict(offer, "waiting", reason=why)
        return self._carried_out(offer, record, order)

    def _order(self, offer: Offer, record: Dict[str, Any]) -> Dict[str, Any]:
        fixed = {"app": offer.app, "manifest": record["manifest"], "target": offer.target}
        place = {"profile": self._settings.profile, "fence": self._board.fence(offer.app)}
        return dict(fixed, rollout=offer.rollout_id, **place)

    def _job(self, order: Dict[str, Any], record: Dict[str, Any]) -> Dict[str, Any]:
        return orders.update_job(order, self._settings.device_id, record["attempt"])

    def _carried_out(self, offer: Offer, record: Dict[str, Any], order: Dict[str, Any]) -> Verdict:
        self._memory.note(offer.app, record)
        faults.point("pull.submit", match=offer.app)
        update = orders.carry_out(self._board.root, self._job(order, record))
        faults.point("pull.done", match=offer.app)
        return self._noted(offer, record, update)

    def _noted(self, offer: Offer, record: Dict[str, Any], update: Dict[str, Any]) -> Verdict:
        """Remember an end, to be reported; one that another try may mend gets one, some polls later."""
        outcome, code, reason = (str(update.get(name) or "") for name in ("outcome", "code", "reason"))
        again = orders.is_worth_another_try(update)
        known = (outcome, code) == (record["outcome"], record["code"]) and not again
        changed = dict(record, outcome=AGAIN if again else outcome, code=code, reason=reason, release=offer.release)
        if again:
            changed.update(attempt=record["attempt"] + 1, pause=pause_polls(record["attempt"]))
        changed.update({name: update.get(name) for name in ("before", "after") if update.get(name)})
        if not known:
            self._memory.note(offer.app, dict(changed, reported=False))
        return _verdict(offer, outcome, code, reason)


def assigned(app: str, release: str, rollout: str) -> Offer:
    """What another server orders, as an offer to this board."""
    return Offer(app, release, offers.target(app, release), rollout, {}, offers.WHOLE, 0, None, 0)


def _verdict(offer: Offer, outcome: str, code: str = "", reason: str = "") -> Verdict:
    return Verdict(offer.app, offer.release, outcome, code, reason)
