"""OpenVINO, which reads ONNX and TFLite files as they are and compiles them for the device while loading."""

import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from edgeopt_runner.engines import _formats, _settings, _signature, _tflite_file
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of
from edgeopt_runner.engines._openvino_model import CPU, Source, name_of, properties, rows_of_a_request, said, shape_of

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""OpenVINO's own names. Left to itself it computes in bfloat16 where the CPU can: that must be asked for here."""

_NO_OPERATORS = ("Input", "Output", "Const")


_REPORTS = "openvino_telemetry"


def _imported() -> Any:
    """The package, without the one by which importing it reports to Google and leaves an identifier in ``~/intel``."""
    hidden = not {"openvino", _REPORTS} & set(sys.modules)
    if hidden:
        sys.modules[_REPORTS] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[_REPORTS]
    return openvino


class OpenVinoSession(Session):
    """A compiled model with one request, and once it is fed other rows than it was compiled for, with a second for any.

    The timed call is `InferRequest.infer` on the caller's arrays, without copies of inputs. Names are the file's own:
    compiling keeps the order of ports, but may call a port by a tensor that was merged into it.
    """

    def __init__(self, source: Source, rows: int, signature: Optional[_signature.Signature]) -> None:
        self._source = source
        model, self.compiled, self._rows = source.compiled(rows)
        self._request = self.compiled.create_infer_request()
        self._any: Any = None
        names = ([name_of(port) for port in ports] for ports in (model.inputs, model.outputs))
        ours = signature or _signature.bare(*names)
        self._inputs = [(port,) + _found(model.inputs, self.compiled.inputs, port) for port in ours.inputs]
        self._outputs = [(port,) + _found(model.outputs, self.compiled.outputs, port) for port in ours.outputs]
        self.inputs = [port.name for port in ours.inputs]
        self.outputs = [port.name for port in ours.outputs]
        ports = self.compiled.inputs + self.compiled.outputs
        self.rows = 0 if self._rows else _signature.common_rows([shape_of(port) for port in ports])

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Inference with the arrays bound; outputs as a list, in the order of `outputs`."""
        self.require(feeds)
        bound = [(port, number, dtype, feeds[port.name]) for port, number, dtype in self._inputs]
        infer, outputs = self._request_for([array for _, _, _, array in bound]).infer, self._outputs

        def call() -> List[Any]:
            arrays = {number: port.into(array, dtype) for port, number, dtype, array in bound}
            results = infer(arrays, share_inputs=True)
            return [port.out_of(results[number]) for port, number, _ in outputs]

        return call

    def _request_for(self, arrays: List[Any]) -> Any:
        """The request that takes so many rows. Raises RunFailed where OpenVINO does not compile the file again."""
        if not self._rows or all(array.shape[:1] == (self._rows,) for array in arrays):
            return self._request
        if self._any is None:
            try:
                self._any = self._source.compiled().compiled.create_infer_request()
            except Exception as error:  # the file is gone, or there is no memory for another
                raise RunFailed(self.said(error))
        return self._any

    def said(self, error: BaseException) -> str:
        """OpenVINO's words without the places in its source."""
        return said(error)

    def placement(self) -> Dict[str, int]:
        """Operators by the kind of kernel that runs them, for example ``{"brgconv_avx512_f32": 12}``."""
        found: Dict[str, int] = {}
        for operator in self.compiled.get_runtime_model().get_ordered_ops():
            info = operator.get_rt_info()
            if _text(info, "layerType") not in _NO_OPERATORS:
                kernel = _text(info, "primitiveType") or "unknown"
                found[kernel] = found.get(kernel, 0) + 1
        return found

    def close(self) -> None:
        """Drop the requests and the compiled model."""
        self._request = self._any = self.compiled = None


class OpenVino(Engine):
    """The engine of ``openvino``."""

    name = "openvino"

    def available(self) -> Optional[Dict[str, Any]]:
        """Version and devices."""
        try:
            openvino = _imported()
            version = str(openvino.__version__).partition("-")[0]
            return {"version": version, "providers": [str(name) for name in openvino.Core().available_devices]}
        except Exception:  # a broken package raises anything: for us it is not there
            return None

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Read and compile a model.

        Args:
            path: An ONNX or a TFLite file.
            settings: `threads`; `precision`: ``float32`` (the default), ``bfloat16`` or ``float16``; `provider`: one of
                `available()`'s, empty: ``CPU``.

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: OpenVINO refused the file, the device does not compute in the precision, or the settings are not
                ours.
        """
        try:
            openvino = _imported()
            core = openvino.Core()
        except Exception as error:
            raise EngineMissing("openvino cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings, ("precision", "provider"))
        threads = _settings.whole(settings, "threads")
        precision = PRECISIONS[_settings.one_of(settings, "precision", list(PRECISIONS))]
        devices = [CPU] + [str(name) for name in core.available_devices if name != CPU]
        device = _settings.one_of(settings, "provider", devices)
        found = _formats.expect(path, self.name, _formats.ONNX, _formats.TFLITE)
        signature = _tflite_file.signature(path) if found == _formats.TFLITE else None
        sessions, batch = (_settings.whole(settings, name) for name in ("sessions", "batch"))
        source = Source(core, path, found, device, properties(device, threads, precision, sessions))
        try:
            session = OpenVinoSession(source, rows_of_a_request(sessions, batch), signature)
            computed = session.compiled.get_property("INFERENCE_PRECISION_HINT")
        except LoadFailed:
            raise
        except Exception as error:  # RuntimeError, with pages of its own stack
            raise LoadFailed(said(error))
        if precision != PRECISIONS["float32"] and precision not in _precision_name(computed):
            raise LoadFailed("precision is %r, but this %s computes in %s" % (settings["precision"], device, computed))
        return session


def _precision_name(element: Any) -> Tuple[str, ...]:
    """Names of an element type: older versions call `f16` by its long name only."""
    name = element.get_type_name() if hasattr(element, "get_type_name") else str(element)
    return (str(name), PRECISIONS.get(str(name), ""))


def _found(ports: List[Any], compiled: List[Any], wanted: _signature.Port) -> Tuple[int, Any]:
    """Number and dtype of the compiled model's port. Raises LoadFailed where the file has none of that name."""
    for number, port in enumerate(ports):
        if wanted.tensor in port.get_names() or wanted.tensor == name_of(port):
            return number, compiled[number].get_element_type().to_dtype()
    raise LoadFailed("the file's record names a tensor %s, which it does not have" % wanted.tensor)


def _text(info: Any, key: str) -> str:
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


ENGINE = OpenVino()
