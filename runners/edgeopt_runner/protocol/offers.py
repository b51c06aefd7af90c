"""The signed rollout file ``rollouts/<app>.json``, read the same by those who sign it and by boards that pull.

    {"app", "release", "target", "rollout_id", "labels": {..}, "fraction_per_10000", "not_before", "window", "created"}

`window` is ``null`` or ``{"days": ["mon", ..], "start": minutes, "end": minutes}`` in the board's local time; at or
below `start` the end is on the next day. A board takes part where its labels have all of `labels` and its share of
[0, 10000) lies below the fraction: a larger fraction of one rollout keeps the boards of the smaller one.
"""

import hashlib
import json
import re
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LIMIT_BYTES = 64 << 10
WHOLE = 10000
_DAY_MINUTES = 24 * 60
_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_ROLLOUT = re.compile(r"[0-9a-f]{16,64}\Z")
_PATH = re.compile(r"rollouts/([a-z0-9][a-z0-9._-]{0,63})\.json\Z")
_MANIFEST = re.compile(r"releases/([a-z0-9][a-z0-9._-]{0,63})/([A-Za-z0-9][A-Za-z0-9._+-]{0,63})\.json\Z")
_FIELDS = frozenset("app release target rollout_id labels fraction_per_10000 not_before window created".split())

Window = NamedTuple("Window", [("days", Tuple[str, ...]), ("start", int), ("end", int)])

Offer = NamedTuple(
    "Offer",
    [
        ("app", str),
        ("release", str),
        ("target", str),
        ("rollout_id", str),
        ("labels", Mapping[str, str]),
        ("fraction_per_10000", int),
        ("not_before", float),
        ("window", Optional[Window]),
        ("created", float),
    ],
)


def read(data: bytes) -> Offer:
    """The offer in a rollout file.

    Raises:
        ValueError: It is none; says what is wrong.
    """
    if len(data) > LIMIT_BYTES:
        raise ValueError("it has %d bytes, more than %d" % (len(data), LIMIT_BYTES))
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deep")
    if not isinstance(document, dict) or set(document) != _FIELDS:
        raise ValueError("it does not have exactly the fields %s" % ", ".join(sorted(_FIELDS)))
    app, release = _text(document, "app", _APP), _text(document, "release", _VERSION)
    if document["target"] != target(app, release):
        raise ValueError("target is %.200r, not %s" % (document["target"], target(app, release)))
    return Offer(
        app,
        release,
        document["target"],
        _text(document, "rollout_id", _ROLLOUT),
        _labels(document["labels"]),
        _whole(document, "fraction_per_10000", 0, WHOLE),
        _whole(document, "not_before", 0, 1 << 40),
        _window(document["window"]),
        _whole(document, "created", 0, 1 << 40),
    )


def target(app: str, release: str) -> str:
    """The target path of a release's manifest."""
    return "releases/%s/%s.json" % (app, release)


def release_of(target_path: str) -> Tuple[str, str]:
    """App and version of a manifest's target path; empty where it is no such path."""
    match = _MANIFEST.match(target_path)
    return (match.group(1), match.group(2)) if match else ("", "")


def path(app: str) -> str:
    """The target path of an app's rollout file."""
    return "rollouts/%s.json" % app


def app_of(target_path: str) -> str:
    """The app whose rollout file lies at a target path; empty where it is no such path."""
    match = _PATH.match(target_path)
    return match.group(1) if match else ""


def share(device_id: str, rollout_id: str) -> int:
    """Where a board stands in a rollout: a number in [0, 10000), the same on the host and on the board."""
    digest = hashlib.sha256(("%s\n%s" % (device_id, rollout_id)).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


def why_not(offer: Offer, device_id: str, labels: Mapping[str, str]) -> str:
    """Why a board takes no part in a rollout; empty where it does."""
    for name, value in sorted(offer.labels.items()):
        if labels.get(name) != value:
            return "its %s is %.64r, not %.64r" % (name, labels.get(name), value)
    if share(device_id, offer.rollout_id) >= offer.fraction_per_10000:
        return "it is not among the %.2f %% that begin" % (offer.fraction_per_10000 / 100.0)
    return ""


def is_open(window: Optional[Window], weekday: int, minute: int) -> bool:
    """Whether a moment lies in the window.

    Args:
        window: The window; ``None`` is always open.
        weekday: 0 is Monday.
        minute: Minutes since midnight.
    """
    if window is None:
        return True
    today, yesterday = DAYS[weekday % 7], DAYS[(weekday - 1) % 7]
    begins_today, began_yesterday = _on(window, today), _on(window, yesterday)
    if window.start < window.end:
        return begins_today and window.start <= minute < window.end
    return (begins_today and minute >= window.start) or (began_yesterday and minute < window.end)


def _on(window: Window, day: str) -> bool:
    return not window.days or day in window.days


def _no_constant(name: str) -> Any:
    raise ValueError("it has the number %s" % name)


def _text(document: Dict[str, Any], name: str, pattern: Any) -> str:
    value = document[name]
    if not isinstance(value, str) or not pattern.match(value):
        raise ValueError("%s is %.200r" % (name, value))
    return value


def _whole(document: Dict[str, Any], name: str, least: int, most: int) -> int:
    value = document[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("%s is %.200r" % (name, value))
    return int(value)


def _labels(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) and len(v) <= 256 for v in value.values()):
        raise ValueError("labels are %.200r" % (value,))
    return value


def _window(value: Any) -> Optional[Window]:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"days", "start", "end"}:
        raise ValueError("window is %.200r" % (value,))
    days = value["days"]
    if not isinstance(days, list) or not all(day in DAYS for day in days):
        raise ValueError("window.days is %.200r" % (days,))
    return Window(tuple(days), _whole(value, "start", 0, _DAY_MINUTES), _whole(value, "end", 0, _DAY_MINUTES))
