"""`edgeopt ui` as a real process, and what a home has to have for it to show."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edgeopt.core.run import RunRecord
from edgeopt.workflow.workspace import Workspace

_UI = "import sys; from edgeopt.cli.main import main; main(sys.argv[1:])"


@dataclass(frozen=True)
class Served:
    """A page that is served.

    Attributes:
        url: The address with its token.
        process: What serves it.
    """

    url: str
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        return self.url.partition("/?")[0]

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    @property
    def query(self) -> str:
        return "/?" + self.url.partition("/?")[2]

    def ask(
        self, path: str, *, method: str = "GET", cookie: str = "", host: str | None = None
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """One request as a program sends it: status, headers, text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Host": f"127.0.0.1:{self.port}" if host is None else host}
        connection.request(method, path, headers={**headers, **({"Cookie": cookie} if cookie else {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text

    def cookie(self) -> str:
        """What a browser that entered with the token would send."""
        return self.ask(self.query)[1]["Set-Cookie"].partition(";")[0]

    def end(self) -> tuple[int, str]:
        """Ctrl-C: the exit code and what was said."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@contextlib.contextmanager
def serving(home: Path, *words: str) -> Iterator[Served]:
    """Serve a home until the block ends."""
    process = start(home, *words)
    try:
        assert process.stdout is not None
        line = "".join(iter(process.stdout.readline, "}\n"))
        yield Served(json.loads(line + "}")["url"], process)
    finally:
        process.kill()
        process.communicate()


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """The command, with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, "-c", _UI, "ui", "--json", *(words or ("--port", "0"))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EDGEOPT_HOME": str(home)},
    )


def keep(workspace: Workspace, *records: RunRecord) -> None:
    """Put runs into the ledger, as this process would have run them."""
    for record in records:
        workspace.ledger.start_run(record.run_id, record.run_id, record.command, started_at=record.started_at)
        workspace.ledger.save_run(record)
