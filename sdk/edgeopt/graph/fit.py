"""Fits what the user's data gives to what the model takes: names, element types, layout, batch (pure, NumPy)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.errors import DataError
from edgeopt.graph.sample_options import SampleOptions


def batch_size(signature: Signature) -> int | None:
    """Rows in one feed: 1 where the batch is dynamic, the fixed size all inputs share, else ``None`` (no batch)."""
    leading = {spec.shape[0] if spec.shape else -1 for spec in signature.inputs}
    size = leading.pop()
    if leading or size == -1:
        return None
    return 1 if size is None else size


@dataclass
class Fitter:
    """Turns items of the data into rows of the model's inputs.

    Attributes:
        signature: What the model takes.
        options: Layout and scale.
        notes: Silent repairs that were made, each once.
    """

    signature: Signature
    options: SampleOptions
    notes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.batch = batch_size(self.signature)
        self._row_shapes: dict[str, tuple[int, ...]] = {}

    def rows(self, start: int, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays [rows, *row shape] by input, of the model's element type.

        Without a batch in the model, an item is one row with the shape of the whole input.

        Args:
            start: Number of the item's first sample, for messages.
            inputs: Arrays by input name: one row without batch, or any number of rows along the leading axis.

        Raises:
            DataError: Names, element types, shapes or values do not fit; says which sample and input, and a remedy.
        """
        self._check_names(start, inputs)
        made = {spec.name: self._fit(start, spec, inputs[spec.name]) for spec in self.signature.inputs}
        if len({len(rows) for rows in made.values()}) > 1:
            counts = ", ".join(f"{name}: {len(rows)}" for name, rows in made.items())
            raise DataError(f"sample {start}: the inputs have different numbers of rows ({counts}).")
        for name, rows in made.items():
            expected = self._row_shapes.setdefault(name, rows.shape[1:])
            if rows.shape[1:] != expected:
                raise DataError(
                    f"sample {start}: input `{name}` is {list(rows.shape[1:])}, those before are {list(expected)}.",
                    remedy="All samples must have one shape: pad, crop or resize them in your function.",
                )
        return made

    def _check_names(self, start: int, inputs: Mapping[str, Any]) -> None:
        wanted = [spec.name for spec in self.signature.inputs]
        unknown = [str(name) for name in inputs if name not in wanted]
        missing = [name for name in wanted if name not in inputs]
        if unknown or missing:
            problem = f"has no input {missing[0]}" if missing else f"has {unknown[0]}, which is no input of the model"
            raise DataError(
                f"sample {start} {problem}; it gives {', '.join(map(str, inputs)) or 'nothing'}.",
                remedy=f"The model takes {', '.join(map(str, self.signature.inputs))}: name the arrays so.",
            )

    def _fit(self, start: int, spec: TensorSpec, value: Any) -> Any:
        array = as_array(value, f"sample {start}: input `{spec.name}`")
        shaped = self._shape(start, spec, self._turn(spec, array))
        rows = self._cast(start, spec, shaped)
        self._check_finite(start, spec, rows)
        return rows

    def _turn(self, spec: TensorSpec, array: Any) -> Any:
        """Transpose images between HWC and CHW where asked."""
        import numpy as np

        if self.options.layout == "as_is" or len(spec.shape) != 4 or array.ndim < 3:
            return array
        return np.moveaxis(array, -1, -3) if self.options.layout == "hwc" else np.moveaxis(array, -3, -1)

    def _shape(self, start: int, spec: TensorSpec, array: Any) -> Any:
        """Rows along a leading axis that is ours."""
        if self.batch is None:
            if matches(spec.shape, array.shape):
                return array[None]
        elif matches(spec.shape[1:], array.shape):
            return array[None]
        elif array.ndim > 0 and matches(spec.shape[1:], array.shape[1:]):
            return array
        raise DataError(
            f"sample {start}: input `{spec.name}` is {array.dtype}{list(array.shape)}, the model wants {spec}.",
            remedy=_shape_remedy(spec, array),
        )

    def _cast(self, start: int, spec: TensorSpec, array: Any) -> Any:
        import numpy as np

        wanted = np.dtype(spec.dtype)
        what = f"sample {start}: input `{spec.name}` is {array.dtype}, the model wants {wanted}."
        if wanted.kind == "f" and array.dtype.kind in "iub" and self.options.scale is None:
            raise DataError(
                what, remedy="Pass --scale 1/255 for images of 0 to 255, or --scale 1 to take the numbers as they are."
            )
        if wanted.kind == "f" and array.dtype.kind in "fiub":
            if array.dtype.kind == "f" and array.dtype != wanted:
                self.notes.add(f"Input {spec.name} was cast from {array.dtype} to {wanted}.")
            scaled = array if self.options.scale is None else array * np.float64(self.options.scale)
            with np.errstate(over="ignore"):
                return scaled.astype(wanted)
        if wanted.kind in "iub" and array.dtype.kind in "iub":
            cast = array.astype(wanted)
            if not np.array_equal(cast, array):
                raise DataError(f"{what[:-1]}, which cannot hold {array.min()} to {array.max()}.")
            if array.dtype != wanted:
                self.notes.add(f"Input {spec.name} was cast from {array.dtype} to {wanted}.")
            return cast
        raise DataError(what, remedy=f"Convert it in your function: array.astype({str(wanted)!r}).")

    def _check_finite(self, start: int, spec: TensorSpec, rows: Any) -> None:
        import numpy as np

        if rows.dtype.kind != "f":
            return
        good = np.isfinite(rows)
        if not good.all():
            row = int(np.argmin(good.reshape(len(rows), -1).all(axis=1)))
            count = int((~good[row]).sum())
            raise DataError(
                f"sample {start + row}: input `{spec.name}` has {count} values that are NaN or infinite.",
                remedy="Drop or repair the sample; dividing by a standard deviation of 0 is a common cause.",
            )


def matches(wanted: Sequence[int | None], shape: Sequence[int]) -> bool:
    """Whether a shape fits a specification."""
    return len(wanted) == len(shape) and all(size in (None, given) for size, given in zip(wanted, shape, strict=True))


def as_array(value: Any, what: str) -> Any:
    """A NumPy array of numbers from an array, a torch tensor, a list or a number.

    Raises:
        DataError: It is something else (objects, strings, ragged lists).
    """
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what} is not an array: {error}.") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what} holds {type(value).__name__} of {array.dtype}, not numbers.")
    return array


def _shape_remedy(spec: TensorSpec, array: Any) -> str:
    import numpy as np

    row = spec.shape[1:]
    if len(spec.shape) == 4 and array.ndim in (3, 4):
        for layout, (source, target) in {"hwc": (-1, -3), "chw": (-3, -1)}.items():
            if matches(row, np.moveaxis(array, source, target).shape[-3:]):
                return f"It looks like {layout.upper()}: pass --layout {layout}."
    sizes = [size for size in row if size is not None]
    if len(sizes) == len(row) and array.size == int(np.prod(sizes)):
        return f"It has as many numbers: reshape it to {list(row)} in your function or file."
    if None in row and array.ndim in (len(row), len(row) + 1):
        return "Resize it to those sizes."
    return f"Give each sample as {list(row)}, or several of them along a leading axis, with the sizes shown."
