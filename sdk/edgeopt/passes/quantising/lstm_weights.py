"""Dynamic int8 for LSTM: one scale for a whole weight, as fine as the CPU's products allow.

A scale for each column, which ONNX Runtime's quantiser offers, makes its kernel 12 % slower (an LSTM of 128 on AVX2),
and 7 bits for all weights lose more than is needed: `vpmaddubsw` saturates where two neighbours in one column are large
together, 255 (q0 + q1) > 32767, and hardly any are (Rodriguez et al.: Lower Numerical Precision Deep Learning Inference
and Training, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 127
_WEIGHTS = ((1, 8), (2, 10))
"""Places of the two weights and of their scales among the inputs of DynamicQuantizeLSTM."""

_SUFFIX = "_quantized"


def quantise_lstm(source: Path, destination: Path, *, exclude: Sequence[str], saturates: bool) -> None:
    """Replace LSTM by ONNX Runtime's DynamicQuantizeLSTM; a network without any is written as it is.

    Args:
        source: Prepared ONNX file.
        destination: The file to write.
        exclude: Names of nodes that stay.
        saturates: Whether pairs of products are added in 16 bits on the device.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        destination,
        op_types_to_quantize=["LSTM"],
        per_channel=False,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=list(exclude),
    )
    model = onnx.load(destination)
    floats = {tensor.name: tensor for tensor in onnx.load(source).graph.initializer}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if saturates and node.op_type == "DynamicQuantizeLSTM":
            for weight, scale in _WEIGHTS:
                original = floats[node.input[weight].removesuffix(_SUFFIX)]
                _replace(tensors, node.input[weight], node.input[scale], original)
    onnx.save(model, destination)


def _replace(tensors: dict[str, Any], weight: str, scale: str, original: Any) -> None:
    from onnx import numpy_helper

    quantised, scales = without_saturation(numpy_helper.to_array(original))
    tensors[weight].CopyFrom(numpy_helper.from_array(quantised, weight))
    tensors[scale].CopyFrom(numpy_helper.from_array(scales, scale))


def without_saturation(
    weights: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights in 8 bits of which no two neighbours saturate a sum of two products with 255 in 16 bits.

    Args:
        weights: As LSTM has them: [directions, rows, columns]; products are summed along the columns.

    Returns:
        Integers [directions, columns, rows], as DynamicQuantizeLSTM has them, and scales [directions].
    """
    sides = [np.maximum(sign * weights, 0) for sign in (1, -1)]
    together = [side[..., :-1] + side[..., 1:] for side in sides]
    reach = [one.max(axis=(1, 2), initial=0) for one in (*sides, *together)]
    scales = np.maximum.reduce(reach) / np.float32(_LARGEST)
    scales[scales == 0] = 1
    quantised = np.rint(weights / scales[:, None, None]).astype(np.int8)
    return np.ascontiguousarray(quantised.transpose(0, 2, 1)), scales.astype(np.float32)
