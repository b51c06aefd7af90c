"""ExecuTorch, which runs `.pte` files: programs of PyTorch that were compiled beforehand, XNNPACK's parts and the rest.

Its files name no inputs. Those that edgeopt makes have a method `edgeopt` that gives the signature (`_signature`) as
JSON, with `placement`: operators by who runs them, which the file has settled.
"""

import json
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

from edgeopt_runner.engines import _formats, _settings, _signature
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, Session, message_of

RECORD = "edgeopt"
"""The method that gives the signature."""

_FORWARD = "forward"
_DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64"}
"""ExecuTorch's numbers of element types."""

_loaded: Any = weakref.WeakSet()
"""Methods that are alive. They hold the process's one pool of threads, which must not be replaced under them."""


def _imported() -> Tuple[Any, Any]:
    """The runtime and its bindings, which alone set the number of threads."""
    import executorch.extension.pybindings.portable_lib as bindings
    from executorch.runtime import Runtime

    return Runtime.get(), bindings


class ExecutorchSession(Session):
    """A loaded method. Inputs are torch's views of the arrays; outputs are copied out by every call."""

    def __init__(self, method: Any, signature: _signature.Signature, placement: Dict[str, int]) -> None:
        self._method = method
        self._ports = signature
        self._placement = placement
        self.inputs = [port.name for port in signature.inputs]
        self.outputs = [port.name for port in signature.outputs]
        self.rows = signature.rows

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Run, outputs: a list of arrays, in the order of `outputs`."""
        self.require(feeds)
        meta = self._method.metadata
        dtypes = [_DTYPES.get(meta.input_tensor_meta(number).dtype()) for number in range(len(self.inputs))]
        tensors = [_tensor(port, feeds[port.name], dtype) for port, dtype in zip(self._ports.inputs, dtypes)]
        method, ports = self._method, self._ports.outputs

        def call() -> List[Any]:
            return [port.out_of(found.numpy()) for port, found in zip(ports, method.execute(tensors))]

        return call

    def placement(self) -> Dict[str, int]:
        """As the file tells it; empty for a file that edgeopt did not make."""
        return dict(self._placement)

    def close(self) -> None:
        """Drop the method."""
        self._method = None


def _tensor(port: _signature.Port, array: Any, dtype: Optional[str]) -> Any:
    """A tensor over an array of the right type in one piece; a copy where it may not be written to, as torch warns."""
    import numpy as np
    import torch

    if port.shape is not None:
        _signature.check_shape(port.name, array.shape, port.shape)
    return torch.from_numpy(np.require(port.into(array, dtype or array.dtype), requirements=["C", "W"]))


class Executorch(Engine):
    """The engine of ``executorch``."""

    name = "executorch"

    def available(self) -> Optional[Dict[str, Any]]:
        """The version, and the backends that the package was built with."""
        try:
            runtime, _ = _imported()
            from executorch.version import __version__

            return {"version": str(__version__), "providers": sorted(runtime.backend_registry.registered_backend_names)}
        except Exception:  # a broken package raises anything: for us it is not there
            return None

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Load the program and its method `forward`.

        Args:
            path: A file of ExecuTorch.
            settings: `threads`, which all models of a process share: another number than that of models that are
                still loaded is refused.

        Raises:
            EngineMissing: The package, or torch, which it needs, cannot be imported.
            LoadFailed: ExecuTorch refused the file, or the settings are not ours.
        """
        try:
            runtime, bindings = _imported()
        except Exception as error:
            raise EngineMissing("ExecuTorch cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings)
        _formats.expect(path, self.name, _formats.EXECUTORCH)
        _set_threads(bindings, _settings.whole(settings, "threads"))
        try:
            program = runtime.load_program(path)
            signature, placement = _record_of(program)
            method = program.load_method(_FORWARD)
        except LoadFailed:
            raise
        except Exception as error:  # RuntimeError with a number, KeyError where there is no such method
            raise LoadFailed("ExecuTorch refused the file: %s" % message_of(error))
        _loaded.add(method)
        return ExecutorchSession(method, signature, placement)


def _set_threads(bindings: Any, threads: int) -> None:
    """Give the process's pool so many threads.

    Raises:
        LoadFailed: Models are loaded that use it with another number.
    """
    count = bindings._threadpool_get_thread_count()
    if count == threads:
        return
    if len(_loaded):
        raise LoadFailed(
            "threads is %d, but ExecuTorch has one pool for all models of a process, and %d loaded here use it with %d"
            % (threads, len(_loaded), count)
        )
    bindings._unsafe_reset_threadpool(threads)


def _record_of(program: Any) -> Tuple[_signature.Signature, Dict[str, int]]:
    """Signature and placement from the file's own record; for a foreign file numbered names alone.

    Raises:
        LoadFailed: The record is damaged.
    """
    if RECORD not in program.method_names:
        meta = program.metadata(_FORWARD)
        counts = {"input": meta.num_inputs(), "output": meta.num_outputs()}
        names = {kind: ["%s_%d" % (kind, number) for number in range(count)] for kind, count in counts.items()}
        return _signature.bare(names["input"], names["output"]), {}
    text = str(program.load_method(RECORD).execute(())[0])
    signature = _signature.parse(text)
    return signature, {str(name): int(count) for name, count in json.loads(text).get("placement", {}).items() if count}


ENGINE = Executorch()
