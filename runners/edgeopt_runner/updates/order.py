"""An order of a rollout: which release, as which target of the signed metadata, for which profile and fence."""

import re
from typing import Any, Dict, NamedTuple

from edgeopt_runner import storage
from edgeopt_runner.protocol import BAD_REQUEST
from edgeopt_runner.refusals import Refusal

_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_TARGET = re.compile(r"releases/[a-z0-9][a-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\.json\Z")
_MOST_FENCE = 1 << 53

Order = NamedTuple(
    "Order",
    [
        ("app", str),
        ("manifest", str),
        ("target", str),
        ("profile", str),
        ("fence", int),
        ("insecure_unsigned", bool),
    ],
)
"""What preflight and update are told."""


def read(fields: Dict[str, Any]) -> Order:
    """The order in a request or a job.

    Raises:
        Refusal: ``bad_request``; names the field.
    """
    return Order(
        storage.check_app(fields.get("app")),
        storage.check_digest(fields.get("manifest"), "manifest"),
        text(fields.get("target"), _TARGET, "target"),
        text(fields.get("profile"), _PROFILE, "profile"),
        fence(fields.get("fence", 0)),
        flag(fields.get("insecure_unsigned", False), "insecure_unsigned"),
    )


def text(value: Any, pattern: Any, what: str) -> str:
    """A text that matches. Raises Refusal ``bad_request``."""
    if not isinstance(value, str) or not pattern.match(value):
        raise Refusal(BAD_REQUEST, "%s is %.80r" % (what, value), "Send %s." % pattern.pattern.replace(r"\Z", ""))
    return value


def fence(value: Any) -> int:
    """A rollout's fence. Raises Refusal ``bad_request``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_FENCE:
        raise Refusal(BAD_REQUEST, "fence is %.80r" % (value,), "Send a whole number.")
    return value


def flag(value: Any, what: str) -> bool:
    """A flag. Raises Refusal ``bad_request``."""
    if not isinstance(value, bool):
        raise Refusal(BAD_REQUEST, "%s is %.80r" % (what, value), "Send true or false.")
    return value
