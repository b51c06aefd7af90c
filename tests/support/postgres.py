"""A real PostgreSQL server of our own: temporary folder, free port, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server and give its URL, or skip the test and say what is absent."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="edgeopt-pg-"))
    as_user = _unprivileged(folder)
    data, port = folder / "data", _free_port()
    try:
        _run([*as_user, str(binaries / "initdb"), "-D", str(data), "-U", "edgeopt", "-A", "trust", "-N", "-E", "UTF8"])
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
        _run([*control, "-l", str(folder / "log"), "-o", options, "start"])
        try:
            yield f"postgresql://edgeopt@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("no PostgreSQL server is installed (no initdb in /usr/lib/postgresql/*/bin or on the PATH)")
    pytest.importorskip("psycopg")
    return (found[-1] if found else Path(str(on_path))).parent


def _unprivileged(folder: Path) -> list[str]:
    """The command in front of a server's program: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    pytest.skip("PostgreSQL refuses to run as root and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str]) -> None:
    with tempfile.TemporaryFile() as log:  # a pipe would stay open in the server that pg_ctl leaves behind
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", timeout=90)
        log.seek(0)
        assert result.returncode == 0, f"{command}: {log.read().decode(errors='replace')}"
