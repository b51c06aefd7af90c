"""A model in an engine whose runtime this interpreter cannot have: its packages clash with ours (`environments`).

The process stays for all feeds, as loading ExecuTorch takes seconds; `run_child` would load it for each.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edgeopt_runner
from edgeopt.child import die_with_parent
from edgeopt.environments import Environment, interpreter, is_ready
from edgeopt.graph import engine_server
from edgeopt_runner import engines
from edgeopt_runner.engines import LoadFailed, RunFailed

EXECUTORCH = Environment(
    Path(__file__).with_name("executorch.txt"),
    needed=("torch", "executorch", "torchao", "onnx"),
    first="torch",
    size_bytes=2 << 30,
)
"""It needs numpy 2, which tflite_runtime cannot be with; converter and runtime are one package."""

_ELSEWHERE = {"executorch": EXECUTORCH}


def python_of(runtime: str) -> Path | None:
    """The interpreter of the environment that has a runtime; ``None`` where there is none, or it is not made yet."""
    environment = _ELSEWHERE.get(runtime)
    return interpreter(environment) if environment is not None and is_ready(environment) else None


class EngineProcess:
    """A loaded model, in the form of an engine's session; the process ends with it.

    Attributes:
        outputs: Names of the outputs, in the model's order.
    """

    def __init__(self, python: Path, runtime: str, path: Path, settings: Mapping[str, Any]) -> None:
        """Load the model.

        Args:
            python: Interpreter that has the runtime.
            runtime: Name of the engine.
            path: The model.
            settings: Of the engine.

        Raises:
            EngineMissing: The runtime cannot be imported there.
            LoadFailed: It refused the file, or crashed.
        """
        self._packages = tempfile.TemporaryDirectory(prefix="edgeopt-engine-")
        link = Path(self._packages.name, "edgeopt_runner")
        link.symlink_to(Path(str(edgeopt_runner.__file__)).parent)  # its folder may hold packages that clash
        arguments = [self._packages.name, runtime, str(path), json.dumps(dict(settings))]
        self._process = subprocess.Popen(
            [str(python), "-I", str(engine_server.__file__), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        self._ending = weakref.finalize(self, _end, self._process)
        try:
            self.outputs: list[str] = self._answer()[engine_server.OUTPUTS].tolist()
        except RunFailed as error:
            raise LoadFailed(str(error)) from None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name.

        Raises:
            RunFailed: The runtime failed on these feeds, or crashed.
        """
        with contextlib.suppress(BrokenPipeError):  # the answer tells why
            engine_server.send(_pipe(self._process.stdin), feeds)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._ending()
        self._packages.cleanup()

    def _answer(self) -> dict[str, Any]:
        answer = engine_server.receive(_pipe(self._process.stdout))
        if answer is None:
            raise RunFailed(f"the runtime's process ended with {self._process.wait()}")
        if engine_server.FAILED in answer:
            name, message = answer[engine_server.FAILED].tolist()
            raise getattr(engines, name)(message)
        return answer


def _pipe(stream: Any) -> Any:
    assert stream is not None, "both ends are pipes"
    return stream


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
