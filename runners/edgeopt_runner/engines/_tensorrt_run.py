"""The two ways to run a TensorRT engine: tensors by name from 8.5 on, numbered bindings before (8.2 of JetPack 4)."""

import json
from typing import Any, Dict, List, Optional, Tuple

from edgeopt_runner.engines import _tensorrt_build

_DLA_LAYER = "ForeignNode"
"""How the inspector names what runs on a DLA: ``{ForeignNode[a...b]}``."""


class Loaded:
    """An engine with its runtime and logger, which it must not outlive: not all versions of the binding see to that."""

    def __init__(self, engine: Any, runtime: Any, log: Any) -> None:
        self.engine = engine
        self.runtime = runtime
        self.log = log


def deserialised(trt: Any, path: str, dla: Optional[int]) -> Optional[Loaded]:
    """The engine in a file; ``None`` where TensorRT refuses it."""
    log = _tensorrt_build.logger(trt)
    trt.init_libnvinfer_plugins(log, "")
    runtime = trt.Runtime(log)
    if dla is not None:
        runtime.DLA_core = dla
    with open(path, "rb") as stream:
        engine = runtime.deserialize_cuda_engine(stream.read())
    return None if engine is None else Loaded(engine, runtime, log)


class Tensors:
    """Inputs and outputs of an engine and its context.

    Attributes:
        names: All, in the engine's order.
        is_input: By name.
        dtypes: NumPy's, by name.
        declared: Shapes by name, -1 where they are free.
    """

    def __init__(self, trt: Any, loaded: Loaded) -> None:
        self._trt = trt
        self._loaded = loaded
        self._engine = engine = loaded.engine
        self._context = engine.create_execution_context()
        if self._context is None:
            raise RuntimeError("TensorRT could not make an execution context: too little memory on the GPU")
        self.names: List[str] = []
        self.is_input: Dict[str, bool] = {}
        self.dtypes: Dict[str, Any] = {}
        self.declared: Dict[str, Tuple[int, ...]] = {}

    def _add(self, name: str, is_input: bool, dtype: Any, shape: Any) -> None:
        self.names.append(name)
        self.is_input[name] = is_input
        self.dtypes[name] = self._trt.nptype(dtype)
        self.declared[name] = tuple(int(size) for size in shape)

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        """The shape of an input for the next runs. Raises RuntimeError where the engine was not built for it."""
        if -1 in self.declared[name] and not self._set_shape(name, shape):
            raise RuntimeError("the engine was not built for input %s of shape %s" % (name, list(shape)))

    def _set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        raise NotImplementedError

    def shape(self, name: str) -> Tuple[int, ...]:
        """The shape of a tensor with the inputs' shapes as they are set."""
        raise NotImplementedError

    def execute(self, addresses: Dict[str, int], stream: int) -> None:
        """Order a run in a stream. Raises RuntimeError where TensorRT refuses."""
        if not self._execute(addresses, stream):
            raise RuntimeError("TensorRT refused to run the engine")

    def _execute(self, addresses: Dict[str, int], stream: int) -> bool:
        raise NotImplementedError

    def placement(self) -> Dict[str, int]:
        """Layers by place."""
        names = _layer_names(self._trt, self._engine)
        on_dla = sum(1 for name in names if _DLA_LAYER in name)
        counts = {"GPU": (len(names) or int(self._engine.num_layers)) - on_dla, "DLA": on_dla}
        return {place: count for place, count in counts.items() if count}

    def close(self) -> None:
        """Drop the context before the engine, and that before its runtime."""
        self._context = None
        self._engine = self._loaded.engine = None


class Named(Tensors):
    """From TensorRT 8.5 on."""

    def __init__(self, trt: Any, loaded: Loaded) -> None:
        super(Named, self).__init__(trt, loaded)
        engine = loaded.engine
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            self._add(name, is_input, engine.get_tensor_dtype(name), engine.get_tensor_shape(name))

    def _set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        return bool(self._context.set_input_shape(name, shape))

    def shape(self, name: str) -> Tuple[int, ...]:
        """See `Tensors`."""
        return tuple(self._context.get_tensor_shape(name))

    def _execute(self, addresses: Dict[str, int], stream: int) -> bool:
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        return bool(self._context.execute_async_v3(stream))


class Numbered(Tensors):
    """Before TensorRT 8.5."""

    def __init__(self, trt: Any, loaded: Loaded) -> None:
        super(Numbered, self).__init__(trt, loaded)
        engine = loaded.engine
        for number in range(engine.num_bindings):
            dtype, shape = engine.get_binding_dtype(number), engine.get_binding_shape(number)
            self._add(engine.get_binding_name(number), engine.binding_is_input(number), dtype, shape)

    def _set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        return bool(self._context.set_binding_shape(self.names.index(name), shape))

    def shape(self, name: str) -> Tuple[int, ...]:
        """See `Tensors`."""
        return tuple(self._context.get_binding_shape(self.names.index(name)))

    def _execute(self, addresses: Dict[str, int], stream: int) -> bool:
        return bool(self._context.execute_async_v2([addresses[name] for name in self.names], stream))


def tensors(trt: Any, loaded: Loaded) -> Tensors:
    """Whichever of the two this version has."""
    return Named(trt, loaded) if hasattr(loaded.engine, "num_io_tensors") else Numbered(trt, loaded)


def _layer_names(trt: Any, engine: Any) -> List[str]:
    """Names of the engine's layers; empty before the inspector of TensorRT 8.2."""
    if not hasattr(engine, "create_engine_inspector"):
        return []
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(layer.get("Name", "")) if isinstance(layer, dict) else str(layer) for layer in layers]
