"""A stand-in of NVIDIA's `tensorrt` package, of the version in STAND_IN_TENSORRT; only what the engine calls of it.

It has what that version documents and lacks what it does not: numbered bindings until 8.5, memory pools from 8.4,
strong typing from 9, flags of precision until 10. Its "network" doubles what it gets. A model is JSON after the first
two bytes of an ONNX file: ``inputs`` and ``outputs`` (shapes by name), ``quantised``, ``half``, ``unknown`` (operator).
"""

import ctypes
import enum
import json
import os

import numpy as np

__version__ = os.environ.get("STAND_IN_TENSORRT", "10.3.0")
_VERSION = tuple(int(part) for part in __version__.split("."))


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class ILogger:
    Severity = _Severity

    def __init__(self):
        pass


class DataType(enum.Enum):
    FLOAT, HALF = range(2)


class LayerType(enum.Enum):
    ELEMENTWISE, QUANTIZE = range(2)


class DeviceType(enum.Enum):
    GPU, DLA = range(2)


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = range(2)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class LayerInformationFormat(enum.Enum):
    JSON = 0


def _members(name, members):
    return enum.IntEnum(name, {key: number for number, key in enumerate(members)})


_CREATION = ["EXPLICIT_BATCH"] * (_VERSION < (11,)) + ["STRONGLY_TYPED"] * (_VERSION >= (9,)) + ["OTHER"]
NetworkDefinitionCreationFlag = _members("NetworkDefinitionCreationFlag", _CREATION)
_FLAGS = ["TF32", "GPU_FALLBACK"] + ["FP16", "INT8"] * (_VERSION < (11,)) + ["BF16"] * ((9,) <= _VERSION < (11,))
BuilderFlag = _members("BuilderFlag", _FLAGS)


def nptype(kind):
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16}[kind]


def init_libnvinfer_plugins(log, namespace):
    return isinstance(log, ILogger) and namespace == ""


class _Tensor:
    def __init__(self, name, shape, dtype=DataType.FLOAT):
        self.name, self.shape, self.dtype = name, tuple(shape), dtype


class _Layer:
    num_outputs = 1

    def __init__(self, kind, dtype):
        self.type, self._dtype = kind, dtype

    def get_output(self, number):
        return _Tensor("", (), self._dtype)


class _Network:
    def __init__(self, flags):
        self.flags, self.spec, self.layers = flags, {}, []

    @property
    def num_inputs(self):
        return len(self.spec["inputs"])

    @property
    def num_layers(self):
        return len(self.layers)

    def get_input(self, number):
        return _Tensor(*list(self.spec["inputs"].items())[number])

    def get_layer(self, number):
        return self.layers[number]

    def typed(self):
        kinds = NetworkDefinitionCreationFlag
        return hasattr(kinds, "STRONGLY_TYPED") and bool(self.flags >> int(kinds.STRONGLY_TYPED) & 1)


class _Error:
    def __init__(self, text):
        self._text = text

    def desc(self):
        return self._text


class OnnxParser:
    def __init__(self, network, log):
        self._network, self._errors = network, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, number):
        return self._errors[number]

    def parse(self, data):
        kinds = NetworkDefinitionCreationFlag
        if hasattr(kinds, "EXPLICIT_BATCH") and not self._network.flags >> int(kinds.EXPLICIT_BATCH) & 1:
            self._errors.append(_Error("this version only supports networks with an explicit batch dimension"))
            return False
        try:
            spec = json.loads(data[2:].decode())
        except ValueError:
            self._errors.append(_Error("Failed to parse ONNX model"))
            return False
        if "unknown" in spec:
            self._errors.append(_Error(f"No importer registered for op: {spec['unknown']}"))
            return False
        self._network.spec = spec
        kind = LayerType.QUANTIZE if spec.get("quantised") else LayerType.ELEMENTWISE
        self._network.layers = [_Layer(kind, DataType.HALF if spec.get("half") else DataType.FLOAT)]
        return True


class _Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, best, most):
        self.shapes[name] = [list(least), list(best), list(most)]


class _Cache:
    def __init__(self, data):
        self._data = data

    def serialize(self):
        return self._data + b"timed "


class _Config:
    def __init__(self):
        self.flags, self.profiles, self.default_device_type, self.DLA_core = {"TF32"}, [], DeviceType.GPU, -1
        self._cache = None
        if _VERSION < (8, 4):
            self.max_workspace_size = 0
        else:
            self.set_memory_pool_limit = lambda pool, size: setattr(self, "workspace", size)

    def set_flag(self, flag):
        self.flags.add(BuilderFlag(flag).name)

    def clear_flag(self, flag):
        self.flags.discard(BuilderFlag(flag).name)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)

    def create_timing_cache(self, data):
        return _Cache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache

    def get_timing_cache(self):
        return self._cache


class Builder:
    def __init__(self, log):
        self._log = log

    def create_network(self, flags):
        return _Network(flags)

    def create_builder_config(self):
        return _Config()

    def create_optimization_profile(self):
        return _Profile()

    def build_serialized_network(self, network, config):
        if network.spec.get("ends"):
            os.abort()
        problem = self._problem(network, config)
        if problem:
            self._log.log(_Severity.ERROR, problem)
            return None
        document = {
            "version": __version__,
            "spec": network.spec,
            "flags": sorted(config.flags),
            "typed": network.typed(),
            "profile": config.profiles[0].shapes if config.profiles else {},
            "dla": config.DLA_core if config.default_device_type == DeviceType.DLA else -1,
            "workspace": getattr(config, "workspace", getattr(config, "max_workspace_size", 0)),
        }
        return memoryview(json.dumps(document).encode())

    @staticmethod
    def _problem(network, config):
        quantised = network.spec.get("quantised")
        if network.typed() and config.flags & {"FP16", "INT8", "BF16"}:
            return "Error Code 3: precision flags are not allowed in a strongly typed network"
        if quantised and not network.typed() and hasattr(BuilderFlag, "INT8") and "INT8" not in config.flags:
            return "Error Code 4: a network with Q/DQ needs the INT8 flag"
        free = any(-1 in shape for shape in network.spec["inputs"].values())
        return (
            "Error Code 4: network has dynamic inputs, but no optimization profile"
            if free and not config.profiles
            else ""
        )


class Runtime:
    def __init__(self, log):
        self._log, self.DLA_core = log, -1

    def deserialize_cuda_engine(self, data):
        try:
            document = json.loads(bytes(data).decode())
        except ValueError:
            return None
        if document["version"] != __version__ or document["dla"] != self.DLA_core:
            return None
        return (_Named if _VERSION >= (8, 5) else _Numbered)(document)


class _Engine:
    num_layers = 2

    def __init__(self, document):
        self.document = document
        spec = document["spec"]
        self._shapes = dict(spec["inputs"], **spec["outputs"])
        self._inputs = list(spec["inputs"])

    def create_execution_context(self):
        return _Context(self)

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, form):
        names = ["double", "copy"] if self.document["dla"] < 0 else ["{ForeignNode[double...double]}", "copy"]
        return json.dumps({"Layers": names})


class _Named(_Engine):
    @property
    def num_io_tensors(self):
        return len(self._shapes)

    def get_tensor_name(self, number):
        return list(self._shapes)[number]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType.FLOAT

    def get_tensor_shape(self, name):
        return tuple(self._shapes[name])


class _Numbered(_Engine):
    @property
    def num_bindings(self):
        return len(self._shapes)

    def get_binding_name(self, number):
        return list(self._shapes)[number]

    def binding_is_input(self, number):
        return self.get_binding_name(number) in self._inputs

    def get_binding_dtype(self, number):
        return DataType.FLOAT

    def get_binding_shape(self, number):
        return tuple(self._shapes[self.get_binding_name(number)])


class _Context:
    """The methods of both generations, for an engine that has only one of them asks for no other."""

    def __init__(self, engine):
        self._engine, self._addresses = engine, {}
        self._shapes = {name: tuple(engine._shapes[name]) for name in engine._inputs}

    def set_input_shape(self, name, shape):
        least, _, most = self._engine.document["profile"][name]
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_binding_shape(self, number, shape):
        return self.set_input_shape(self._engine.get_binding_name(number), shape)

    def get_tensor_shape(self, name):
        declared = self._engine._shapes[name]
        rows = self._shapes[self._engine._inputs[0]][0]
        return tuple(rows if size == -1 else size for size in declared)

    def get_binding_shape(self, number):
        return self.get_tensor_shape(self._engine.get_binding_name(number))

    def set_tensor_address(self, name, address):
        self._addresses[name] = address

    def execute_async_v3(self, stream):
        return self._double(self._addresses)

    def execute_async_v2(self, bindings, stream):
        return self._double(dict(zip(self._engine._shapes, bindings, strict=True)))

    def _double(self, addresses):
        first = self._engine._inputs[0]
        size = int(np.prod(self.get_tensor_shape(first)))
        values = np.ctypeslib.as_array(ctypes.cast(addresses[first], ctypes.POINTER(ctypes.c_float)), (size,))
        for name, address in addresses.items():
            if name not in self._engine._inputs:
                ctypes.memmove(address, np.ascontiguousarray(values * 2).ctypes.data, size * 4)
        return True
