"""Freshness without a clock: the host signs a nonce of the board's together with the time and the timestamp's version.

What `last_trusted_time` may become is bounded by every expiry of the chain: a stolen online key cannot push a board's
time past what the offline keys signed.
"""

from typing import Any, Container, Mapping

from edgeopt_runner.protocol import STALE
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.trust import canonical, chain, metadata
from edgeopt_runner.trust.metadata import TIMESTAMP, Metadata

KIND = "freshness"
SPEC_VERSION = "1"
NONCE_BYTES = 32
_LIMIT_BYTES = 16384
_FIELDS = {"_type", "nonce", "timestamp_version", "time", "spec_version"}


class Statement:
    """A signed statement of freshness that parsed; nothing is said of its signatures yet.

    Attributes:
        nonce: Hex.
        timestamp_version: Of the timestamp that it goes with.
        time: Seconds since the epoch, by the host's clock.
    """

    def __init__(self, text: bytes) -> None:
        """Parse it. Raises Refusal ``bad_metadata``."""
        document = metadata.load(text, _LIMIT_BYTES, "the statement of freshness")
        signed, entries = document.get("signed"), document.get("signatures")
        if not isinstance(signed, dict) or set(signed) != _FIELDS or not isinstance(entries, list):
            raise metadata.refuse("the statement of freshness has other fields than specified")
        if signed["_type"] != KIND or signed["spec_version"] != SPEC_VERSION:
            raise metadata.refuse("this is no statement of freshness, version %s" % SPEC_VERSION)
        self.nonce = _typed(signed, "nonce", str)
        self.timestamp_version = _typed(signed, "timestamp_version", int)
        self.time = _typed(signed, "time", int)
        self._payload = canonical.encode(signed)
        self._signatures = metadata.signatures_of(entries)

    def require(self, root: Metadata, nonces: Container[str]) -> None:
        """Refuse a statement that is not the root's timestamp keys' answer to this board.

        Raises:
            Refusal: ``bad_signature`` or ``stale``.
        """
        chain.require_by_root(root, TIMESTAMP, self._payload, self._signatures, "the statement of freshness")
        if self.nonce not in nonces:
            raise _stale("it answers a nonce that this board does not wait for (used already, or another board's)")

    def require_version(self, timestamp_version: int) -> None:
        """Refuse a statement that goes with another timestamp. Raises Refusal ``stale``."""
        if self.timestamp_version != timestamp_version:
            raise _stale("it is for timestamp %d, not %d" % (self.timestamp_version, timestamp_version))


def _typed(signed: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = signed[name]
    if not isinstance(value, kind) or isinstance(value, bool) or kind is int and value < 0:
        raise metadata.refuse("%s of the statement of freshness is %.80r" % (name, value))
    return value


def _stale(why: str) -> Refusal:
    return Refusal(STALE, "the statement of freshness is refused: %s" % why, "Ask the board for a new nonce.")
