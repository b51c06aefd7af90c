"""ONNX Runtime on the CPU."""

import functools
import os
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of

LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_PROVIDERS = ["CPUExecutionProvider"]
_ONLY_ERRORS = 3
SILENCE = {"ORT_DISABLE_TELEMETRY": "1"}
"""What keeps the Linux builds from 1.29 on from reporting names and digests of models, for which they keep a database
in ``~/.cache``. Who sets it to something else has decided."""


def _imported() -> Any:
    """The package, silenced before it is imported."""
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    import onnxruntime

    return onnxruntime


class OnnxRuntimeSession(Session):
    """A model in ONNX Runtime.

    The timed call is the plain `InferenceSession.run`: what an application on the board will use.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = [spec.name for spec in session.get_inputs()]
        self.outputs = [spec.name for spec in session.get_outputs()]
        self.rows = _rows(session.get_inputs() + session.get_outputs())

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """`InferenceSession.run` with its arguments bound."""
        return functools.partial(self._session.run, None, dict(feeds))

    def run(self, feeds: Dict[str, Any]) -> Dict[str, Any]:
        """Outputs by name."""
        try:
            values = self._session.run(None, feeds)
        except Exception as error:  # the runtime's exceptions share no other base
            raise RunFailed(message_of(error))
        return {name: values[number] for number, name in enumerate(self.outputs)}

    def close(self) -> None:
        """Drop the session."""
        self._session = None


class OnnxRuntime(Engine):
    """The engine of ``onnxruntime``."""

    name = "onnxruntime"

    def available(self) -> Optional[Dict[str, Any]]:
        """Version and providers of the installed package."""
        try:
            onnxruntime = _imported()
            return {
                "version": str(onnxruntime.__version__),
                "providers": [str(name) for name in onnxruntime.get_available_providers()],
            }
        except Exception:  # a broken package raises anything: for us it is not there
            return None

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Make an `InferenceSession` on the CPU provider alone.

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: The file is not a model that this version loads, or the settings are not ours.
        """
        try:
            onnxruntime = _imported()
        except Exception as error:
            raise EngineMissing("onnxruntime cannot be imported: %s" % message_of(error))
        options = _options(onnxruntime, settings)
        try:
            return OnnxRuntimeSession(onnxruntime.InferenceSession(path, options, providers=_PROVIDERS))
        except Exception as error:  # the runtime's exceptions share no other base
            raise LoadFailed(message_of(error))


def _options(onnxruntime: Any, settings: Dict[str, Any]) -> Any:
    level = settings.get("graph_optimisation", "all")
    if level not in LEVELS:
        raise LoadFailed("graph_optimisation is %r; allowed: %s" % (level, ", ".join(LEVELS)))
    threads, inter_op = _count(settings, "threads"), _count(settings, "inter_op")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = inter_op
    if inter_op > 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    options.log_severity_level = _ONLY_ERRORS
    spinning = "1" if settings.get("spinning", True) else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    return options


def _count(settings: Dict[str, Any], name: str) -> int:
    value = settings.get(name, 1)
    if not isinstance(value, int) or value < 1:
        raise LoadFailed("%s is %r; it must be a whole number of at least 1" % (name, value))
    return value


def _rows(specs: List[Any]) -> Optional[int]:
    """See `Session.rows`: a free first dimension is a name or nothing, a fixed one a number."""
    firsts = [spec.shape[0] if spec.shape else None for spec in specs]
    if not all(spec.shape for spec in specs):
        return None
    sizes = {first if isinstance(first, int) and first > 0 else 0 for first in firsts}
    return sizes.pop() if len(sizes) == 1 else None


ENGINE = OnnxRuntime()
