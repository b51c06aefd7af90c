"""What a board tells of itself through the store: ``reports/<device_id>/<n>.json``, signed by the board's own key.

The file is ``{"payload": text, "signatures": [{"key", "sig"}]}``; the signature is over the UTF-8 bytes of the text,
a JSON object, so that nobody has to agree on how JSON is written.
"""

import json
import time
from typing import Any, Dict, List, Mapping

from edgeopt_runner.agent import NETWORK, STORE_REFUSED, device_key
from edgeopt_runner.agent.patience import Patience
from edgeopt_runner.agent.settings import Settings
from edgeopt_runner.agent.web import Web, shown
from edgeopt_runner.protocol import RUNNER_VERSION
from edgeopt_runner.refusals import Refusal

LIMIT_BYTES = 128 << 10
_TAKEN = (200, 201, 202, 204)


def report(root: str, settings: Settings, number: int, facts: Mapping[str, Any]) -> bytes:
    """The bytes of a signed report.

    Args:
        root: The runner's root.
        settings: Who the board is.
        number: Of the report; rises.
        facts: ``apps`` (what `releases` says), ``updates`` (how far the offers are), ``trust`` (versions),
            ``hardware`` (``marks`` of it, and whether the disk was ``moved`` to it).
    """
    payload = {
        "schema": 1,
        "device_id": settings.device_id,
        "number": number,
        "time": int(time.time()),
        "runner": RUNNER_VERSION,
        "profile": settings.profile,
        "labels": dict(settings.labels),
    }
    text = json.dumps(dict(payload, **facts), sort_keys=True, allow_nan=False)
    signatures: List[Dict[str, str]] = [device_key.signature(root, text.encode("utf-8"))]
    return json.dumps({"payload": text, "signatures": signatures}).encode("utf-8")


def address(settings: Settings, number: int) -> str:
    """Where report `number` goes: ``{device_id}`` and ``{n}`` are replaced; an address without them is a folder.

    One with a query and no ``{n}`` is taken as it is: a presigned address of one object, which holds the latest.
    """
    url = settings.report_url
    if "{device_id}" in url or "{n}" in url:
        return url.replace("{device_id}", settings.device_id).replace("{n}", str(number))
    return url if "?" in url else "%s/%s/%d.json" % (url.rstrip("/"), settings.device_id, number)


def send(web: Web, patience: Patience, url: str, body: bytes) -> None:
    """Put a report into the store.

    Raises:
        Refusal: ``network`` after all tries, ``store_refused``.
    """
    patience.persist(lambda: _put(web, url, body))


def _put(web: Web, url: str, body: bytes) -> None:
    if len(body) > LIMIT_BYTES:
        raise Refusal(STORE_REFUSED, "the report has %d bytes, more than %d" % (len(body), LIMIT_BYTES))
    with web.open(url, {"Content-Type": "application/json"}, method="PUT", body=body) as reply:
        if reply.status in _TAKEN:
            return
        code = NETWORK if reply.status >= 500 or reply.status in (408, 429) else STORE_REFUSED
        raise Refusal(code, "%s answered %d to a report" % (shown(url), reply.status), "May boards write there?")
