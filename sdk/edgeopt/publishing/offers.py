"""What a rollout file says: which release, to which boards that pull, and when. Pure; signing it is `offering`."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from dataclasses import dataclass, field

from edgeopt.core.fleet import Window
from edgeopt.errors import UsageError
from edgeopt_runner.protocol import offers

_TERM = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9._/-]*)=(?P<value>[^=,()!*?\[\]\s]+)")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)\s*%")


@dataclass(frozen=True)
class Terms:
    """To whom a release is offered.

    Attributes:
        labels: What a board's labels (or ``name``, ``profile``, ``site``) must be; empty: every board.
        fraction_per_10000: Share of those that take part.
        not_before: Seconds since the epoch before which no board begins.
        window: When boards may change, by their local time; ``None``: always.
        rollout_id: 16 hex digits. The same with a larger fraction widens a rollout; another draws other boards.
    """

    labels: dict[str, str] = field(default_factory=dict)
    fraction_per_10000: int = offers.WHOLE
    not_before: int = 0
    window: Window | None = None
    rollout_id: str = ""


def labels_of(selector: str) -> dict[str, str]:
    """The labels that a selector asks for.

    Boards that pull decide for themselves, by their own labels: only ``key=value`` terms with commas between (and)
    can be asked, or ``all``.

    Raises:
        UsageError: Anything else.
    """
    if selector.strip() == "all":
        return {}
    found: dict[str, str] = {}
    for term in selector.split(","):
        match = _TERM.fullmatch(term.strip())
        if match is None or match["key"] in found:
            raise UsageError(
                f"{selector!r} cannot choose boards that pull.",
                remedy="Say all, or label=value with commas between: region=north,profile=pi5.",
            )
        found[match["key"]] = match["value"]
    return found


def fraction_of(text: str) -> int:
    """A share in parts of 10000: ``10%``, ``0.5%``.

    Raises:
        UsageError: It is none.
    """
    match = _PERCENT.fullmatch(text.strip())
    share = round(float(match[1]) * 100) if match else -1
    if not 0 <= share <= offers.WHOLE:
        raise UsageError(f"--fraction {text!r} is no share of boards.", remedy="Say --fraction 10%.")
    return share


def moment_of(text: str, now: float) -> int:
    """Seconds since the epoch: an ISO date and time (local where it has no zone).

    Raises:
        UsageError: It is none.
    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--not-before {text!r} is no date and time.", remedy="Say --not-before 2026-12-01T02:00."
        ) from None
    seconds = int(moment.astimezone().timestamp())
    if seconds < now - 86400:
        raise UsageError(f"--not-before {text!r} is more than a day past.", remedy="Leave it out to begin now.")
    return seconds


def rollout_file(app: str, version: str, terms: Terms, now: float) -> bytes:
    """The bytes of a rollout file.

    Args:
        app: The app.
        version: A published version.
        terms: To whom.
        now: Seconds since the epoch.

    Raises:
        UsageError: A window of one date, which a board cannot repeat.
    """
    window = terms.window
    if window is not None and window.date:
        raise UsageError("a window of one date cannot be offered.", remedy="Give its day by --not-before instead.")
    document = {
        "app": app,
        "release": version,
        "target": offers.target(app, version),
        "rollout_id": terms.rollout_id or secrets.token_hex(8),
        "labels": terms.labels,
        "fraction_per_10000": terms.fraction_per_10000,
        "not_before": terms.not_before,
        "window": None if window is None else {"days": [*window.days], "start": window.start, "end": window.end},
        "created": int(now),
    }
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    try:
        offers.read(data)
    except ValueError as error:
        raise UsageError(f"the offer of {app}@{version} cannot be made: {error}.", remedy="Correct it.") from None
    return data
