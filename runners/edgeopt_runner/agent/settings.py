"""``agent/agent.json``: where a board pulls from, who it is, and where it reports; written by the verb ``agent``."""

import json
import os
import re
from typing import Any, Dict, Mapping, NamedTuple, Tuple

from edgeopt_runner import storage
from edgeopt_runner.agent import FOLDER
from edgeopt_runner.agent.patience import ATTEMPTS, FIRST_SECONDS
from edgeopt_runner.agent.web import split
from edgeopt_runner.protocol import BAD_REQUEST, NOT_ENROLLED
from edgeopt_runner.refusals import Refusal

NAME = "agent.json"
CA_NAME = "ca.pem"
_LIMIT_BYTES = 256 << 10
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_OWN = ("name", "profile")

Settings = NamedTuple(
    "Settings",
    [
        ("url", str),
        ("device_id", str),
        ("profile", str),
        ("labels", Mapping[str, str]),
        ("apps", Tuple[str, ...]),
        ("ca", str),
        ("report_url", str),
        ("hawkbit", Mapping[str, str]),
        ("attempts", int),
        ("first_seconds", float),
    ],
)
"""url, report_url: of the tree (empty where another server orders), and of the reports (empty: none are sent);
device_id: the board's name; apps: those it wants (empty: all that are offered); ca: file of certificates (empty: the
system's); hawkbit: ``url``, ``controller`` and ``token`` of a hawkBit server that orders instead of rollout files;
attempts, first_seconds: see `patience`."""


def folder(root: str) -> str:
    """The agent's folder."""
    return os.path.join(root, FOLDER)


def lock_path(root: str) -> str:
    """The lock that lets one agent work on a root."""
    return os.path.join(folder(root), "lock")


def load(root: str) -> Settings:
    """The settings of this board.

    Raises:
        Refusal: ``not_enrolled`` where there are none, ``bad_request`` where they cannot be used.
    """
    path = os.path.join(folder(root), NAME)
    if not os.path.exists(path):
        raise Refusal(NOT_ENROLLED, "there is no %s" % path, "On the host: edgeopt device enrol NAME --url URL.")
    ca = os.path.join(folder(root), CA_NAME)
    return parse(storage.read_json(path), ca if os.path.exists(ca) else "")


def parse(document: Dict[str, Any], ca: str = "") -> Settings:
    """Settings from a document; `ca` is the file of certificates. Raises Refusal ``bad_request``."""
    known = {"url", "device_id", "profile", "labels", "apps", "report_url", "hawkbit", "retry"}
    for name in sorted(set(document) - known):
        raise Refusal(BAD_REQUEST, "unknown setting %.80r" % name, "This runner knows %s." % ", ".join(sorted(known)))
    retry = _texts(document, "retry", (int, float))
    attempts, first_seconds = retry.get("attempts", ATTEMPTS), float(retry.get("first_seconds", FIRST_SECONDS))
    if not isinstance(attempts, int) or not 1 <= attempts <= 100 or not 0 <= first_seconds <= 3600:
        raise Refusal(BAD_REQUEST, "retry is %.80r" % (retry,), "Give attempts from 1 to 100, and first_seconds.")
    hawkbit = _texts(document, "hawkbit", str)
    if hawkbit and set(hawkbit) != {"url", "controller", "token"}:
        raise Refusal(BAD_REQUEST, "hawkbit has %s" % ", ".join(sorted(hawkbit)), "Give url, controller and token.")
    apps = document.get("apps", [])
    if not isinstance(apps, list):
        raise Refusal(BAD_REQUEST, "apps is %.80r" % (apps,), "Give a list of names.")
    return Settings(
        _address(document["url"]) if document.get("url") else "",
        _name(document, "device_id", _DEVICE),
        _name(document, "profile", _PROFILE),
        _texts(document, "labels", str),
        tuple(storage.check_app(app) for app in apps),
        ca,
        _address(document["report_url"]) if document.get("report_url") else "",
        dict(hawkbit, url=_address(hawkbit["url"])) if hawkbit else {},
        attempts,
        first_seconds,
    )


def labels_of(settings: Settings) -> Dict[str, str]:
    """All that a rollout can choose this board by: its labels, its name and its profile."""
    return dict(settings.labels, name=settings.device_id, profile=settings.profile)


def write(root: str, document: Dict[str, Any], certificates: str) -> None:
    """Keep settings that `parse` takes; readable only by this account, for an address may bear a secret.

    Raises:
        Refusal: ``bad_request``.
    """
    parse(document)
    data = json.dumps(document, sort_keys=True).encode("utf-8")
    if len(data) + len(certificates) > _LIMIT_BYTES:
        raise Refusal(BAD_REQUEST, "the settings have more than %d bytes" % _LIMIT_BYTES)
    os.makedirs(folder(root), mode=0o700, exist_ok=True)
    _replace(os.path.join(folder(root), CA_NAME), certificates.encode("utf-8"))
    _replace(os.path.join(folder(root), NAME), data)


def _replace(path: str, data: bytes) -> None:
    if data:
        storage.write_atomically(path, data)
        os.chmod(path, 0o600)
    elif os.path.exists(path):
        os.unlink(path)


def _address(value: Any) -> str:
    try:
        split(value if isinstance(value, str) else "")
    except Refusal as refusal:
        raise Refusal(BAD_REQUEST, refusal.message, refusal.remedy)
    return str(value)


def _name(document: Dict[str, Any], field: str, pattern: Any) -> str:
    value = document.get(field)
    if not isinstance(value, str) or not pattern.match(value):
        raise Refusal(BAD_REQUEST, "%s is %.80r" % (field, value), "Send %s." % pattern.pattern.replace(r"\Z", ""))
    return value


def _texts(document: Dict[str, Any], field: str, kind: Any) -> Dict[str, Any]:
    value = document.get(field) or {}
    if not isinstance(value, dict) or not all(isinstance(item, kind) for item in value.values()):
        raise Refusal(BAD_REQUEST, "%s is %.200r" % (field, value), "Send an object.")
    if field == "labels":
        for name in sorted(set(value) & set(_OWN)):
            raise Refusal(BAD_REQUEST, "a label may not be called %s" % name, "That is the board's own %s." % name)
    return value
