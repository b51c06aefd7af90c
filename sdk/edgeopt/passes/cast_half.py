"""Cast to float16, except where activations would overflow it.

Source: IEEE 754-2019, binary16 (largest finite value 65504); mixed precision with some operations left in float32 as in
Micikevicius et al.: Mixed Precision Training, 2018, §3. The graph is rewritten by ONNX Runtime's
`convert_float_to_float16`, which keeps inputs and outputs in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.questions import demand_nodes, save_sorted
from edgeopt.passes.quantising.ranges import spreads

LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Options:
    """Options of `cast_half`.

    Attributes:
        margin: A node whose inputs, outputs or constants exceed 65504 / `margin` stays in float32.
        samples: Largest number of calibration samples for the check.
    """

    margin: float = 8.0
    samples: int = 32

    def __post_init__(self) -> None:
        if self.margin < 1:
            raise ValueError(f"margin is {self.margin}, must be at least 1")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")


class CastHalf(Pass):
    """float16 with the range checked."""

    name: ClassVar[str] = "cast_half"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.9
    needs_calibration: ClassVar[bool] = True
    yields: ClassVar[frozenset[str]] = frozenset({"FLOAT16"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the float16 network.

        Raises:
            PassError: No calibration samples, activations that are not finite, or an unknown node in `keep_float`.
        """
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        if context.calibration is None:
            raise PassError("the range check of float16 needs calibration samples.", remedy="Give --data.")
        prepared = prepare(source, context)
        model = onnx.load(prepared)
        demand_nodes(model, context.keep_float)
        unsafe = self._unsafe(prepared, model, context)
        kept = tuple(sorted({*unsafe, *context.keep_float}))
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=list(kept))
        _join_casts(half, {node.name for node in onnx.load(prepared).graph.node})
        save_sorted(half, destination)
        worst = sorted(unsafe.items(), key=lambda item: -item[1])[:3]
        notes = tuple(f"float16 unsafe: {name} reaches {peak:.3g}, kept in float32" for name, peak in worst)
        return PassReport(notes=notes, kept_float=kept)

    def _unsafe(self, prepared: Path, model: Any, context: PassContext) -> dict[str, float]:
        """Largest magnitude that a node touches, by name, where it exceeds the limit."""
        import numpy as np
        from onnx import numpy_helper

        assert context.calibration is not None
        tensors = {name for node in model.graph.node for name in (*node.input, *node.output) if name}
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        found = spreads(
            prepared,
            sorted(tensors - set(constants)),
            context.calibration,
            limit=self.options.samples,
            histograms=False,
            cache=context.cache,
        )
        peaks = {name: max(abs(spread.low), abs(spread.high)) for name, spread in found.items()}
        for name, tensor in constants.items():
            if tensor.data_type == 1:
                peaks[name] = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        limit = LARGEST_HALF / self.options.margin
        touched = {
            node.name: max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
            for node in model.graph.node
        }
        return {name: peak for name, peak in touched.items() if peak > limit}


def _join_casts(model: Any, original: set[str]) -> None:
    """Take out the casts to half and back that the converter puts between two nodes that stay in float32.

    Their tensor is exactly the one that does not fit into a half.
    """
    from onnx import TensorProto

    def is_cast_to(node: Any, kind: int) -> bool:
        added = node.op_type == "Cast" and node.name not in original
        return added and any(attribute.name == "to" and attribute.i == kind for attribute in node.attribute)

    halves = {node.output[0]: node.input[0] for node in model.graph.node if is_cast_to(node, TensorProto.FLOAT16)}
    back = {
        node.output[0]: halves[node.input[0]]
        for node in model.graph.node
        if is_cast_to(node, TensorProto.FLOAT) and node.input[0] in halves
    }
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = back.get(name, name)
    read = {name for node in model.graph.node for name in node.input} | outputs
    unread = [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] not in read]
    for node in unread:
        model.graph.node.remove(node)
