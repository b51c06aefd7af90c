"""The signature that travels in a converted file: how its tensors relate to the original network's inputs and outputs.

Users feed every variant the arrays that they feed the original. Where a converter renamed inputs, moved channels to the
end or made inputs and outputs integers, the file says so in JSON, and the engine renames, transposes, quantises and
dequantises inside the timed call: an application pays for that too.
"""

import json
from typing import Any, Dict, List, Optional, Tuple

from edgeopt_runner.engines._base import LoadFailed, RunFailed


class Port:
    """One input or output.

    Attributes:
        name: The original's.
        tensor: The name in the file.
        layout: Order of the file's dimensions, for example ``NHWC``. One that ends with C, of three dimensions or more,
            has the channels last where the original has them second; anything else is as in the original.
        dtype: NumPy's name of the original's elements; empty: as in the file.
        shape: The original's, with 0 where it is free; ``None``: not told.
        scale: Real value of one step of an integer tensor; 0: not quantised.
        zero_point: Integer that stands for 0.
    """

    def __init__(self, document: Dict[str, Any]) -> None:
        self.name = str(document["name"])
        self.tensor = str(document.get("tensor") or self.name)
        self.layout = str(document.get("layout") or "")
        self.dtype = str(document.get("dtype") or "")
        self.shape = _shape(document.get("shape"))
        self.scale = float(document.get("scale") or 0.0)
        self.zero_point = int(document.get("zero_point") or 0)

    @property
    def channels_last(self) -> bool:
        """Whether the file has the channels elsewhere than the original."""
        return len(self.layout) > 2 and self.layout.endswith("C")

    def into(self, array: Any, dtype: Any) -> Any:
        """The user's array as the file's tensor of `dtype`; itself where nothing differs.

        Raises:
            RunFailed: The array is of a kind that the tensor cannot take.
        """
        import numpy as np

        array = np.asarray(array)
        if self.channels_last:
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        if array.dtype == dtype:
            return array
        wanted = np.dtype(dtype)
        if self.scale and array.dtype.kind == "f" and wanted.kind in "iu":
            limits = np.iinfo(wanted)
            steps = np.rint(array / np.float32(self.scale)) + self.zero_point
            return np.clip(steps, limits.min, limits.max).astype(wanted)
        if (array.dtype.kind == "f") != (wanted.kind == "f"):
            raise RunFailed("input %s is %s, the model takes %s" % (self.name, array.dtype, wanted))
        return array.astype(wanted)

    def out_of(self, array: Any) -> Any:
        """The file's tensor as the original would give it."""
        import numpy as np

        if self.channels_last:
            array = np.ascontiguousarray(np.moveaxis(array, -1, 1))
        if not self.dtype or str(array.dtype) == self.dtype:
            return array
        if self.scale and array.dtype.kind in "iu" and np.dtype(self.dtype).kind == "f":
            real = (array.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
            return real.astype(self.dtype, copy=False)
        return array.astype(self.dtype)


class Signature:
    """Inputs and outputs in the original's order, and the number of rows (see `Session.rows`)."""

    def __init__(self, inputs: List[Port], outputs: List[Port]) -> None:
        self.inputs = inputs
        self.outputs = outputs

    @property
    def rows(self) -> Optional[int]:
        """The first dimension that all ports share, 0 where it is free; ``None`` where they differ or are not told."""
        return common_rows([port.shape for port in self.inputs + self.outputs])


def common_rows(shapes: List[Optional[Tuple[int, ...]]]) -> Optional[int]:
    """First dimension of all shapes (0 or less: free), ``None`` where they differ or have none."""
    firsts = {max(0, shape[0]) if shape else None for shape in shapes}
    return firsts.pop() if len(firsts) == 1 else None


def check_shape(name: str, shape: Tuple[int, ...], declared: Tuple[int, ...]) -> None:
    """Refuse an array whose shape an input does not take: some runtimes would read beyond its end.

    Args:
        name: The input.
        shape: The array's.
        declared: The input's, with 0 or less where it is free.

    Raises:
        RunFailed: They do not fit.
    """
    pairs = [(shape[number], declared[number]) for number in range(min(len(shape), len(declared)))]
    if len(shape) != len(declared) or any(want > 0 and have != want for have, want in pairs):
        raise RunFailed("input %s has shape %s, not %s" % (name, list(shape), list(declared)))


def parse(text: Any) -> Signature:
    """A signature from its JSON: ``{"inputs": [port], "outputs": [port]}``, a port with the fields of `Port`.

    Raises:
        LoadFailed: It is not such a document.
    """
    try:
        document = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
        found = Signature(*([Port(one) for one in document[key]] for key in ("inputs", "outputs")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed("the file's record of its inputs and outputs is damaged: %r" % error)
    if not found.inputs or not found.outputs:
        raise LoadFailed("the file's record of its inputs and outputs is empty")
    return found


def bare(inputs: List[str], outputs: List[str]) -> Signature:
    """The signature of a file that has none: names as they are, nothing moved or scaled."""
    return Signature([Port({"name": name}) for name in inputs], [Port({"name": name}) for name in outputs])


def _shape(value: Any) -> Optional[Tuple[int, ...]]:
    """Free dimensions are 0: in documents they are null, a name or a number below 1."""
    if value is None:
        return None
    return tuple(max(0, one) if isinstance(one, int) else 0 for one in value)
