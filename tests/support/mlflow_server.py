"""A tracking server that knows as much of MLflow's REST API as a run needs, and can be taken away in the middle of one.

(MLflow's own server needs its whole package, with Flask and pandas; the tests install the small one.)
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Server(ThreadingHTTPServer):
    """Answers until it is told to go.

    Attributes:
        asked: The calls it has had, in order.
        runs: What it was told, by the run's id.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def go(self) -> None:
        """Stop in the middle of whatever it does; whoever calls then is refused."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._call({})

    def do_POST(self) -> None:
        self._call(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def _call(self, body: dict[str, Any]) -> None:
        name = urlsplit(self.path).path.partition("/mlflow/")[2]
        self.server.asked.append(name)
        known = {
            "experiments/get-by-name": lambda: {"experiment": {"experiment_id": "1", "name": "edgeopt"}},
            "runs/search": lambda: {"runs": []},
            "runs/create": lambda: self._created(body),
            "runs/log-batch": lambda: self.server.runs[body["run_id"]].update(body) or {},
            "runs/update": lambda: {"run_info": {"run_id": body["run_id"]}},
        }
        answer = known[name]() if name in known else None
        payload = json.dumps(answer or {"error_code": "ENDPOINT_NOT_FOUND"} if answer is None else answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _created(self, body: dict[str, Any]) -> dict[str, Any]:
        run_id = f"{len(self.server.runs):032x}"
        self.server.runs[run_id] = body
        return {"run": {"info": {"run_id": run_id, "run_uuid": run_id, "experiment_id": "1"}, "data": {}}}

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def tracking_server() -> Iterator[Server]:
    """The server, at work."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.go()
        thread.join()
