"""Sessions on the host: one place for the options of ONNX Runtime, and for running one feed.

Files of other formats run in the runner's own engines, so that the host checks what the board will do.

Meant for child processes: creating a session may crash the process (facts on converters §0.5). `ORT_ENABLE_ALL` is not
used, as it is what crashes there; two threads at most and no spinning, so that the user's computer stays usable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.formats import ONNX, READERS
from edgeopt.errors import ModelError

_UNKNOWN_OPERATOR = re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op")
_NO_KERNEL = re.compile(r"Could not find an implementation for (\S+?)\(")
_IR_TOO_NEW = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")


def open_session(source: Path | bytes) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU for a file or for the bytes of a model.

    A file whose suffix names another format gives what has the same `run` and `get_outputs`.

    Raises:
        ModelError: The runtime does not take the model, or is not installed; names the operator where that is the
            reason.
    """
    if isinstance(source, Path) and source.suffix[1:] in READERS and source.suffix[1:] != ONNX:
        return _EngineSession(source)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(2, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    model = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise _load_problem(source, str(error), onnxruntime.__version__) from None


@dataclass(frozen=True)
class _Named:
    name: str


class _EngineSession:
    """A file in an engine of the runner, in the form of an `InferenceSession`."""

    def __init__(self, path: Path) -> None:
        from edgeopt_runner.engines import EngineMissing, LoadFailed

        runtime = READERS[path.suffix[1:]][0]
        try:
            self._session = _loaded(runtime, path, {"threads": min(2, os.cpu_count() or 1)})
        except EngineMissing as error:
            remedy = "Install the runtimes of this computer: pip install 'edgeopt[runtimes]'."
            if runtime == "executorch":
                remedy = "Convert a network with convert_executorch: that makes an environment with it."
            raise ModelError(f"{path.name} needs {runtime} here: {error}.", remedy=remedy) from None
        except LoadFailed as error:
            raise ModelError(f"{runtime} cannot load {path.name}: {error}") from None

    def get_outputs(self) -> list[_Named]:
        return [_Named(name) for name in self._session.outputs]

    def run(self, names: Sequence[str], feed: dict[str, Any]) -> list[Any]:
        found = self._session.run(feed)
        return [found[name] for name in names]


def _loaded(runtime: str, path: Path, settings: dict[str, Any]) -> Any:
    """In an engine here or, where its runtime is not, in the environment that has it."""
    from edgeopt.graph.engine_process import EngineProcess, python_of
    from edgeopt_runner.engines import EngineMissing, engine

    try:
        return engine(runtime).load(str(path), settings)
    except EngineMissing:
        python = python_of(runtime)
        if python is None:
            raise
        return EngineProcess(python, runtime, path, settings)


def _load_problem(source: Path | bytes, text: str, version: str) -> ModelError:
    where = "the model" if isinstance(source, bytes) else source.name
    if match := _UNKNOWN_OPERATOR.search(text) or _NO_KERNEL.search(text):
        return ModelError(
            f"{where} uses the operator {match[1]}, which onnxruntime {version} does not have.",
            remedy="Export the network without it: custom operators cannot be converted.",
        )
    if match := _IR_TOO_NEW.search(text):
        return ModelError(
            f"{where} has IR version {match[1]}, but onnxruntime {version} reads up to {match[2]}.",
            remedy="Export again with an older onnx package or opset (18 to 20), or update onnxruntime.",
        )
    return ModelError(f"onnxruntime {version} cannot load {where}: {' '.join(text.split())[:300]}")


def run_feed(session: Any, feed: Mapping[str, Any]) -> dict[str, Any]:
    """Run one feed; outputs by name, in the order of the graph.

    Raises:
        ModelError: The run failed; says what onnxruntime said.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no base class
        shapes = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in feed.items())
        raise ModelError(f"the model failed on inputs {shapes}: {' '.join(str(error).split())[:300]}") from None
