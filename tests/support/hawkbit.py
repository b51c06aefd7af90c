"""A server that speaks hawkBit's DDI v1 over real HTTP, written after its OpenAPI and the sources of August 2026.

Controller base, ``deploymentBase``, ``cancelAction``, ``configData``, artifact downloads with ranges, and feedback that
is held against the schema: what hawkBit would answer with 400 is answered with 400 here, and an action that is closed
answers 410, as there.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EXECUTIONS = {"closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "downloaded", "download"}
RESULTS = {"success", "failure", "none"}
TOKEN, CONTROLLER = "secret-token", "board-1"


@dataclass
class Hawkbit:
    """The server.

    Attributes:
        files: Artifacts of the assigned distribution set, by name.
        action: Number of the open deployment; 0: none.
        cancel: Number of the open cancellation; 0: none.
        handling: ``download`` and ``update`` of the deployment, and more of its fields.
        failures: Statuses that the next requests are answered with, whatever they ask.
        feedback: What came, as (kind, number, execution, finished, details).
        attributes: What the controller said of itself.
    """

    files: dict[str, Path] = field(default_factory=dict)
    action: int = 0
    cancel: int = 0
    handling: dict[str, str] = field(default_factory=lambda: {"download": "forced", "update": "forced"})
    failures: list[int] = field(default_factory=list)
    feedback: list[tuple[str, int, str, str, str]] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    _server: Any = None

    def __enter__(self) -> Hawkbit:
        outer = self

        class Handler(_Handler):
            hawkbit = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What a controller is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/DEFAULT/controller/v1"

    @property
    def settings(self) -> dict[str, str]:
        """The agent's setting."""
        return {"url": self.url, "controller": CONTROLLER, "token": TOKEN}

    def assign(self, tree: Path, number: int) -> None:
        """Assign all files of a release tree as one distribution set."""
        found = [path for path in sorted(tree.rglob("*")) if path.is_file()]
        self.files = {path.name: path for path in found}
        self.action = number

    @property
    def told(self) -> list[tuple[int, str, str]]:
        """Number, execution and result of what came about deployments."""
        return [entry[1:4] for entry in self.feedback if entry[0] == "deploymentBase"]

    def base(self) -> dict[str, Any]:
        """The controller base."""
        links: dict[str, Any] = {}
        here = f"{self.url}/{CONTROLLER}"
        if not self.attributes:
            links["configData"] = {"href": f"{here}/configData"}
        if self.cancel:
            links["cancelAction"] = {"href": f"{here}/cancelAction/{self.cancel}"}
        elif self.action:
            links["deploymentBase"] = {"href": f"{here}/deploymentBase/{self.action}?c=-2122565939"}
        return {"config": {"polling": {"sleep": "00:05:00"}}, "_links": links}

    def deployment(self) -> dict[str, Any]:
        """The deployment base."""
        artifacts = [self._artifact(name, path) for name, path in self.files.items()]
        chunk = {"part": "bApp", "version": "1.0", "name": "digits", "artifacts": artifacts}
        return {"id": str(self.action), "deployment": {**self.handling, "chunks": [chunk]}}

    def _artifact(self, name: str, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        href = f"{self.url}/{CONTROLLER}/softwaremodules/7/artifacts/{name}"
        hashes = {kind: hashlib.new(kind, data).hexdigest() for kind in ("sha1", "md5", "sha256")}
        links = {"download": {"href": href}, "md5sum": {"href": f"{href}.MD5SUM"}}
        return {"filename": name, "hashes": hashes, "size": len(data), "_links": links}

    def take(self, kind: str, number: int, body: Any) -> int:
        """Feedback; the status that it is answered with."""
        try:
            status = body["status"]
            execution, finished = status["execution"], status["result"]["finished"]
            details = status.get("details", [])
        except (KeyError, TypeError):
            return 400
        if execution not in EXECUTIONS or finished not in RESULTS or not isinstance(details, list):
            return 400
        if number != (self.cancel if kind == "cancelAction" else self.action):
            return 410
        self.feedback.append((kind, number, execution, finished, " ".join(details)))
        if execution == "closed" and kind == "cancelAction":
            self.action = 0
        if execution in ("closed", "rejected") and kind == "cancelAction":
            self.cancel = 0
        if execution == "closed" and kind == "deploymentBase":
            self.action = 0
        return 200


class _Handler(BaseHTTPRequestHandler):
    hawkbit: Hawkbit
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    do_PUT = do_POST

    def _serve(self, body: Any) -> None:
        self.hawkbit.requests.append(f"{self.command} {self.path}")
        if self.hawkbit.failures:
            return self._say(self.hawkbit.failures.pop(0), {"errorCode": "hawkbit.server.error"})
        if self.headers.get("Authorization") != f"TargetToken {TOKEN}":
            return self._say(401, {})
        place = self.path.partition("?")[0].removeprefix(f"/DEFAULT/controller/v1/{CONTROLLER}")
        if (self.command, place) == ("GET", ""):
            return self._say(200, self.hawkbit.base())
        if (self.command, place) == ("PUT", "/configData"):
            self.hawkbit.attributes = body["data"]
            return self._say(200, {})
        if match := re.fullmatch(r"/(deploymentBase|cancelAction)/(\d+)(/feedback)?", place):
            return self._action(match[1], int(match[2]), body, is_feedback=bool(match[3]))
        if match := re.fullmatch(r"/softwaremodules/7/artifacts/([^/]+)", place):
            return self._artifact(match[1])
        return self._say(404, {})

    def _action(self, kind: str, number: int, body: Any, *, is_feedback: bool) -> None:
        if is_feedback:
            return self._say(self.hawkbit.take(kind, number, body), {})
        if kind == "cancelAction" and number == self.hawkbit.cancel:
            stop = {"id": str(number), "cancelAction": {"stopId": str(self.hawkbit.action)}}
            return self._say(200, stop)
        if kind == "deploymentBase" and number == self.hawkbit.action:
            return self._say(200, self.hawkbit.deployment())
        return self._say(404, {})

    def _artifact(self, name: str) -> None:
        path = self.hawkbit.files.get(name)
        if path is None:
            return self._say(404, {})
        data, status, headers = path.read_bytes(), 200, {}
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status = 206
            headers["Content-Range"] = f"bytes {asked[1]}-{len(data) - 1}/{len(data)}"
            data = data[int(asked[1]) :]
        return self._send(status, data, headers)

    def _say(self, status: int, document: Any) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/hal+json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
