"""Weight-only 8, 4 or 2 bits in blocks: a smaller file and less memory traffic, arithmetic still in float.

Source: block-wise round-to-nearest as in Dettmers, Lewis, Shleifer, Zettlemoyer: 8-bit Optimizers via Block-wise
Quantization, 2022, §2.1; the operator is ONNX Runtime's MatMulNBits (com.microsoft), so only MatMul can be had.
Weights that lie on a grid with a scale for each channel (`round_weights`, `train_quantised`) are rounded once more to
that of their block: `pack_weights` stores those as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.questions import demand_nodes, demand_weight_share, save_sorted, with_rewritten_gemm


@dataclass(frozen=True)
class Options:
    """Options of `quantise_weights`.

    Attributes:
        bits: Bits a weight. The device's onnxruntime must know them: 1.32 loads all, 1.23 refuses 2 bits, 1.19 also 8.
        block_size: Weights that share a scale; a power of two, at least 16.
        symmetric: Without a zero point.
        min_share: Least share of the weights that must be in MatMul or Gemm layers, 0 to 1.
    """

    bits: Literal[2, 4, 8] = 8
    block_size: int = 32
    symmetric: bool = True
    min_share: float = 0.25

    def __post_init__(self) -> None:
        if self.block_size < 16 or self.block_size & (self.block_size - 1):
            raise ValueError(f"block_size is {self.block_size}, must be a power of two and at least 16")
        if not 0 <= self.min_share <= 1:
            raise ValueError(f"min_share is {self.min_share}, must be between 0 and 1")


class QuantiseWeights(Pass):
    """Weights of MatMul and Gemm in blocks of 8, 4 or 2 bits, computed in float (MatMulNBits).

    Helps where memory is short or weights are most of the traffic (large transformers); it is rarely faster, does
    nothing for convolutions, and 2 bits cost points to all of the accuracy of a network not trained for them.
    """

    name: ClassVar[str] = "quantise_weights"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    operators: ClassVar[frozenset[str]] = frozenset({"MatMul", "Gemm"})
    yields: ClassVar[frozenset[str]] = frozenset({"MatMulNBits"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with packed weights; Gemm is rewritten as MatMul and Add first.

        Raises:
            PassError: No MatMul or too few weights in them, or an unknown node in `keep_float`.
        """
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
        from onnxruntime.quantization.onnx_model import ONNXModel

        prepared = prepare(source, context)
        model = onnx.load(prepared)
        share = demand_weight_share(model, self.operators, self.options.min_share)
        demand_nodes(model, context.keep_float)
        rewritten = ONNXModel(model)
        rewritten.replace_gemm_with_matmul()
        config = DefaultWeightOnlyQuantConfig(
            block_size=self.options.block_size,
            is_symmetric=self.options.symmetric,
            accuracy_level=4,
            bits=self.options.bits,
        )
        quantizer = MatMulNBitsQuantizer(
            rewritten.model, algo_config=config, nodes_to_exclude=with_rewritten_gemm(context.keep_float)
        )
        quantizer.process()
        save_sorted(quantizer.model.model, destination)
        notes: tuple[str, ...] = (f"{self.options.bits} bits cover {share}",)
        if self.options.bits == 2:
            notes += ("2-bit weights load in onnxruntime 1.32, not in 1.23",)
        return PassReport(notes, context.keep_float)
