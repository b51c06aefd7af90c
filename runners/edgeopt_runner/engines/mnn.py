"""MNN. Its files say nothing of shapes; what the original's were stands in the file's `bizCode`, as JSON.

`mnnconvert --bizCode '{"inputs": [...], "outputs": [...]}'` puts it there (`_signature`).
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

from edgeopt_runner.engines import _formats, _settings, _signature
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, Session, message_of

PRECISIONS = {"float32": "high", "float16": "low", "bfloat16": "low_bf16"}


def _imported() -> Tuple[Any, Any, Any]:
    """The package, its modules and its expressions."""
    import MNN
    import MNN.expr
    import MNN.nn

    return MNN, MNN.nn, MNN.expr


class MnnSession(Session):
    """A module of MNN. Inputs are copied by the timed call: its variables cannot be given arrays of our own."""

    def __init__(self, module: Any, expr: Any, signature: _signature.Signature) -> None:
        self._module = module
        self._expr = expr
        self._ports = signature
        self.inputs = [port.name for port in signature.inputs]
        self.outputs = [port.name for port in signature.outputs]
        self.rows = signature.rows

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Variables of the arrays, forward, outputs: a list of arrays, in the order of `outputs`."""
        self.require(feeds)
        arrays = [self._accepted(port, feeds[port.name]) for port in self._ports.inputs]
        expr, forward, outputs, copy = self._expr, self._module.forward, self._ports.outputs, _copy()
        kinds = [expr.float if array.dtype.kind == "f" else expr.int for array in arrays]

        def call() -> List[Any]:
            given = [expr.const(array, list(array.shape), expr.NCHW, kind) for array, kind in zip(arrays, kinds)]
            return [port.out_of(copy(found.read())) for port, found in zip(outputs, forward(given))]

        return call

    def _accepted(self, port: _signature.Port, array: Any) -> Any:
        """As MNN takes it: float32 or int32, in one piece. A wrong shape would end the process, so it is refused."""
        import numpy as np

        if port.shape is not None:
            _signature.check_shape(port.name, array.shape, port.shape)
        return np.ascontiguousarray(array, dtype=np.float32 if array.dtype.kind == "f" else np.int32)

    def close(self) -> None:
        """Drop the module."""
        self._module = None


class Mnn(Engine):
    """The engine of ``mnn``."""

    name = "mnn"

    def available(self) -> Optional[Dict[str, Any]]:
        """The version."""
        try:
            return {"version": str(_imported()[0].version()), "providers": ["CPU"]}
        except Exception:  # a broken package raises anything: for us it is not there
            return None

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Make a module.

        Args:
            path: A file of MNN.
            settings: `threads`; `precision`: ``float32`` (the default), ``float16`` or ``bfloat16``, which MNN uses
                where the CPU has it.

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: MNN refused the file, or the settings are not ours.
        """
        try:
            _, nn, expr = _imported()
        except Exception as error:
            raise EngineMissing("MNN cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings, ("precision",))
        precision = PRECISIONS[_settings.one_of(settings, "precision", list(PRECISIONS))]
        _formats.expect(path, self.name)
        options = {"backend": "CPU", "numThread": _settings.whole(settings, "threads"), "precision": precision}
        try:
            manager = nn.create_runtime_manager((options,))
            first = nn.load_module_from_file(path, [], [], runtime_manager=manager)
            signature = _signature_of(first.get_info())
            inputs, outputs = ([port.tensor for port in one] for one in (signature.inputs, signature.outputs))
            if first.get_info()["inputNames"] != inputs or first.get_info()["outputNames"] != outputs:
                first = nn.load_module_from_file(path, inputs, outputs, runtime_manager=manager)
        except LoadFailed:
            raise
        except Exception as error:  # SystemError, without a word: MNN prints its own
            raise LoadFailed("MNN refused the file: %s" % message_of(error))
        return MnnSession(first, expr, signature)


def _copy() -> Callable[[Any], Any]:
    """NumPy's: what a variable gives to read is its own memory, which the next run overwrites."""
    import numpy as np

    return np.array


def _signature_of(info: Dict[str, Any]) -> _signature.Signature:
    """From `bizCode` where it is ours, else the names in the file."""
    note = str(info.get("bizCode") or "")
    if note.startswith("{"):
        return _signature.parse(note)
    return _signature.bare([str(name) for name in info["inputNames"]], [str(name) for name in info["outputNames"]])


ENGINE = Mnn()
