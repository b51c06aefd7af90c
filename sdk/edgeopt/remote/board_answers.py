"""What a board says of its releases is untrusted: made nouns here, cut to size, and refused where it cannot be."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

from edgeopt.core.release import BoardRelease, HealthFigures
from edgeopt.documents import decode
from edgeopt.errors import DocumentError, ProtocolError
from edgeopt.remote.untrusted import one_line

T = TypeVar("T")

MOST_LISTED = 256
DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST_BYTES = 1 << 50
_SLOWEST_NS = 1 << 50
_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}|")


def decoded(kind: type[T], document: Any, where: str) -> T:
    """The noun in an answer, lines and lists cut to size; what a newer runner adds is left out.

    Raises:
        ProtocolError: It has not that shape.
    """
    names = getattr(kind, "__dataclass_fields__", {})
    check(isinstance(document, dict), f"{str(document)[:80]!r} where an object is due", where)
    try:
        return decode(kind, {name: _tidy(value) for name, value in document.items() if name in names}, where=where)
    except DocumentError as error:
        raise ProtocolError(error.message, remedy="Is something else than the runner answering?") from None


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value, 400)
    if isinstance(value, list):
        return [_tidy(item) for item in value[:MOST_LISTED]]
    if isinstance(value, dict):
        return {one_line(str(key)): _tidy(item) for key, item in list(value.items())[:MOST_LISTED]}
    return value


def check(sound: bool, what: str, where: str) -> None:
    """Refuse what cannot be. Raises ProtocolError."""
    if not sound:
        raise ProtocolError(f"{where}: {what} cannot be.", remedy="Is something else than the runner answering?")


def check_figures(figures: HealthFigures | None, where: str) -> None:
    """Let only figures pass that a measurement can have; they decide about waves. Raises ProtocolError."""
    if figures is None:
        return
    latencies = 0 < figures.median_ns <= figures.p95_ns <= _SLOWEST_NS
    check(latencies, f"a median of {figures.median_ns} ns with a p95 of {figures.p95_ns} ns", where)
    check(0 <= figures.memory_bytes <= LARGEST_BYTES, f"{figures.memory_bytes} bytes of memory", where)
    check(math.isfinite(figures.cosine) and abs(figures.cosine) <= 1.0001, f"a cosine of {figures.cosine}", where)
    check(figures.runs > 0, f"{figures.runs} runs", where)


def check_release(release: BoardRelease, where: str, *, app: str) -> None:
    """Let only a release pass that can be, of the app that was asked for. Raises ProtocolError."""
    check(release.app == app and _APP.fullmatch(release.app) is not None, f"the app {release.app[:80]!r}", where)
    for version in (release.version, release.previous, release.golden):
        check(_VERSION.fullmatch(version) is not None, f"the version {version[:80]!r}", where)
    for digest in (release.manifest, release.model, *release.running):
        check(not digest or DIGEST.fullmatch(digest) is not None, f"the digest {digest[:80]!r}", where)
    check(min(release.counter, release.number, release.highest) >= 0, "a negative number", where)
    check_figures(release.figures, where)
