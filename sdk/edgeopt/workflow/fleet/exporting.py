"""Serves the fleet's metrics to Prometheus, or writes them once for a textfile collector."""

from __future__ import annotations

import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from edgeopt import documents
from edgeopt.errors import EdgeoptError, UsageError
from edgeopt.report.fleet_metrics import CONTENT_TYPE, exposition
from edgeopt.workflow.fleet.rollouts import newest_by_app
from edgeopt.workflow.fleet.status import sightings_of
from edgeopt.workflow.workspace import Workspace

_INDEX = b"<!doctype html><title>edgeopt</title><p>Metrics are at <a href=/metrics>/metrics</a>.\n"


def metrics(workspace: Workspace) -> str:
    """What is known now: the newest rollout of each app, and what each board answered last; no board is asked.

    Raises:
        StoreError: The rollouts or the answers cannot be read.
    """
    return exposition(newest_by_app(workspace), sightings_of(workspace).all())


def write_metrics(workspace: Workspace, path: Path) -> None:
    """Write them as a file, atomically, as node_exporter's textfile collector wants it.

    Raises:
        UsageError: The file cannot be written, or does not end in ``.prom``.
    """
    if path.suffix != ".prom":
        raise UsageError(f"{path} does not end in .prom.", remedy="The textfile collector reads no other files.")
    try:
        documents.write_atomically(path, metrics(workspace).encode())
        path.chmod(0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}.", remedy="Name a folder that is writable.") from None


class Exporter(ThreadingHTTPServer):
    """Answers ``GET /metrics``. Everything else is not there; nothing can be changed through it.

    Args:
        workspace: Where rollouts and answers are.
        address: Where it listens: ``127.0.0.1:9460``.

    Raises:
        UsageError: The address is none, or is taken.
    """

    daemon_threads = True

    def __init__(self, workspace: Workspace, address: str) -> None:
        self.workspace = workspace
        host, port = parse_address(address)
        self._reading = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address}: {error.strerror}.", remedy="Name another: --listen 127.0.0.1:9461."
            ) from None

    def text(self) -> str:
        """The metrics; one reader at a time, however many ask."""
        with self._reading:
            return metrics(self.workspace)


def parse_address(address: str) -> tuple[str, int]:
    """``host:port`` as a pair.

    Raises:
        UsageError: It is none.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        raise UsageError(f"{address!r} is not HOST:PORT.", remedy="Say --listen 127.0.0.1:9460.")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Handler(BaseHTTPRequestHandler):
    server: Exporter
    timeout = 10
    server_version, sys_version = "edgeopt", ""

    def do_GET(self) -> None:  # the name that http.server calls
        """Answer a request."""
        path = urlsplit(self.path).path
        if path == "/":
            self._answer(200, "text/html; charset=utf-8", _INDEX)
        elif path == "/metrics":
            try:
                self._answer(200, CONTENT_TYPE, self.server.text().encode())
            except EdgeoptError as error:
                self._answer(503, "text/plain; charset=utf-8", f"{error.message}\n".encode())
        else:
            self._answer(404, "text/plain; charset=utf-8", b"not here\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: scrapes come every few seconds."""
