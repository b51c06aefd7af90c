"""ONNX Runtime, on the CPU unless another of its providers is asked for."""

import functools
import os
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner.engines import _formats, _onnxruntime_placement, _settings
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of

LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_CPU = "CPUExecutionProvider"
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

    def __init__(self, session: Any, again: _onnxruntime_placement.Again) -> None:
        self._session = session
        self._again = again
        self._shapes: _onnxruntime_placement.Shapes = {}
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
        self._shapes = {name: (array.shape, array.dtype) for name, array in feeds.items()}
        return {name: values[number] for number, name in enumerate(self.outputs)}

    def placement(self) -> Dict[str, int]:
        """Nodes by provider: as the session assigned them, or where its version does not tell, from a profiled run."""
        return _onnxruntime_placement.assigned(self._session) or self._again.placement(self._shapes)

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
        """Make an `InferenceSession`.

        Args:
            path: An ONNX file, or one of ONNX Runtime's own.
            settings: All but `precision`. `provider` is one of `available()`'s, empty: the CPU's; nodes that it does
                not take run on the CPU.

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: The file is not a model that this version loads, the provider does not start, or the settings
                are not ours.
        """
        try:
            onnxruntime = _imported()
        except Exception as error:
            raise EngineMissing("onnxruntime cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings, set(_settings.DEFAULTS) - {"precision"})
        options = _options(onnxruntime, settings)
        providers = _providers(onnxruntime, settings)
        _formats.expect(path, self.name, _formats.ONNX, _formats.ORT)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # the runtime's exceptions share no other base
            raise LoadFailed(message_of(error))
        if session.get_providers()[0] != providers[0]:
            raise LoadFailed("%s does not start on this device; see ONNX Runtime's log" % providers[0])
        return OnnxRuntimeSession(session, _onnxruntime_placement.Again(path, providers))


def _options(onnxruntime: Any, settings: Dict[str, Any]) -> Any:
    level = settings.get("graph_optimisation", "all")
    if level not in LEVELS:
        raise LoadFailed("graph_optimisation is %r; allowed: %s" % (level, ", ".join(LEVELS)))
    threads, inter_op = _settings.whole(settings, "threads"), _settings.whole(settings, "inter_op")
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
    for name, value in _onnxruntime_placement.RECORDING.items():
        options.add_session_config_entry(name, value)
    return options


def _providers(onnxruntime: Any, settings: Dict[str, Any]) -> List[str]:
    """The provider that is asked for, and the CPU's for what it does not take."""
    available = [_CPU] + [name for name in onnxruntime.get_available_providers() if name != _CPU]
    provider = _settings.one_of(settings, "provider", available)
    return [provider] + [_CPU] * (provider != _CPU)


def _rows(specs: List[Any]) -> Optional[int]:
    """See `Session.rows`: a free first dimension is a name or nothing, a fixed one a number."""
    firsts = [spec.shape[0] if spec.shape else None for spec in specs]
    if not all(spec.shape for spec in specs):
        return None
    sizes = {first if isinstance(first, int) and first > 0 else 0 for first in firsts}
    return sizes.pop() if len(sizes) == 1 else None


ENGINE = OnnxRuntime()
