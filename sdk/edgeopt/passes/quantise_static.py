"""Static int8: weights and activations, ranges of the activations from calibration, QDQ form.

Source: Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko: Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, 2018; per-channel weights as in Krishnamoorthi: Quantizing deep
convolutional networks for efficient inference, 2018, §3.1.2. Q/DQ nodes are placed by ONNX Runtime's `QDQQuantizer`;
the ranges are ours (`calibrators`). QDQ rather than QOperator: every runtime reads it.

The arithmetic of the affine scheme, which a runtime makes of the Q/DQ pairs (equations of Jacob et al.):

* A real number r is an integer q with a scale S and a zero point Z: r = S (q - Z) (1).
* Weights are int8 with Z_w = 0 and S_w = max|w| / 127 (/ 64 in 7 bits), one for each output channel: the product needs
  no correction for them. Activations x are uint8 with S_x = (max - min) / 255 and Z_x = round(-min / S_x), the range
  widened to hold 0, so that padding is exact.
* A layer y = w x + b in integers: S_y (q_y - Z_y) = S_w S_x sum(q_w (q_x - Z_x)) + b, hence
  q_y = Z_y + M (sum(q_w (q_x - Z_x)) + q_b) with the multiplier M = S_w S_x / S_y (3 to 5).
* Products are summed in int32. Of sum(q_w (q_x - Z_x)) = sum(q_w q_x) - Z_x sum(q_w) the last term is known
  beforehand (7), so the inner loop multiplies codes alone.
* Biases are int32 with Z_b = 0 and S_b = S_w S_x (§2.4): q_b = round(b / S_b) is added to the sum as it is.
* Requantisation: M times the sum, rounded, plus Z_y, clipped to 0..255; the clipping does ReLU and ReLU6 too. M is
  below 1 as a rule: in fixed point an int32 times 2^-n (6), as TFLite does; ONNX Runtime multiplies in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport, saturates
from edgeopt.passes.graphs.prepare import QDQ_OPSET, opset_of, prepare
from edgeopt.passes.graphs.questions import demand_nodes, demand_weight_share, save_sorted
from edgeopt.passes.quantising.calibrators import Method, Spread, cut
from edgeopt.passes.quantising.ranges import spreads

OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""What is quantised. Not softmax, not normalisation: their inputs span too many orders of magnitude for 8 bits."""

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with weights: what accuracy is lost in, and what may be kept in float."""


@dataclass(frozen=True)
class Options:
    """Options of `quantise_static`.

    Attributes:
        calibrator: How the range of an activation is cut (`calibrators.cut`).
        activations: Element type of activations. x86: always ``uint8`` (its 8-bit product is unsigned × signed).
        weights: Element type of weights.
        per_channel: One scale for each output channel of a weight instead of one for all.
        reduce_range: Weights in 7 bits, so that pairs of products cannot saturate in 16 bits; ``auto``: exactly where
            the device is x86 without VNNI and weights are int8.
        percentile: Share kept by the ``percentile`` calibrator, in per cent.
        samples: Largest number of calibration samples.
        operators: What is quantised.
        min_share: Least share of the weights that must be in layers that this compresses, 0 to 1. Low, as convolutions
            compute much with few weights: it only keeps out networks that would stay the same (LSTM, GRU).
    """

    calibrator: Method = "minmax"
    activations: Literal["uint8", "int8"] = "uint8"
    weights: Literal["uint8", "int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool | Literal["auto"] = "auto"
    percentile: float = 99.99
    samples: int = 128
    operators: tuple[str, ...] = OPERATORS
    min_share: float = 0.05

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}, must be above 50 and at most 100")
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}, must be at least 1")
        if not 0 <= self.min_share <= 1:
            raise ValueError(f"min_share is {self.min_share}, must be between 0 and 1")
        if self.activations == "int8" and self.weights == "uint8":
            raise ValueError("int8 activations with uint8 weights exist in no runtime")


class QuantiseStatic(Pass):
    """Static quantisation to 8 bits in QDQ form."""

    name: ClassVar[str] = "quantise_static"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = 0.5
    needs_calibration: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = LAYERS
    yields: ClassVar[frozenset[str]] = frozenset({"INT8", "UINT8"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the quantised network.

        Raises:
            PassError: No calibration samples, activations that are not finite, hardly any weights that it could
                compress, an opset that is too old, or an unknown node in `keep_float`.
        """
        import onnx

        prepared = prepare(source, context)
        model = onnx.load(prepared)
        _demand_opset(model)
        demand_weight_share(model, LAYERS, self.options.min_share)
        demand_nodes(model, context.keep_float)
        save_sorted(self._quantise(model, self._ranges(prepared, context), context), destination)
        return PassReport(kept_float=context.keep_float)

    def _ranges(self, prepared: Path, context: PassContext) -> dict[str, tuple[float, float]]:
        """Intervals by tensor name, from the calibration samples."""
        import onnx

        if context.calibration is None:
            raise PassError("static quantisation needs calibration samples.", remedy="Give --data.")
        model = onnx.load(prepared, load_external_data=False)
        found: dict[str, Spread] = spreads(
            prepared,
            _activations(model, self.options.operators),
            context.calibration,
            limit=self.options.samples,
            histograms=self.options.calibrator != "minmax",
            cache=context.cache,
        )
        method, percentile = self.options.calibrator, self.options.percentile
        return {name: cut(spread, method, percentile=percentile) for name, spread in found.items()}

    def _quantise(self, model: Any, ranges: dict[str, tuple[float, float]], context: PassContext) -> Any:
        """Insert Q/DQ pairs and quantise the weights."""
        import numpy as np
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        types = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
        reduce = self.options.reduce_range
        if reduce == "auto":
            reduce = saturates(context.machine, context.isa) and self.options.weights == "int8"
        intervals = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
        quantizer = QDQQuantizer(
            model,
            self.options.per_channel,
            reduce,
            types[self.options.weights],
            types[self.options.activations],
            TensorsData(CalibrationMethod.MinMax, intervals),
            [],
            sorted(_float_region(model, context.keep_float)),
            list(self.options.operators),
            {"ActivationSymmetric": self.options.activations == "int8"},
        )
        quantizer.quantize_model()
        return quantizer.model.model


def _demand_opset(model: Any) -> None:
    """Check that the operators are new enough for one scale a channel, which is asked of `prepare` already."""
    if (opset := opset_of(model)) < QDQ_OPSET:
        raise PassError(
            f"int8 needs opset {QDQ_OPSET}; the network has {opset} and could not be converted.",
            remedy=f"Export it again with opset {QDQ_OPSET} or later.",
        )


def _float_region(model: Any, kept: tuple[str, ...]) -> set[str]:
    """The kept nodes, and what computes their inputs from the layers before them.

    A kept layer whose input were still rounded by the ReLU or the pooling in front of it would gain little.
    """
    nodes = {node.name: node for node in model.graph.node}
    producers = {name: node.name for node in model.graph.node for name in node.output}
    region, open_names = set(kept), list(kept)
    while open_names:
        for tensor in nodes[open_names.pop()].input:
            before = producers.get(tensor)
            if before and before not in region and nodes[before].op_type not in LAYERS:
                region.add(before)
                open_names.append(before)
    return region


def _activations(model: Any, operators: tuple[str, ...]) -> list[str]:
    """Names of the tensors that nodes of `operators` read and write, constants left out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    names = {
        name for node in model.graph.node if node.op_type in operators for name in (*node.input, *node.output) if name
    }
    return sorted(names - constants)
