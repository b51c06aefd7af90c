"""Weights stored in 8, 4, 2 or 1 bits, computed in float: a smaller file of any network.

Codes and scales are those of `quantising.grid` (Krishnamoorthi, 2018, §3.1.2; Li, Zhang, Liu, 2016; Rastegari et al.,
2016), the packing of several codes in a byte is `quantising.packing`'s. Standard operators, so every runtime of opset
13 reads the file; a runtime's own 4-bit kernels (`quantise_weights`) know MatMul alone.

ONNX Runtime folds casts, look-ups and products of constants while it loads, but never a DequantizeLinear, which it
computes again at each inference: on a 256 x 256 x 3 x 3 convolution over 14 x 14 that took 5.4 ms instead of 3.8 at
4 bits. So `unpack` is ``load`` by default.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import opset_of, prepare
from edgeopt.passes.graphs.questions import demand_nodes, save_sorted

if TYPE_CHECKING:
    from edgeopt.passes.quantising.storing import Storing

FOUR_BIT_OPSET = 21
"""The first whose DequantizeLinear takes 4 bits; onnxruntime 1.18 and later has it."""


@dataclass(frozen=True)
class Options:
    """Options of `pack_weights`.

    Attributes:
        bits: Of a stored weight. ``auto``: the fewest whose grid a layer's weights lie on already, as `train_quantised`
            and `round_weights` leave them, without loss; 2 bits take 1.6, five weights a byte.
        otherwise: With ``auto``: bits of weights that lie on no grid, rounded to the nearest; 0 leaves them in float.
        unpack: ``load``: as the file is loaded; speed and memory are then those of float. ``run``: at each inference
            (DequantizeLinear; 8 and 4 bits, 4 bits need opset 21): less memory, but slower.
    """

    bits: Literal[8, 4, 2, 1, "auto"] = "auto"
    otherwise: Literal[8, 4, 2, 1, 0] = 8
    unpack: Literal["load", "run"] = "load"


class PackWeights(Pass):
    """Weights of any layer in 8, 4, 2 or 1 bits in the file, arithmetic in float.

    Saves size only: 4 to 20 times smaller, never faster; 4 bits and fewer need weights that were trained for it
    (`train_quantised`). Goes last: `simplify` would unpack them again.
    """

    name: ClassVar[str] = "pack_weights"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.0
    yields: ClassVar[frozenset[str]] = frozenset({"Cast", "DequantizeLinear"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with packed weights.

        Of a network in QDQ form the integer weights of few different values are packed too, without loss: a network of
        2-bit weights behind `quantise_static` takes 1.6 bits a weight in the file and runs in 8-bit arithmetic.

        Raises:
            PassError: No weights that would get smaller, or an unknown node in `keep_float`.
        """
        import onnx

        from edgeopt.passes.quantising.storing import Storing

        model = onnx.load(source)
        if not any(node.op_type == "DequantizeLinear" for node in model.graph.node):
            model = onnx.load(prepare(source, context))
        demand_nodes(model, context.keep_float)
        model, at_run = self._for_run(model)
        before = model.ByteSize()
        storing = Storing(model, self.options.bits, self.options.otherwise, at_run)
        storing.pack(context.keep_float)
        if not storing.stored:
            raise PassError(
                "no weights would get smaller.", remedy="The network is tiny or packed already: leave the pass out."
            )
        save_sorted(model, destination)
        return PassReport(_notes(storing, before, model.ByteSize(), at_run), context.keep_float)

    def _for_run(self, model: Any) -> tuple[Any, tuple[int, ...]]:
        """The model in an opset that can do what `unpack` asks, and the bits that DequantizeLinear then takes."""
        from onnx import version_converter

        if self.options.unpack == "load":
            return model, ()
        if opset_of(model) < FOUR_BIT_OPSET:
            with contextlib.suppress(Exception):  # the converter raises whatever its adapters do not know
                return version_converter.convert_version(model, FOUR_BIT_OPSET), (8, 4)
            return model, (8,)
        return model, (8, 4)


def _notes(storing: Storing, before: int, after: int, at_run: tuple[int, ...]) -> tuple[str, ...]:
    ways = ", ".join(f"{count} in {way}" for way, count in sorted(storing.stored.items()))
    notes = [f"weights of {sum(storing.stored.values())} layers packed ({ways}): {before} bytes became {after}"]
    when = "at each inference" if at_run else "as the file is loaded"
    notes.append(f"packing saves size only: the weights are unpacked {when}")
    if storing.left:
        notes.append(f"left {len(storing.left)} small or unfit layers as they were: {', '.join(storing.left)}")
    return tuple(notes)
