"""Weights of few different values as digits in bytes, and the ONNX nodes that unpack them.

A byte holds as many digits to the base of the number of levels as fit: 8 of two levels, 5 of three, 2 of up to 16. They
are unpacked by looking bytes up in a table of all 256, [256, digits], and the digits up in the list of the levels. All
operators are in opset 10 and older, and their inputs are constant: a runtime folds them while it loads the file.
Bit shifts would do for powers of two only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LEVELS = 256
TABLE = "unpack_base_{levels}"


def digits_in_a_byte(levels: int) -> int:
    """How many digits to the base `levels` (2 to 256) a byte holds."""
    count = 1
    while levels ** (count + 1) <= MOST_LEVELS:
        count += 1
    return count


def pack_digits(digits: NDArray[np.uint8], levels: int) -> NDArray[np.uint8]:
    """Digits of any shape, in C order, as bytes; the last one is filled with zeros. The first digit counts most."""
    count = digits_in_a_byte(levels)
    flat = np.concatenate([digits.ravel(), np.zeros(-digits.size % count, np.uint8)]).reshape(-1, count)
    packed: NDArray[np.uint8] = (flat.astype(np.int64) @ levels ** np.arange(count)[::-1]).astype(np.uint8)
    return packed


def digit_table(levels: int) -> NDArray[np.uint8]:
    """What each byte holds, [256, digits]."""
    places = levels ** np.arange(digits_in_a_byte(levels))[::-1]
    table: NDArray[np.uint8] = (np.arange(MOST_LEVELS)[:, None] // places % levels).astype(np.uint8)
    return table


@dataclass
class Form:
    """Nodes and initialisers that compute a weight."""

    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """What they take in a file."""
        return sum(part.ByteSize() for part in (*self.nodes, *self.initializers))


class Packer:
    """Replaces initialisers of a model by smaller forms that compute them.

    Args:
        model: Changed in place; the nodes come first in its graph.
    """

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._first = 0
        self._count = 0

    def levels(self, name: str, digits: NDArray[np.uint8], values: NDArray[Any], scale: Any | None = None) -> bool:
        """Store ``values[digits] * scale``.

        Args:
            name: The initialiser.
            digits: Indices into `values`, in the shape of the weight.
            values: [levels], 2 to 256 of them, in the weight's element type.
            scale: Float32, broadcasts over the weight; ``None``: 1.

        Returns:
            Whether it was done: not where the file would not get smaller.
        """
        draft = _Draft(self._next())
        count = digits_in_a_byte(len(values))
        packed = draft.constant("packed", pack_digits(digits, len(values)))
        table = TABLE.format(levels=len(values))
        if count > 1:
            if table not in self._weights:
                draft.form.initializers.append(_tensor(digit_table(len(values)), table))
            packed = draft.node("Gather", [table, draft.cast(packed, "int32")])
        packed = draft.cast(packed, "int32")
        if digits.size % count:
            flat = draft.node("Reshape", [packed, draft.constant("flat", np.array([-1]))])
            ends = [draft.constant("start", np.array([0])), draft.constant("end", np.array([digits.size]))]
            packed = draft.node("Slice", [flat, *ends])
        packed = draft.node("Reshape", [packed, draft.constant("shape", np.array(digits.shape))])
        found = draft.node("Gather", [draft.constant("list", values), packed])
        return self._replace(name, draft.scaled(found, scale))

    def bytes(self, name: str, codes: NDArray[np.int8], scale: Any, *, axis: int | None = None) -> bool:
        """Store ``codes * scale``; with `axis` by DequantizeLinear, which needs a scale of one such axis alone.

        Returns:
            Whether it was done: not where the file would not get smaller.
        """
        draft = _Draft(self._next())
        constant = draft.constant("codes", codes)
        if axis is None:
            return self._replace(name, draft.scaled(draft.cast(constant, "float32"), scale))
        step = draft.constant("scale", scale.reshape(-1))
        draft.node("DequantizeLinear", [constant, step], axis=axis)
        return self._replace(name, draft.form)

    def _next(self) -> str:
        self._count += 1
        return f"unpack{self._count}"

    def _replace(self, name: str, form: Form) -> bool:
        weight = self._weights[name]
        if form.size_bytes >= weight.ByteSize():
            return False
        form.nodes[-1].output[0] = name
        self._graph.initializer.remove(weight)
        for value in [value for value in self._graph.input if value.name == name]:
            self._graph.input.remove(value)  # IR 3 lists constants among the inputs
        self._graph.initializer.extend(form.initializers)
        self._weights |= {tensor.name: tensor for tensor in form.initializers}
        for node in form.nodes:
            self._graph.node.insert(self._first, node)
            self._first += 1
        return True


class _Draft:
    """A form in the making; short names and none for nodes, as each is in the file two or three times."""

    def __init__(self, prefix: str) -> None:
        self.form = Form()
        self._prefix = prefix

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.form.initializers.append(_tensor(value, f"{self._prefix}_{name}"))
        return f"{self._prefix}_{name}"

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        import onnx

        output = f"{self._prefix}_{len(self.form.nodes)}"
        self.form.nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def cast(self, name: str, kind: str) -> str:
        import onnx

        return self.node("Cast", [name], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def scaled(self, name: str, scale: Any | None) -> Form:
        if scale is not None:
            self.node("Mul", [name, self.constant("scale", scale)])
        return self.form


def _tensor(value: NDArray[Any], name: str) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
