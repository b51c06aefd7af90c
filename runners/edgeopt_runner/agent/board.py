"""What the agent asks of its own board: what is trusted, what runs, and whether a release may come."""

import contextlib
import time
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from edgeopt_runner import cleanup, storage
from edgeopt_runner.agent import STORE_REFUSED
from edgeopt_runner.agent.memory import Memory
from edgeopt_runner.agent.metadata import Brought, bring
from edgeopt_runner.agent.tree import Tree
from edgeopt_runner.protocol import NOT_ENROLLED, offers
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.release_store import ReleaseStore
from edgeopt_runner.trust import state, targets, verbs
from edgeopt_runner.trust.chain import Trusted
from edgeopt_runner.trust.targets import VerifiedTargets
from edgeopt_runner.updates.app_state import state_of


class Board:
    """This board.

    Args:
        root: The runner's root.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._verified: Optional[VerifiedTargets] = None
        self._asked: Set[str] = set()

    def refresh(self, tree: Tree, memory: Memory) -> None:
        """Bring the metadata that are new, and trust them if all of them are sound.

        Raises:
            Refusal: ``not_enrolled``, what bringing them raises, or why they are not trusted.
        """
        held = self._held()
        version = held.timestamp.version if held.timestamp is not None else 0
        brought = bring(tree, held, memory.etag(tree.url, version))
        self.trust(brought)
        held = self._held()
        if held.timestamp is not None:
            memory.keep_etag(tree.url, held.timestamp.version, brought.etag)

    def trust(self, brought: Brought) -> None:
        """Trust files if all of them are sound and none has expired; without a nonce, so by the clock.

        Raises:
            Refusal: ``not_enrolled``, ``expired``, ``bad_metadata``, ``bad_signature`` or ``rollback_attack``.
        """
        verbs.pulled(self.root, brought.params(), time.time())
        self._verified = targets.verified(self.root)

    def _held(self) -> Trusted:
        held = state.load(self.root)
        if held is None:
            remedy = "On the host: edgeopt device enrol NAME."
            raise Refusal(NOT_ENROLLED, "this board has no root of trust", remedy)
        return held

    def now(self) -> float:
        """Seconds since the epoch: the clock's, or the last signed time where the clock is behind it."""
        return max(time.time(), state.memory(self.root).last_trusted_time)

    def plausible_now(self) -> float:
        """As `now`, but the last signed time where the clock is past the root's expiry and so most likely wrong.

        Raises:
            Refusal: ``not_enrolled``.
        """
        now = self.now()
        return now if now < self._held().root.expires else state.memory(self.root).last_trusted_time

    def believe(self, signed_time: float) -> None:
        """Let a time that a verified file bears count, up to the first expiry of the metadata that vouch for it."""
        with state.locked(self.root):
            known = state.memory(self.root)
            limit = self._verified.expires if self._verified is not None else 0
            if known.last_trusted_time < min(signed_time, limit):
                state.remember(self.root, known._replace(last_trusted_time=int(min(signed_time, limit))))

    def offered(self, apps: Tuple[str, ...]) -> List[str]:
        """Target paths of the rollout files that are signed, of these apps (none named: of all)."""
        held = self._held()
        files = [held.targets, *held.delegated.values()]
        paths = {path for file in files if file is not None for path in file.signed["targets"]}
        return sorted(path for path in paths if self._is_offer(path, apps) and self.target(path))

    def signed_releases(self) -> List[Tuple[str, str, str]]:
        """App, version and manifest's digest of every release that is signed."""
        held = self._held()
        names = [offers.release_of(path) for path in (held.targets.signed["targets"] if held.targets else ())]
        found = [(app, version, self.target(offers.target(app, version))) for app, version in names if app]
        return [(app, version, described["sha256"]) for app, version, described in found if described is not None]

    def one_release(self, digests: List[str]) -> Tuple[str, str]:
        """App and version of the one signed release whose manifest is among files with these digests.

        Raises:
            Refusal: There is none, or several.
        """
        found = [(app, version) for app, version, digest in self.signed_releases() if digest in digests]
        if len(found) != 1:
            message = "it has %d manifests that are signed for this board, and needs one" % len(found)
            raise Refusal(STORE_REFUSED, message, "Add the manifest and the metadata of the published tree.")
        return found[0]

    @staticmethod
    def _is_offer(path: str, apps: Tuple[str, ...]) -> bool:
        app = offers.app_of(path)
        return bool(app) and (not apps or app in apps)

    def target(self, path: str) -> Optional[Dict[str, Any]]:
        """``sha256`` and ``length`` of a signed target; ``None`` where there is none."""
        if self._verified is None:
            self._verified = targets.verified(self.root)
        found = self._verified.find(path) if self._verified is not None else None
        if found is not None:
            self._asked.add(found["sha256"])
        return found

    def collect(self, keep: Iterable[str] = (), tight: bool = False) -> None:
        """Remove what nobody wants any more, but for the signed files that were asked for since this was made.

        Args:
            keep: Digests that stay, too.
            tight: Remove releases that no pointer leads to as well.
        """
        with contextlib.suppress(Refusal, OSError):  # another time will do
            cleanup.collect_garbage(self.root, sorted(self._asked.union(keep)), tight)

    def fence(self, app: str) -> int:
        """The highest fence that an order for the app bore: pulling does not overtake an operator, nor yield."""
        return int(state_of(ReleaseStore(self.root, app).journal.last()).fence)

    def left(self, app: str, version: str) -> bool:
        """Whether the last that became of an app is that its release was left for its damage, and was this version."""
        last = ReleaseStore(self.root, app).journal.last()
        return last.get("kind") == "fallback" and last.get("version", version) == version

    def preflight(self, order: Dict[str, Any]) -> Dict[str, Any]:
        """What the verb ``preflight`` says of an order, asked again where room had to be made. Raises Refusal."""
        from edgeopt_runner import server

        storage.prepare(self.root)
        asked = dict(order, insecure_unsigned=False)
        found = server.VERBS["preflight"](self.root, asked)
        if found["need_bytes"] <= found["free_bytes"] or not found["collect_bytes"]:
            return found
        self.collect([order["manifest"], *(need["sha256"] for need in found["needs"])], tight=True)
        return server.VERBS["preflight"](self.root, asked)

    def releases(self) -> List[Dict[str, Any]]:
        """What the verb ``releases`` says, every active file hashed. Raises Refusal."""
        from edgeopt_runner import server

        found: List[Dict[str, Any]] = server.VERBS["releases"](self.root, {"verify": True})["apps"]
        return found

    def versions(self) -> Dict[str, Any]:
        """Versions of the metadata that this board trusts, and whether it counts as insecure."""
        return targets.summary(self.root)
