"""A smaller picture: the first node of the network shrinks it, so that callers feed the same arrays as before.

Source: Howard et al.: MobileNets, 2017, §3.4 (the resolution multiplier: cost falls with its square).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport

_RESIZE_OPSET = 11


@dataclass(frozen=True)
class Options:
    """Options of `resize_input`.

    Attributes:
        scale: Height and width in parts of what they were.
        method: ``area`` averages whole cells, which needs a whole number for 1 / scale; ``linear``, ``nearest``;
            ``auto`` is ``area`` where it can be, else ``linear``.
        input: Name of the input that is a picture [N, C, H, W] (or a signal [N, C, L], a volume); by default the only
            one of three dimensions or more.
    """

    scale: float = 0.5
    method: Literal["auto", "area", "linear", "nearest"] = "auto"
    input: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.scale < 1:
            raise ValueError(f"scale is {self.scale}, must be above 0 and below 1")
        if self.method == "area" and abs(1 / self.scale - round(1 / self.scale)) > 1e-6:
            raise ValueError(f"area needs a whole number for 1 / scale, which is {1 / self.scale:g}")


class ResizeInput(Pass):
    """Runs the network on a smaller picture, which it makes itself: cost falls with the square of the scale. Helps
    where convolutions on large pictures take the time, best with `fine_tune` after it; costs accuracy where details
    decide, and cannot be had where a size is written into the network (flattened maps, windows, segmentation).
    """

    name: ClassVar[str] = "resize_input"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    operators: ClassVar[frozenset[str]] = frozenset({"Conv"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with the smaller picture.

        Raises:
            PassError: No input is a picture, its size is free and there are no samples, a node forbids it, or an
                unknown node in `keep_float`.
        """
        import onnx

        from edgeopt.passes.graphs.feeds import inner_values
        from edgeopt.passes.graphs.questions import demand_nodes
        from edgeopt.passes.graphs.resolution import adapt

        model = onnx.load(source)
        demand_nodes(model, context.keep_float)
        picture = self._picture(model)
        _demand_sizes(picture, context)
        every = [name for node in model.graph.node for name in node.output if name]
        sample = next(inner_values(model, every, context.calibration, limit=1, work=context.work))
        before = {name: value.shape for name, value in sample.items()}
        old = before[picture.name]
        new = (*old[:2], *(int(size * self.options.scale + 1e-6) for size in old[2:]))
        if 0 in new:
            raise PassError(
                f"input {picture.name!r} of size {list(old[2:])} has nothing left at {self.options.scale:g}."
            )
        self._put_in_front(model, picture.name, old)
        feed = {value.name: sample[value.name] for value in model.graph.input if value.name in sample}
        adapted = adapt(model, feed, before)
        del model.graph.value_info[:]
        onnx.save(model, destination)
        return PassReport(notes=(f"resize_input: {_sizes(old)} became {_sizes(new)}", *adapted))

    def _picture(self, model: Any) -> Any:
        """The graph's input that is to shrink."""
        inner = {tensor.name for tensor in model.graph.initializer}
        inputs = {value.name: value for value in model.graph.input if value.name not in inner}
        wanted = self.options.input
        if wanted and wanted not in inputs:
            raise PassError(f"there is no input {wanted!r}.", remedy=f"Inputs: {', '.join(inputs)}.")
        found = [
            value
            for name, value in inputs.items()
            if (name == wanted or not wanted) and len(value.type.tensor_type.shape.dim) >= 3
        ]
        if len(found) != 1:
            raise PassError(
                f"{len(found)} inputs have the three or more dimensions of a picture, not one.",
                remedy="Name it: input: NAME." if found else "",
            )
        return found[0]

    def _put_in_front(self, model: Any, name: str, size: tuple[int, ...]) -> None:
        """Let all that reads the picture read the smaller one."""
        import onnx

        from edgeopt.passes.graphs.prepare import opset_of

        small = f"{name}/smaller"
        for node in model.graph.node:
            node.input[:] = [small if read == name else read for read in node.input]
        cell = round(1 / self.options.scale)
        whole = abs(1 / self.options.scale - cell) < 1e-6 and all(side % cell == 0 for side in size[2:])
        if self.options.method == "area" and not whole:
            raise PassError(f"input {name!r} of size {list(size[2:])} has no whole number of cells of {cell}.")
        if self.options.method == "area" or (self.options.method == "auto" and whole):
            cells = [cell] * (len(size) - 2)
            node = onnx.helper.make_node("AveragePool", [name], [small], small, kernel_shape=cells, strides=cells)
        elif opset_of(model) < _RESIZE_OPSET:
            raise PassError(f"its opset is {opset_of(model)}, resizing needs {_RESIZE_OPSET} or method: area.")
        else:
            node = self._resize(model, name, small, len(size))
        model.graph.node.insert(0, node)

    def _resize(self, model: Any, name: str, small: str, dimensions: int) -> Any:
        import numpy as np
        import onnx

        scales = np.array([1.0, 1.0] + [self.options.scale] * (dimensions - 2), dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(scales, f"{small}/scales"))
        mode = "nearest" if self.options.method == "nearest" else "linear"
        return onnx.helper.make_node(
            "Resize",
            [name, "", f"{small}/scales"],
            [small],
            small,
            mode=mode,
            coordinate_transformation_mode="half_pixel",
            nearest_mode="round_prefer_floor",
        )


def _demand_sizes(picture: Any, context: PassContext) -> None:
    import onnx

    tensor = picture.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise PassError(f"input {picture.name!r} holds {kind}, not float32: it cannot be averaged.")
    free = any(not size.HasField("dim_value") for size in tensor.shape.dim[2:])
    if free and context.calibration is None:
        raise PassError(
            f"the size of input {picture.name!r} is free, and there is no sample to see a usual one.",
            remedy="Give --calib.",
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[2:]))
