"""A real server of S3's protocol on loopback: s3rver (npm), with a bucket of its own.

Chosen because it is there in seconds from a registry, is a process of its own that keeps objects in a folder, and
answers plain GETs with ranges and entity tags as a public bucket does. It knows users by their key, and does not
compute Signature V4; servers that do (MinIO, Ceph, Garage) take minutes to build or a cluster to run.
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

KEY, SECRET = "S3RVER", "S3RVER"
_FOLDERS = (Path("~/.cache/edgeopt-tests/s3rver/node_modules/.bin").expanduser(),)


def _program() -> str | None:
    """Where s3rver is: `$S3RVER`, on the path, or where `.ci/run` puts it."""
    places = os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", "")])
    return os.environ.get("S3RVER") or shutil.which("s3rver", path=places)


class S3:
    """The server.

    Args:
        folder: Where it keeps its objects.
        bucket: Name of its bucket.
    """

    def __init__(self, program: str, folder: Path, bucket: str) -> None:
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder, self.bucket, self._program = folder, bucket, program
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find it."""
        login = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return {**login, "AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}

    def start(self) -> None:
        """Start listening."""
        command = [self._program, "-d", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port), "--no-vhost-buckets"]
        with open(self.folder.parent / "s3rver.log", "wb") as log:
            options = ["-s", "--configure-bucket", self.bucket]
            self._process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"s3rver did not start: {(self.folder.parent / 's3rver.log').read_text()}")

    def stop(self) -> None:
        """Stop listening."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def running_s3(folder: Path, bucket: str = "models") -> Iterator[S3]:
    """A server that listens inside the block. Skips the test, with the reason, where there is none."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'edgeopt[publish]')")
    program = _program()
    if program is None or shutil.which("node") is None:
        pytest.skip("no s3rver (npm install --prefix ~/.cache/edgeopt-tests/s3rver s3rver)")
    server = S3(program, folder / "objects", bucket)
    server.start()
    try:
        yield server
    finally:
        server.stop()
