"""Builds a TensorRT engine from an ONNX file, in a process of its own: building takes much memory, and crashes.

By the Python package rather than `trtexec`, which not every JetPack installs and whose flags change with each release;
the package is needed for running anyway. Source: NVIDIA, "TensorRT Developer Guide" and "TensorRT Python API" of 8.2,
8.5, 10.3 and 11: `build_serialized_network` from 8.0, memory pools from 8.4, strong typing from 9, flags of precision
until 10.

Not yet run on hardware: its logic is tested against a stand-in of the package.
"""

import json
import os
import subprocess
import sys
from typing import Any, Dict, List, Optional

from edgeopt_runner import processes, storage
from edgeopt_runner.engines._base import LoadFailed, message_of

_REFUSED = 3
_SCRIPT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['paths']; "
    "from edgeopt_runner.engines import _tensorrt_build; sys.exit(_tensorrt_build.serve(order))"
)


class Order:
    """What is to be built.

    Attributes:
        model: The ONNX file.
        engine: Where the engine goes.
        timing: Where timings of kernels are kept, which make the next build quicker.
        precision: ``float32``, ``tf32``, ``float16`` or ``bfloat16``.
        dla: Number of the accelerator; ``None``: the GPU.
        batch: Samples at once, where the model's first dimension is free.
        workspace_bytes: Memory that kernels may use while they run.
    """

    def __init__(self, fields: Dict[str, Any]) -> None:
        self.model = str(fields["model"])
        self.engine = str(fields["engine"])
        self.timing = str(fields["timing"])
        self.precision = str(fields["precision"])
        self.dla: Optional[int] = fields["dla"]
        self.batch = int(fields["batch"])
        self.workspace_bytes = int(fields["workspace_bytes"])


def in_child(fields: Dict[str, Any]) -> None:
    """Build in a child process, which ends with this one.

    Args:
        fields: The attributes of `Order`.

    Raises:
        LoadFailed: TensorRT refused the model, or its builder ended without a word.
    """
    order = dict(fields, paths=list(sys.path), parent=os.getpid())
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(order)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    if done.returncode == _REFUSED:
        raise LoadFailed(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode != 0 or not os.path.isfile(fields["engine"]):
        end = processes.signal_name(-done.returncode) if done.returncode < 0 else "code %d" % done.returncode
        raise LoadFailed("TensorRT's builder ended with %s" % end)


def serve(fields: Dict[str, Any]) -> int:
    """Entry of the child: the reason of a refusal goes to stdout."""
    processes.settle_as_worker(int(fields["parent"]))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # TensorRT may print
    try:
        import tensorrt

        build(tensorrt, Order(fields))
    except (LoadFailed, OSError, RuntimeError) as error:
        answer.write(message_of(error))
        answer.close()
        return _REFUSED
    return 0


def build(trt: Any, order: Order) -> None:
    """Parse, configure, build, and put the engine in its place at once.

    Raises:
        LoadFailed: The parser or the builder refused the model, or this version has no such precision.
    """
    log = logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt, order))
    _parse(trt, network, order.model, log)
    config = builder.create_builder_config()
    _set_workspace(trt, config, order.workspace_bytes)
    _set_precision(trt, config, network, order)
    _set_place(trt, config, order)
    _set_shapes(builder, network, config, order.batch)
    cache = _timing_cache(config, order.timing)
    plan = _plan(builder, network, config)
    if plan is None:
        raise LoadFailed("TensorRT could not build an engine: %s" % _last(log))
    storage.write_atomically(order.engine, bytes(plan), durable=False)
    if cache is not None:
        storage.write_atomically(order.timing, bytes(config.get_timing_cache().serialize()), durable=False)


def logger(trt: Any) -> Any:
    """A logger that keeps the errors, which TensorRT tells nowhere else."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.words: List[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.words.append(message)

    return Log()


def _last(log: Any) -> str:
    return message_of(RuntimeError(log.words[-1])) if log.words else "it does not say why"


def _strongly_typed(trt: Any, order: Order) -> bool:
    """Whether the types are those of the file: from TensorRT 9, unless a precision or DLA asks for others."""
    can = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    return can and order.precision in ("float32", "tf32") and order.dla is None


def _network_flags(trt: Any, order: Order) -> int:
    kinds = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(kinds.EXPLICIT_BATCH) if hasattr(kinds, "EXPLICIT_BATCH") else 0
    return flags | (1 << int(kinds.STRONGLY_TYPED) if _strongly_typed(trt, order) else 0)


def _parse(trt: Any, network: Any, model: str, log: Any) -> None:
    parser = trt.OnnxParser(network, log)
    with open(model, "rb") as stream:
        parsed = parser.parse(stream.read())
    if not parsed:
        words = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise LoadFailed("TensorRT does not read this model: %s" % message_of(RuntimeError("; ".join(words))))


def _set_workspace(trt: Any, config: Any, size: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:
        config.max_workspace_size = size


def _set_precision(trt: Any, config: Any, network: Any, order: Order) -> None:
    """Explicit precision: what Q/DQ and the file's types say, and one type more where the setting asks for it."""
    if order.precision == "float32" and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    asked = {"float16": "FP16", "bfloat16": "BF16"}.get(order.precision)
    wanted = {asked} if asked else set()
    if not _strongly_typed(trt, order):
        layers = [network.get_layer(number) for number in range(network.num_layers)]
        if any(layer.type == trt.LayerType.QUANTIZE for layer in layers):
            wanted.add("INT8")
        if any(layer.num_outputs and layer.get_output(0).dtype == trt.DataType.HALF for layer in layers):
            wanted.add("FP16")
    for name in sorted(wanted):
        if hasattr(trt.BuilderFlag, name):
            config.set_flag(getattr(trt.BuilderFlag, name))
        elif name == asked:
            text = "TensorRT %s takes no precision %s from a setting; cast the network instead (recipe with cast_half)"
            raise LoadFailed(text % (trt.__version__, order.precision))


def _set_place(trt: Any, config: Any, order: Order) -> None:
    if order.dla is None:
        return
    if order.precision != "float16":
        raise LoadFailed("dla%d computes in float16; set precision to float16" % order.dla)
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = order.dla
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_shapes(builder: Any, network: Any, config: Any, batch: int) -> None:
    """A profile for a free first dimension: from one sample to `batch`, best at `batch`."""
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    shapes = {one.name: tuple(one.shape) for one in inputs}
    for name, shape in shapes.items():
        if any(size < 0 for size in shape[1:]):
            raise LoadFailed("input %s has free dimensions %s; TensorRT needs all but the first" % (name, list(shape)))
    if any(shape and shape[0] < 0 for shape in shapes.values()):
        profile = builder.create_optimization_profile()
        for name, shape in shapes.items():
            rest = shape[1:]
            least, most = ((1,) + rest, (batch,) + rest) if shape and shape[0] < 0 else (shape, shape)
            profile.set_shape(name, least, most, most)
        config.add_optimization_profile(profile)


def _timing_cache(config: Any, path: str) -> Any:
    """The cache of earlier builds of this model, or an empty one; ``None`` before TensorRT 8."""
    if not hasattr(config, "create_timing_cache"):
        return None
    try:
        with open(path, "rb") as stream:
            known = stream.read()
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, False)
    return cache


def _plan(builder: Any, network: Any, config: Any) -> Any:
    if hasattr(builder, "build_serialized_network"):
        return builder.build_serialized_network(network, config)
    engine = builder.build_engine(network, config)
    return engine.serialize() if engine is not None else None
