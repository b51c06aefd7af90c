"""A real nginx on loopback that serves one folder, with the locations that go wrong in the field.

``/tree/``: as it is; ``/slow/``: 200 kB a second; ``/gone/``: 404 for ever; ``/broken/``: 503; ``/whole/``: ranges are
ignored (answers 200); ``/round/``: redirects to itself; ``/moved/``: redirects to ``/tree/``; ``/lying/``: says 304 to
whoever knows any entity tag; ``/reports/``: WebDAV PUT into a folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /tree/ {{ alias {tree}/; }}
    location /slow/ {{ alias {tree}/; limit_rate 200k; }}
    location /gone/ {{ return 404; }}
    location /broken/ {{ return 503; }}
    location /whole/ {{ alias {tree}/; max_ranges 0; }}
    location /round/ {{ return 302 /round/; }}
    location /moved/ {{ rewrite ^/moved/(.*)$ /tree/$1 redirect; }}
    location /lying/ {{ if ($http_if_none_match) {{ return 304; }} alias {tree}/; }}
    location /reports/ {{
      alias {reports}/;
      dav_methods PUT;
      create_full_put_path on;
      client_max_body_size 1m;
    }}
  }}
}}
"""


class Nginx:
    """The server.

    Args:
        folder: Of the server: configuration, logs, reports.
        tree: What it serves.
    """

    def __init__(self, folder: Path, tree: Path) -> None:
        self.folder, self.reports = folder, folder / "reports"
        self.reports.mkdir(parents=True)
        folder.chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        config = _CONFIG.format(folder=folder, tree=tree, reports=self.reports, port=self.port)
        user = "user root;\n" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(user + config)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, location: str = "tree") -> str:
        """Address of a location."""
        return f"http://127.0.0.1:{self.port}/{location}"

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path and status of every request so far."""
        lines = (self.folder / "access.log").read_text().splitlines()
        parts = [line.split('"') for line in lines]
        return [(*part[1].split()[:2], int(part[2].split()[0])) for part in parts]  # type: ignore[misc]

    def forget(self) -> None:
        """Begin a new list of requests."""
        with open(self.folder / "access.log", "w"):
            pass

    def start(self) -> None:
        """Start listening."""
        with open(self.folder / "start.log", "wb") as log:
            command = [NGINX, "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"nginx did not start: {(self.folder / 'start.log').read_text()}")

    def stop(self) -> None:
        """Stop listening."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def running_nginx(folder: Path, tree: Path) -> Iterator[Nginx]:
    """A server that listens inside the block. Skips the test, with the reason, where there is no nginx."""
    if not Path(NGINX).exists():
        pytest.skip(f"no nginx at {NGINX} (Debian: nginx-light)")
    server = Nginx(folder, tree)
    server.start()
    try:
        yield server
    finally:
        server.stop()
