"""ncnn: small, without dependencies, and there for 32-bit boards too.

An artifact is one zip file, stored without compression, of `model.param`, `model.bin` and `meta.json`: the signature
(`_signature`), where `tensor` is the name of a blob and `shape` the original's, whose first dimension is 1, for ncnn
has none for the batch.
"""

import os
import tempfile
import zipfile
from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner.engines import _formats, _settings, _signature
from edgeopt_runner.engines._base import Engine, EngineMissing, LoadFailed, RunFailed, Session, message_of

PARAM, WEIGHTS, META = "model.param", "model.bin", "meta.json"
_FLOAT32, _FLOAT16, _BFLOAT16 = "float32", "float16", "bfloat16"


def _imported() -> Any:
    import ncnn

    return ncnn


class NcnnSession(Session):
    """A loaded net; each run has an extractor of its own, as ncnn wants it."""

    rows = 1

    def __init__(self, ncnn: Any, net: Any, signature: _signature.Signature) -> None:
        self._ncnn = ncnn
        self._net = net
        self._ports = signature
        self.inputs = [port.name for port in signature.inputs]
        self.outputs = [port.name for port in signature.outputs]

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """Extractor, inputs, outputs: a list of arrays, in the order of `outputs`."""
        self.require(feeds)
        mats = [(port.tensor, self._mat(port, feeds[port.name])) for port in self._ports.inputs]
        net, outputs = self._net, self._ports.outputs

        def call() -> List[Any]:
            extractor = net.create_extractor()
            for blob, (mat, _) in mats:
                extractor.input(blob, mat)
            return [_extracted(extractor, port) for port in outputs]

        return call

    def _mat(self, port: _signature.Port, array: Any) -> Any:
        """A view of one sample as ncnn sees it, with the array that it must not outlive."""
        import numpy as np

        if not array.ndim or array.shape[0] != 1:
            raise RunFailed("input %s has shape %s; ncnn takes one sample at a time" % (port.name, list(array.shape)))
        if port.shape is not None:
            _signature.check_shape(port.name, array.shape, port.shape)
        dtype = np.float32 if array.dtype.kind == "f" else np.int32
        values = np.ascontiguousarray(array[0], dtype=dtype)
        return self._ncnn.Mat(values), values

    def placement(self) -> Dict[str, int]:
        """All layers: nothing but the CPU is used."""
        return {"CPU": sum(1 for layer in self._net.layers() if layer.type not in ("Input", "Split"))}

    def close(self) -> None:
        """Give the weights back."""
        self._net.clear()


def _extracted(extractor: Any, port: _signature.Port) -> Any:
    """An output as an array of its own, with the batch's dimension."""
    import numpy as np

    status, mat = extractor.extract(port.tensor)
    if status != 0:
        raise RunFailed("ncnn could not compute %s (code %d)" % (port.tensor, status))
    array = np.array(mat)
    shape = port.shape if port.shape and 0 not in port.shape[1:] else (1,) + array.shape
    return port.out_of(array.reshape((1,) + tuple(shape[1:])))


class Ncnn(Engine):
    """The engine of ``ncnn``."""

    name = "ncnn"

    def available(self) -> Optional[Dict[str, Any]]:
        """The version."""
        try:
            return {"version": str(_imported().__version__), "providers": ["CPU"]}
        except Exception:  # a broken package raises anything: for us it is not there
            return None

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Unpack into a temporary folder, load, and remove the folder.

        Args:
            path: The zip file (see the module).
            settings: `threads`; `precision`: ``float32`` (the default), ``float16`` or ``bfloat16`` for storage and,
                where the CPU has it, arithmetic; `spinning`: whether threads spin between layers and runs.

        Raises:
            EngineMissing: The package cannot be imported.
            LoadFailed: The file is not such a zip, ncnn lacks one of its layers, or the settings are not ours.
        """
        try:
            ncnn = _imported()
        except Exception as error:
            raise EngineMissing("ncnn cannot be imported: %s" % message_of(error))
        _settings.only(self.name, settings, ("precision", "spinning"))
        threads = _settings.whole(settings, "threads")
        precision = _settings.one_of(settings, "precision", (_FLOAT32, _FLOAT16, _BFLOAT16))
        _formats.expect(path, self.name, _formats.ZIP)
        net = ncnn.Net()
        _set(net.opt, threads, precision, bool(settings.get("spinning", True)))
        try:
            signature = _unpack(path, net)
        except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
            raise LoadFailed("this is no ncnn model in a zip: %s" % message_of(error))
        _check_blobs(net, signature)
        return NcnnSession(ncnn, net, signature)


def _set(options: Any, threads: int, precision: str, spinning: bool) -> None:
    """Options; those that an older version does not have are left alone."""
    options.num_threads = threads
    options.use_vulkan_compute = False
    half, brain = precision == _FLOAT16, precision == _BFLOAT16
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(options, name, half)
    for name in ("use_bf16_storage", "use_bf16_packed"):
        if hasattr(options, name):
            setattr(options, name, brain)
    if not spinning and hasattr(options, "openmp_blocktime"):
        options.openmp_blocktime = 0


def _unpack(path: str, net: Any) -> _signature.Signature:
    """Weights go through a file: those that ncnn takes from memory must stay there, which its binding does not see to.

    Raises:
        LoadFailed: ncnn refused them.
    """
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="edgeopt-") as folder:
        signature = _signature.parse(archive.read(META))
        for name in (PARAM, WEIGHTS):
            archive.extract(name, folder)
        if net.load_param(os.path.join(folder, PARAM)) != 0:
            raise LoadFailed("ncnn refused %s: %s" % (PARAM, _unknown_layers(archive.read(PARAM))))
        if net.load_model(os.path.join(folder, WEIGHTS)) != 0:
            raise LoadFailed("ncnn refused %s: it is shorter than %s says" % (WEIGHTS, PARAM))
    return signature


def _unknown_layers(param: bytes) -> str:
    """What can be told of a refused text: the types of layers that this version may lack (ncnn logs which)."""
    lines = param.decode("utf-8", "replace").splitlines()[2:]
    return "one of its layers is unknown here: %s" % ", ".join(sorted({line.split()[0] for line in lines if line}))


def _check_blobs(net: Any, signature: _signature.Signature) -> None:
    blobs = {str(blob.name) for blob in net.blobs()}
    missing = [port.tensor for port in signature.inputs + signature.outputs if port.tensor not in blobs]
    if missing:
        raise LoadFailed("%s names blobs that %s does not have: %s" % (META, PARAM, ", ".join(missing)))


ENGINE = Ncnn()
