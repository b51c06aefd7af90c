"""The controller's side of hawkBit's DDI protocol: what a server asks of this board, and what it is told.

Direct Device Integration API v1 of Eclipse hawkBit (OpenAPI "hawkBit REST APIs", v1, as of 0.10 and the sources of
August 2026): poll the controller base, follow ``deploymentBase``, ``cancelAction`` and ``configData``.
"""

import json
import re
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from edgeopt_runner.agent import NETWORK, STORE_REFUSED
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.settings import Settings, labels_of
from edgeopt_runner.agent.web import Web, shown, split
from edgeopt_runner.refusals import Refusal

LIMIT_BYTES = 1 << 20
MOST_ARTIFACTS = 256
_NUMBER = re.compile(r"[0-9]{1,19}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_LATER = (408, 425, 429)

Artifact = NamedTuple("Artifact", [("name", str), ("sha256", str), ("size", int), ("url", str)])
"""A file of an assignment: name, digest and size as hawkBit says, and where it is to be had."""

Action = NamedTuple("Action", [("number", str), ("url", str), ("kind", str)])
"""What a server asks for: ``deploymentBase`` or ``cancelAction``, its number and where its description is."""

Deployment = NamedTuple(
    "Deployment", [("action", Action), ("artifacts", Tuple[Artifact, ...]), ("download", bool), ("update", bool)]
)
"""An assignment; download, update: whether that may be done now (handling ``skip``, or a closed window, forbids)."""


class Server:
    """A controller's view of a hawkBit server.

    Args:
        settings: Of the agent; ``hawkbit`` has ``url`` (up to ``.../controller/v1``), ``controller`` and ``token``.
        patience: When to ask again.
        known: A time that has passed, for certificates; see `Web`.
    """

    def __init__(self, settings: Settings, patience: Patience, known: float = 0.0) -> None:
        own = settings.hawkbit
        self._settings, self._patience, self.known = settings, patience, known
        self.web = Web(settings.ca, "TargetToken %s" % own["token"] if own["token"] else "", known)
        self._base = "%s/%s" % (own["url"].rstrip("/"), own["controller"])

    def look(self) -> List[Action]:
        """What the server asks for now, cancellations first; tells it who the board is where it wants to know.

        Raises:
            Refusal: ``network`` after all tries, ``store_refused``.
        """
        links = _links(self._ask("GET", self._base))
        if "configData" in links:
            self._tell(links["configData"])
        kinds = ("cancelAction", "deploymentBase")
        return [Action(_number(links[kind]), self._own(links[kind]), kind) for kind in kinds if kind in links]

    def deployment(self, action: Action) -> Deployment:
        """What an action assigns. Raises Refusal."""
        document = self._ask("GET", action.url)
        body = document.get("deployment")
        if not isinstance(body, dict) or not isinstance(body.get("chunks"), list):
            raise Refusal(STORE_REFUSED, "action %s of hawkBit has no deployment" % action.number)
        found = [entry for chunk in body["chunks"] for entry in _artifacts(chunk)]
        if len(found) > MOST_ARTIFACTS:
            raise Refusal(STORE_REFUSED, "action %s has %d artifacts" % (action.number, len(found)))
        closed = body.get("maintenanceWindow") == "unavailable"
        artifacts = tuple(self._artifact(entry) for entry in found)
        return Deployment(
            action, artifacts, body.get("download") != "skip", body.get("update") != "skip" and not closed
        )

    def stopped(self, action: Action) -> str:
        """Number of the action that a cancellation is about. Raises Refusal."""
        body = self._ask("GET", action.url).get("cancelAction")
        number = str(body.get("stopId")) if isinstance(body, dict) else ""
        if not _NUMBER.match(number):
            raise Refusal(STORE_REFUSED, "cancellation %s names no action" % action.number)
        return number

    def feedback(self, action: Action, execution: str, finished: str, *details: str) -> None:
        """Tell how an action stands.

        Args:
            action: The action, or the cancellation.
            execution: ``proceeding``, ``closed``, ``rejected``, ``download``, ``downloaded``, ...
            finished: ``none``, ``success`` or ``failure``.
            details: In words.

        Raises:
            Refusal: ``network`` after all tries; an action that the server knows no more is no error.
        """
        result = {"finished": finished}
        status = {"execution": execution, "result": result, "details": [text[:500] for text in details]}
        body = {"id": action.number, "timestamp": int(time.time() * 1000), "status": status}
        try:
            self._ask("POST", _below(action.url, "feedback"), body)
        except Gone:
            pass  # closed already by an earlier answer that got lost, or deleted

    def _tell(self, href: str) -> None:
        labels = labels_of(self._settings)
        self._ask("PUT", self._own(href), {"mode": "merge", "data": {name: str(labels[name]) for name in labels}})

    def _artifact(self, entry: Mapping[str, Any]) -> Artifact:
        hashes, name, size = entry.get("hashes"), entry.get("filename"), entry.get("size")
        digest = str(hashes.get("sha256", "")).lower() if isinstance(hashes, dict) else ""
        links = _links(entry)
        href = links.get("download") or links.get("download-http")
        sound = isinstance(name, str) and isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not sound or not _DIGEST.match(digest) or not href:
            raise Refusal(STORE_REFUSED, "an artifact of hawkBit is not as specified: %.200r" % (entry,))
        return Artifact(str(name), digest, int(size or 0), href)

    def _own(self, href: str) -> str:
        """A link of the server, which may only lead to the server itself: requests bear our token."""
        ours, theirs = split(self._base), split(href)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise Refusal(STORE_REFUSED, "hawkBit links to %s" % shown(href), "Does its proxy set X-Forwarded-Host?")
        return href

    def _ask(self, method: str, url: str, body: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        return self._patience.persist(lambda: self._once(method, url, body))

    def _once(self, method: str, url: str, body: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        headers = {"Accept": "application/hal+json, application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode("utf-8")
        with self.web.open(url, headers, method, data) as reply:
            text = reply.read_all(LIMIT_BYTES)
            if reply.status in (404, 410):
                raise Gone(STORE_REFUSED, "%s answered %d" % (shown(url), reply.status))
            if reply.status >= 500 or reply.status in _LATER:
                raise Refusal(NETWORK, "%s answered %d" % (shown(url), reply.status))
            if reply.status >= 300:
                remedy = "Are controller and token those of this board?"
                raise Refusal(STORE_REFUSED, "%s answered %d" % (shown(url), reply.status), remedy)
        return _object(text) if method == "GET" else {}


class Gone(Refusal):
    """The server does not know that any more."""


def _object(text: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Refusal(STORE_REFUSED, "hawkBit's answer is no JSON object: %.80r" % text)
    return document


def _links(document: Mapping[str, Any]) -> Dict[str, str]:
    """Addresses by relation."""
    links = document.get("_links")
    pairs = links.items() if isinstance(links, dict) else ()
    found = {name: link.get("href") for name, link in pairs if isinstance(link, dict)}
    return {name: href for name, href in found.items() if isinstance(href, str)}


def _number(url: str) -> str:
    number = split(url).path.rstrip("/").rpartition("/")[2]
    if not _NUMBER.match(number):
        raise Refusal(STORE_REFUSED, "%s names no action" % shown(url))
    return number


def _below(url: str, name: str) -> str:
    return "%s/%s" % (url.partition("?")[0].rstrip("/"), name)


def _artifacts(chunk: Any) -> List[Dict[str, Any]]:
    entries = chunk.get("artifacts") if isinstance(chunk, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
