"""Dynamic int8: weights in 8 bits, activations quantised while the network runs; for matrix products and LSTM only.

Source: Krishnamoorthi: Quantizing deep convolutional networks for efficient inference, 2018, §3.1; done by ONNX
Runtime's `quantize_dynamic` (DynamicQuantizeLinear and MatMulInteger, ONNX opset 11; for LSTM see `lstm_weights`).
Convolutions are left alone: ConvInteger is 3-8 times slower than float on x86 and missing in older runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport, saturates
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.questions import demand_nodes, demand_weight_share, with_rewritten_gemm
from edgeopt.passes.quantising.lstm_weights import quantise_lstm

LAYERS = frozenset({"MatMul", "Gemm", "LSTM"})


@dataclass(frozen=True)
class Options:
    """Options of `quantise_dynamic`.

    Attributes:
        per_channel: One scale for each column of a matrix product's weight.
        reduce_range: Weights so small that products do not saturate, of MatMul and Gemm in 7 bits; ``auto``: where the
            device is x86 without VNNI.
        min_share: Least share of the weights that must be in such layers, 0 to 1.
    """

    per_channel: bool = True
    reduce_range: bool | Literal["auto"] = "auto"
    min_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= 1:
            raise ValueError(f"min_share is {self.min_share}, must be between 0 and 1")


class QuantiseDynamic(Pass):
    """ONNX Runtime's dynamic quantisation of MatMul, Gemm and LSTM."""

    name: ClassVar[str] = "quantise_dynamic"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    operators: ClassVar[frozenset[str]] = LAYERS
    yields: ClassVar[frozenset[str]] = frozenset({"INT8"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the quantised network.

        Raises:
            PassError: Too few of the weights are in such layers, or an unknown node in `keep_float`.
        """
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        prepared = prepare(source, context)
        model = onnx.load(prepared)
        share = demand_weight_share(model, LAYERS, self.options.min_share)
        demand_nodes(model, context.keep_float)
        reduce = self.options.reduce_range
        reduce = saturates(context.machine, context.isa) if reduce == "auto" else reduce
        excluded = with_rewritten_gemm(context.keep_float)
        if any(node.op_type == "LSTM" for node in model.graph.node):
            recurrent = context.work / "recurrent.onnx"
            quantise_lstm(prepared, recurrent, exclude=excluded, saturates=reduce)
            prepared = recurrent
        quantize_dynamic(
            prepared,
            destination,
            op_types_to_quantize=["MatMul"],  # Gemm is rewritten as MatMul and Add before
            per_channel=self.options.per_channel,
            reduce_range=reduce,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
        return PassReport(notes=(f"dynamic int8 covers {share}",), kept_float=context.keep_float)
