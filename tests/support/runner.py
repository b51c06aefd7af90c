"""A real runner bundle as a real process, spoken to over pipes."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.remote.bundle import build_bundle
from edgeopt_runner.protocol import frames

OWNER = {"owner": "anna", "host": "laptop", "reason": "tests"}


@functools.lru_cache(maxsize=1)
def _bundle_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeopt-bundle-")


@functools.lru_cache(maxsize=1)
def bundle_path() -> Path:
    """The bundle, built once a test process."""
    return build_bundle(Path(_bundle_folder().name, "edgeopt_runner.pyz")).path


def job(kind: str = "rehearse", **fields: Any) -> dict[str, Any]:
    """A job document with fresh identifiers."""
    document = {"job_id": uuid.uuid4().hex, "nonce": uuid.uuid4().hex, "kind": kind, "owner": OWNER, "limits": {}}
    return {**document, **fields}


class Runner:
    """``serve`` on a root, with a board's lock of its own.

    Args:
        root: The runner's root.
        fault: What `$EDGEOPT_FAULT` asks for, in the server and all that it starts.
        lock: The board's lock; by default one beside the root, so that each test has its own board.
    """

    def __init__(self, root: Path, *, fault: str = "", lock: Path | None = None, python: str = sys.executable) -> None:
        self.root = root
        self._python = python
        board = {"EDGEOPT_LOCK": str(lock or root.parent / f"{root.name}.lock")}
        self.environment = {**os.environ, **board, "EDGEOPT_FAULT": fault}
        self._serve = self.start("serve")
        self._reader = frames.reader_of(self._serve.stdout)
        self._requests = 0

    def start(self, action: str, *arguments: str, root: Path | None = None) -> subprocess.Popen[bytes]:
        """Start an action of the bundle with pipes."""
        command = [self._python, "-I", str(bundle_path()), action, "--root", str(root or self.root), *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment)

    @property
    def pid(self) -> int:
        """Pid of the server."""
        return self._serve.pid

    def send_raw(self, data: bytes) -> None:
        """Put bytes on the server's stdin."""
        self._serve.stdin.write(data)
        self._serve.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """The next answer, whole; ``None`` when the server is gone."""
        return self._reader.next()

    def ask(self, verb: str, **params: Any) -> dict[str, Any]:
        """The whole answer to a request."""
        self._requests += 1
        self.send_raw(frames.encode({"id": self._requests, "verb": verb, "params": params}))
        answer = self.answer()
        assert answer is not None, f"the server went away during {verb}"
        assert answer["id"] == self._requests
        return answer

    def result_of(self, verb: str, **params: Any) -> dict[str, Any]:
        """The result of a request that must succeed."""
        answer = self.ask(verb, **params)
        assert answer["ok"], answer
        return answer["result"]

    def error_of(self, verb: str, **params: Any) -> dict[str, Any]:
        """The error of a request that must be refused."""
        answer = self.ask(verb, **params)
        assert not answer["ok"], answer
        return answer["error"]

    def wait_for(self, job_id: str, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """Poll until the job is in one of the states; returns its status."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.result_of("status", job_id=job_id)
            if status["state"] in states:
                return status
            assert time.monotonic() < deadline, f"{status} and never {states}"
            time.sleep(0.05)

    def finish(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job, wait for its end and return its result."""
        self.result_of("submit", job=dict(document))
        self.wait_for(document["job_id"], "done")
        return self.result_of("result", job_id=document["job_id"])

    def receive(self, digest: str, size: int, data: bytes) -> list[dict[str, Any]]:
        """Offer an object: all frames of the answer."""
        with self.start("receive", "--sha256", digest, "--size", str(size)) as process:
            reader = frames.reader_of(process.stdout)
            answers = [reader.next()]
            if answers[0].get("have") is False:
                try:
                    process.stdin.write(data[answers[0]["offset"] :])
                    process.stdin.flush()
                except BrokenPipeError:
                    pass
            process.stdin.close()
            while (answer := reader.next()) is not None:
                answers.append(answer)
        return answers

    def hang_up(self) -> int:
        """Close the server's stdin, as a cut link does; returns its exit code."""
        self._serve.stdin.close()
        return self._serve.wait(timeout=10)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._serve.poll() is None:
            self._serve.kill()
        self._serve.wait()
        for stream in (self._serve.stdin, self._serve.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
