"""Every package with the `Interpreter` of TensorFlow Lite: LiteRT, tflite_runtime and TensorFlow itself.

The timed call is what an application does: set the inputs, invoke, fetch the outputs, with whatever renaming,
transposing and (de)quantising the file's signature asks for.
"""

import importlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from edgeopt_runner.engines import _formats, _settings, _tflite_file
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of
from edgeopt_runner.engines._placement import count_delegated
from edgeopt_runner.engines._signature import Port, Signature, common_rows

XNNPACK, BUILTIN = "xnnpack", "builtin"
_SUFFIX = ".so"

Tensor = Tuple[Port, int, Any]
"""An input or output: how the user sees it, the tensor's number, its dtype."""


class TfliteSession(Session):
    """A model in an `Interpreter`."""

    def __init__(self, interpreter: Any, signature: Signature, provider: str) -> None:
        self._interpreter = interpreter
        self._provider = provider
        details = (interpreter.get_input_details(), interpreter.get_output_details())
        self._inputs, self._outputs = _tensors(signature.inputs, details[0]), _tensors(signature.outputs, details[1])
        self.inputs = [port.name for port, _, _ in self._inputs]
        self.outputs = [port.name for port, _, _ in self._outputs]
        self.rows = common_rows([_free_shape(detail) for detail in details[0] + details[1]])
        self._shapes = {detail["index"]: tuple(detail["shape"]) for detail in details[0]}

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Inputs in, invoke, outputs out: a list of arrays, in the order of `outputs`."""
        self.require(feeds)
        bound = [(port, index, dtype, feeds[port.name]) for port, index, dtype in self._inputs]
        interpreter, outputs, fit = self._interpreter, self._outputs, self._fit

        def call() -> List[Any]:
            arrays = [(index, port.into(array, dtype)) for port, index, dtype, array in bound]
            fit(arrays)
            for index, array in arrays:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return [port.out_of(interpreter.get_tensor(index)) for port, index, _ in outputs]

        return call

    def _fit(self, arrays: Sequence[Tuple[int, Any]]) -> None:
        """Resize inputs whose shape is another than last time; only free dimensions may change."""
        changed = [(index, array.shape) for index, array in arrays if array.shape != self._shapes[index]]
        if not changed:
            return
        try:
            self._resize(changed)
        except (ValueError, RuntimeError) as error:
            self._resize([(index, self._shapes[index]) for index, _ in changed])
            raise RunFailed(message_of(error))
        self._shapes.update(changed)

    def _resize(self, shapes: Sequence[Tuple[int, Tuple[int, ...]]]) -> None:
        for index, shape in shapes:
            self._interpreter.resize_tensor_input(index, shape, strict=True)
        self._interpreter.allocate_tensors()

    def placement(self) -> Dict[str, int]:
        """Operators by provider: what the delegate did not take runs on the interpreter's own kernels."""
        describe = getattr(self._interpreter, "_get_ops_details", None)
        return count_delegated(describe(), self._provider) if describe else {}

    def close(self) -> None:
        """Drop the interpreter."""
        self._interpreter = None


class Tflite(Engine):
    """An engine of that family.

    Args:
        name: What settings call it.
        modules: Packages that have it, with the module of the interpreter; the first that can be imported is used.
    """

    def __init__(self, name: str, modules: Sequence[Tuple[str, str]]) -> None:
        self.name = name
        self._modules = modules

    def _imported(self) -> Tuple[str, Any]:
        """Version and interpreter's module. Raises what the last import raised."""
        for package, module in self._modules:
            try:
                found = importlib.import_module(module)
                return str(importlib.import_module(package).__version__), getattr(found, "lite", found)
            except Exception:  # a broken package raises anything
                if (package, module) == self._modules[-1]:
                    raise
        raise ImportError("no package to try")

    def available(self) -> Optional[Dict[str, Any]]:
        """Version; providers are XNNPACK and the interpreter's own kernels. Delegates are named by their library."""
        try:
            version, _ = self._imported()
        except Exception:  # for us it is not there
            return None
        return {"version": version, "providers": [XNNPACK, BUILTIN]}

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Make an interpreter.

        Args:
            path: A TFLite file.
            settings: `threads`; `provider` is ``xnnpack`` (the default), ``builtin`` for the interpreter's own kernels,
                or a delegate's library (``libedgetpu.so.1``).

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: It refused the file or the delegate, or the settings are not ours.
        """
        try:
            _, module = self._imported()
        except Exception as error:
            raise EngineMissing("%s cannot be imported: %s" % (self.name, message_of(error)))
        _settings.only(self.name, settings, ("provider",))
        arguments: Dict[str, Any] = {"num_threads": _settings.whole(settings, "threads")}
        provider = str(settings.get("provider") or XNNPACK)
        arguments.update(_provider(module, provider))
        _formats.expect(path, self.name, _formats.TFLITE)
        try:
            interpreter = module.Interpreter(model_path=path, **arguments)
            interpreter.allocate_tensors()
        except Exception as error:  # an operator that it lacks is a RuntimeError, a damaged file a ValueError
            raise LoadFailed(message_of(error))
        return TfliteSession(interpreter, _tflite_file.signature(path), provider)


def _provider(module: Any, provider: str) -> Dict[str, Any]:
    """The interpreter's arguments for a provider."""
    if provider == XNNPACK:
        return {}
    if provider == BUILTIN:
        types = getattr(module, "OpResolverType", None) or module.experimental.OpResolverType
        return {"experimental_op_resolver_type": types.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    if _SUFFIX not in provider:
        raise LoadFailed("provider is %r; allowed: '', 'xnnpack', 'builtin', or a delegate's library (.so)" % provider)
    load = getattr(module, "load_delegate", None) or module.experimental.load_delegate
    try:
        return {"experimental_delegates": [load(provider)]}
    except (OSError, ValueError, RuntimeError) as error:
        raise LoadFailed("the delegate %s cannot be loaded: %s" % (provider, message_of(error) or "it is not there"))


def _tensors(signature: List[Port], details: List[Dict[str, Any]]) -> List[Tensor]:
    """The tensors in the order of the ports, which is the original's.

    Raises:
        LoadFailed: A port names a tensor that is not there, or a tensor has no port.
    """
    ports, by_name = {port.tensor: port for port in signature}, {detail["name"]: detail for detail in details}
    if set(ports) != set(by_name):
        text = "the file's record names the tensors %s, but it has %s"
        raise LoadFailed(text % (", ".join(sorted(ports)), ", ".join(sorted(by_name))))
    for name, port in ports.items():
        scale, zero_point = by_name[name].get("quantization") or (0.0, 0)
        if scale and not port.scale:
            port.scale, port.zero_point = float(scale), int(zero_point)
    return [(port, by_name[name]["index"], by_name[name]["dtype"]) for name, port in ports.items()]


def _free_shape(detail: Dict[str, Any]) -> Tuple[int, ...]:
    """The shape with -1 where a dimension is free."""
    signature = detail.get("shape_signature")
    return tuple(int(one) for one in (detail["shape"] if signature is None or not len(signature) else signature))
