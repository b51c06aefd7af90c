"""TensorRT on NVIDIA's GPUs, and on the accelerators (DLA) of those Jetsons that have them.

The artifact is an ONNX file; its engine is built on the board while loading (`_tensorrt_build`) and kept beside the
file, named by the file's digest, TensorRT's version, the GPU and the settings, so that an upgrade builds it anew. The
timed call copies inputs to the GPU, runs, copies outputs back and waits: what an application pays.

Not yet run on hardware: its logic is tested against a stand-in of the package and of CUDA's runtime.
"""

import hashlib
import json
import os
import re
from typing import Any, Callable, Dict, List, Optional, Tuple

from edgeopt_runner import links, memory
from edgeopt_runner.engines import _cuda, _formats, _settings, _signature, _tensorrt_build, _tensorrt_run
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
GPU = "gpu"
_DLA = re.compile(r"dla([0-9])\Z")
_LARGEST_WORKSPACE_BYTES = 1 << 30


def _imported() -> Any:
    import tensorrt

    return tensorrt


class TensorRtSession(Session):
    """An engine with a context, a stream and memory of the device."""

    def __init__(self, tensors: _tensorrt_run.Tensors, cuda: _cuda.Cuda, batch: int) -> None:
        self._tensors = tensors
        self._cuda = cuda
        self._stream = cuda.stream()
        self._buffers: Dict[str, Tuple[int, int]] = {}
        self.inputs = [name for name in tensors.names if tensors.is_input[name]]
        self.outputs = [name for name in tensors.names if not tensors.is_input[name]]
        self.rows = _signature.common_rows([tensors.declared[name] for name in tensors.names])
        self._most = batch if self.rows == 0 else 0

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Copies in, run, copies out, wait: a list of arrays, in the order of `outputs`.

        Where there are more rows than the engine was built for, one run after the other.
        """
        import numpy as np

        self.require(feeds)
        arrays = {name: self._accepted(name, feeds[name]) for name in self.inputs}
        rows = min(len(array) if array.ndim else 1 for array in arrays.values())
        if not self._most or rows <= self._most:
            return lambda: self._execute(arrays)
        starts = range(0, rows, self._most)
        parts = [{name: array[at : at + self._most] for name, array in arrays.items()} for at in starts]

        def call() -> List[Any]:
            found = [self._execute(part) for part in parts]
            return [np.concatenate([one[number] for one in found]) for number in range(len(self.outputs))]

        return call

    def _accepted(self, name: str, array: Any) -> Any:
        """In one piece and of the engine's dtype; only integers become other integers, and floats other floats."""
        import numpy as np

        dtype = np.dtype(self._tensors.dtypes[name])
        if (array.dtype.kind == "f") != (dtype.kind == "f"):
            raise RunFailed("input %s is %s, the model takes %s" % (name, array.dtype, dtype))
        _signature.check_shape(name, array.shape, self._tensors.declared[name])
        return np.ascontiguousarray(array, dtype=dtype)

    def _execute(self, arrays: Dict[str, Any]) -> List[Any]:
        import numpy as np

        cuda, stream, tensors = self._cuda, self._stream, self._tensors
        for name, array in arrays.items():
            tensors.set_shape(name, array.shape)
            cuda.copy(self._room(name, array.nbytes), array.ctypes.data, array.nbytes, _cuda.TO_DEVICE, stream)
        results = [np.empty(tensors.shape(name), tensors.dtypes[name]) for name in self.outputs]
        for name, result in zip(self.outputs, results):
            self._room(name, result.nbytes)
        tensors.execute({name: self._buffers[name][0] for name in tensors.names}, stream)
        for name, result in zip(self.outputs, results):
            cuda.copy(result.ctypes.data, self._buffers[name][0], result.nbytes, _cuda.TO_HOST, stream)
        cuda.wait(stream)
        return results

    def _room(self, name: str, size: int) -> int:
        """Address of a tensor's memory on the device, made larger where it is too small."""
        address, have = self._buffers.get(name, (0, 0))
        if size > have or not address:
            if address:
                self._cuda.free(address)
                del self._buffers[name]
            address = self._cuda.allocate(size)
            self._buffers[name] = (address, size)
        return address

    def placement(self) -> Dict[str, int]:
        """The engine's layers, which are fused ones: on the GPU, and those that a DLA took."""
        return self._tensors.placement()

    def close(self) -> None:
        """Give the device's memory back."""
        for address, _ in self._buffers.values():
            self._cuda.free(address)
        self._buffers = {}
        if self._stream:
            self._cuda.end_stream(self._stream)
        self._stream = 0
        self._tensors.close()


class TensorRt(Engine):
    """The engine of ``tensorrt``."""

    name = "tensorrt"

    def available(self) -> Optional[Dict[str, Any]]:
        """The version; accelerators are known by the board's profile."""
        try:
            trt = _imported()
            _cuda.Cuda()
        except Exception:  # without CUDA it is as good as not there
            return None
        return {"version": str(trt.__version__), "providers": [GPU]}

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Build the engine, or take the one that was built before, and load it.

        Args:
            path: An ONNX file.
            settings: `precision`: ``float32`` (the default), ``tf32``, ``float16`` or ``bfloat16`` for what is float32
                in the file; int8 by Q/DQ in the file. `provider`: ``gpu`` (the default), or ``dla0``, ``dla1``: with
                float16, and the GPU for what they lack. `batch` where the first dimension is free. `threads` is for
                CPUs and does nothing.

        Raises:
            EngineMissing: TensorRT or CUDA's runtime cannot be loaded.
            LoadFailed: TensorRT refused the model, or the settings are not ours.
        """
        try:
            trt, cuda = _imported(), _cuda.Cuda()
        except Exception as error:
            raise EngineMissing("tensorrt cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings, ("precision", "provider"))
        precision = _settings.one_of(settings, "precision", PRECISIONS)
        dla = _accelerator(str(settings.get("provider") or GPU))
        batch = _settings.whole(settings, "batch")
        _settings.whole(settings, "threads")
        _formats.expect(path, self.name, _formats.ONNX)
        try:
            place = "%s %s" % (trt.__version__, cuda.device())
            order = _order(path, place, {"precision": precision, "dla": dla, "batch": batch})
            return TensorRtSession(_tensorrt_run.tensors(trt, _built(trt, order)), cuda, batch)
        except LoadFailed:
            raise
        except Exception as error:  # CUDA's errors, and whatever the package raises
            raise LoadFailed(message_of(error))


def _accelerator(provider: str) -> Optional[int]:
    found = _DLA.match(provider)
    if provider != GPU and not found:
        raise LoadFailed("provider is %r; allowed: '', 'gpu', 'dla0', 'dla1'" % provider)
    return int(found.group(1)) if found else None


def _order(path: str, place: str, wanted: Dict[str, Any]) -> Dict[str, Any]:
    """What is to be built, and where it goes: beside the model, by all that an engine depends on."""
    digest = links.sha256_of(path)
    key = hashlib.sha256(json.dumps([digest, place, sorted(wanted.items())]).encode("utf-8")).hexdigest()[:16]
    timings = hashlib.sha256(place.encode("utf-8")).hexdigest()[:16]
    available = memory.available_bytes() or 0
    workspace = min(_LARGEST_WORKSPACE_BYTES, max(1 << 26, available // 4))
    files = {"model": path, "engine": "%s.%s.engine" % (path, key), "timing": "%s.%s.timing" % (path, timings)}
    return dict(wanted, workspace_bytes=workspace, **files)


def _built(trt: Any, order: Dict[str, Any]) -> _tensorrt_run.Loaded:
    """The engine, from the file that an earlier load left where there is one that still loads."""
    path = order["engine"]
    if os.path.isfile(path):
        found = _tensorrt_run.deserialised(trt, path, order["dla"])
        if found is not None:
            os.utime(path, None)  # what is used stays when old files are collected
            return found
        os.unlink(path)
    _tensorrt_build.in_child(order)
    found = _tensorrt_run.deserialised(trt, path, order["dla"])
    if found is None:
        raise LoadFailed("TensorRT does not load the engine that it has just built")
    return found


ENGINE = TensorRt()
