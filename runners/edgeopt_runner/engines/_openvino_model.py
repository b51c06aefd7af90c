"""A file as OpenVINO compiles it: read, its batch fixed where nothing else is free, and again with free sizes.

With sizes that are known OpenVINO infers no shapes while it runs: 4 to 23 % of a request's time on six networks (one
sample, one thread of an x86 server), to the same bit.
"""

import os
import re
import tempfile
from typing import Any, Dict, NamedTuple, Tuple

from edgeopt_runner.engines import _formats, _signature
from edgeopt_runner.engines._base import message_of

CPU = "CPU"

_PLACE = re.compile(r"Exception from \S+?:\d+:|Check '[^']*' failed at \S+?:\d+:|Check '[^']*' failed at \S+")


class Compiled(NamedTuple):
    """A model, what it was compiled to, and the rows of a request that it is fixed to (0: as the file has them)."""

    model: Any
    compiled: Any
    rows: int


class Source:
    """A file and how to compile it. Read again for other sizes: a model that is kept would hold its weights twice.

    Args:
        core: OpenVINO's.
        path: An ONNX or a TFLite file.
        kind: Its format, of `_formats`.
        device: Which device of OpenVINO's runs it.
        properties: See `properties`.
    """

    def __init__(self, core: Any, path: str, kind: str, device: str, properties: Dict[str, Any]) -> None:
        self._core = core
        self._path = os.path.abspath(path)
        self._kind = kind
        self._target = (device, properties)

    def compiled(self, rows: int = 0) -> Compiled:
        """The model for requests of so many rows where nothing but their number is free, else with sizes as they are.

        Args:
            rows: 0: with sizes as they are in any case.
        """
        model = self._read()
        if rows and _only_rows_are_free(model):
            shapes = [(rows,) + shape_of(port)[1:] for port in model.inputs]
            try:
                model.reshape(dict(enumerate(shapes)))
                return Compiled(model, self._core.compile_model(model, *self._target), rows)
            except Exception:  # RuntimeError; if the file itself is at fault, it comes again
                model = self._read()
        return Compiled(model, self._core.compile_model(model, *self._target), 0)

    def _read(self) -> Any:
        """The model; of a TFLite file only by a name that ends so, which files in the runner's store do not have."""
        if self._kind != _formats.TFLITE or self._path.endswith(".tflite"):
            return self._core.read_model(self._path)
        with tempfile.TemporaryDirectory(prefix="edgeopt-") as folder:
            link = os.path.join(folder, "model.tflite")
            os.symlink(self._path, link)
            return self._core.read_model(link)


def _only_rows_are_free(model: Any) -> bool:
    """Whether all inputs and outputs share a free first dimension, and no input has another."""
    if _signature.common_rows([shape_of(port) for port in model.inputs + model.outputs]) != 0:
        return False
    return not any(0 in shape_of(port)[1:] for port in model.inputs)


def properties(device: str, threads: int, precision: str, sessions: int) -> Dict[str, Any]:
    """For the CPU one stream of so many threads; pinned only where no second session would be pinned to the same."""
    found: Dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if device == CPU:
        found.update(NUM_STREAMS=1, INFERENCE_NUM_THREADS=threads)
        if sessions > 1:
            found["ENABLE_CPU_PINNING"] = False
    return found


def rows_of_a_request(sessions: int, batch: int) -> int:
    """Rows that one of the sessions gets of a request of `batch` rows, 0 where they do not get equally many."""
    rows, left = divmod(batch, min(sessions, batch))
    return 0 if left else rows


def name_of(port: Any) -> str:
    """The port's name; an output that merges several names takes the first in order."""
    names = sorted(port.get_names())
    return str(names[0]) if names else str(port.get_node().get_friendly_name())


def shape_of(port: Any) -> Tuple[int, ...]:
    """Dimensions, 0 where they are free; none where their number is."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(0 if dimension.is_dynamic else int(dimension.get_length()) for dimension in shape)


def said(error: BaseException) -> str:
    """OpenVINO's words without the places in its source."""
    return message_of(RuntimeError(_PLACE.sub("", str(error)))) or message_of(error)
