"""Rules on TensorRT: what its GPU, its version and its ONNX parser cannot do."""

from __future__ import annotations

from edgeopt.core.device import RuntimeFacts
from edgeopt.passes._base import Pass
from edgeopt_targets.onnxruntime_versions import parse
from edgeopt_targets.rules._base import Question, RuntimeRule
from edgeopt_targets.tensorrt_versions import FOUR_BIT_WEIGHTS, SOURCE, largest_opset

_NAME = "tensorrt"


def precision(question: Question, runtime: RuntimeFacts) -> str | None:
    """A precision that the GPU has no arithmetic for."""
    hardware, wanted = question.profile.hardware, question.recipe.precision
    if runtime.name != _NAME or not hardware.gpu_precisions or wanted not in ("int8", "float16"):
        return None
    if wanted in hardware.gpu_precisions:
        return None
    return f"{hardware.gpu} (compute capability {hardware.compute_capability}) has no {wanted} arithmetic"


def opset(question: Question, runtime: RuntimeFacts) -> str | None:
    """An opset that the parser does not know."""
    if runtime.name != _NAME:
        return None
    largest = largest_opset(runtime.version)
    if not largest or question.opset <= largest:
        return None
    return (
        f"TensorRT {runtime.version} on the device reads opsets up to {largest}; the network has "
        f"{question.opset} (export it again with opset {largest} or lower)"
    )


def operators(question: Question, runtime: RuntimeFacts) -> str | None:
    """Operators of ONNX Runtime's own, and integer products of dynamic quantisation, which its parser does not have."""
    if runtime.name != _NAME:
        return None
    for step in question.passes:
        if made := _foreign(step):
            return f"{step.name} makes {made}, which TensorRT's parser does not have"
    return None


def _foreign(step: Pass) -> str:
    if "MatMulNBits" in step.yields:
        return "MatMulNBits"
    if step.name == "quantise_dynamic":
        return "MatMulInteger and DynamicQuantizeLinear"
    fused = step.name == "optimise_graph" and _option(step, "level") not in (None, "basic")
    return "fused operators of ONNX Runtime" if fused else ""


def symmetric(question: Question, runtime: RuntimeFacts) -> str | None:
    """Activations with a zero point: its 8-bit arithmetic is signed and symmetric."""
    if runtime.name != _NAME:
        return None
    unsigned = [step for step in question.passes if "uint8" in (_option(step, "activations"), _option(step, "weights"))]
    return f"{unsigned[0].name} gives uint8 a zero point; TensorRT takes int8 around zero only" if unsigned else None


def four_bits(question: Question, runtime: RuntimeFacts) -> str | None:
    """Weights in 4 bits before they existed."""
    if runtime.name != _NAME or question.recipe.precision != "int4" or parse(runtime.version) == (0, 0):
        return None
    if parse(runtime.version) >= FOUR_BIT_WEIGHTS:
        return None
    return f"TensorRT {runtime.version} on the device has no 4-bit weights (10.0 or later has)"


def _option(step: object, name: str) -> object:
    return getattr(getattr(step, "options", None), name, None)


RULES = (
    RuntimeRule("gpu-precision", "TensorRT support matrix; jetson-inference#111, tensorrtx#831", precision),
    RuntimeRule("tensorrt-opset", SOURCE, opset),
    RuntimeRule("tensorrt-operators", SOURCE, operators),
    RuntimeRule("tensorrt-symmetric", "NVIDIA TensorRT documentation, Working with Quantized Types", symmetric),
    RuntimeRule("tensorrt-int4", "NVIDIA TensorRT 10.0 release notes", four_bits),
)
