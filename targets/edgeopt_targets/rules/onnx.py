"""Rules on runtimes that read ONNX files: ONNX Runtime's versions."""

from __future__ import annotations

from edgeopt.core.device import RuntimeFacts
from edgeopt_targets.onnxruntime_versions import FIRST_WITH_WEIGHT_BITS, parse, too_new
from edgeopt_targets.rules._base import Question, RuntimeRule


def version(question: Question, runtime: RuntimeFacts) -> str | None:
    """An opset or IR version that is newer than the device's onnxruntime."""
    if runtime.name != "onnxruntime":
        return None
    return too_new(runtime.version, question.opset, question.ir_version)


def weight_bits(question: Question, runtime: RuntimeFacts) -> str | None:
    """Weights in blocks of few bits, which old releases do not know."""
    release = parse(runtime.version)
    if runtime.name != "onnxruntime" or release == (0, 0):
        return None
    for step in question.passes:
        first = FIRST_WITH_WEIGHT_BITS.get(getattr(step.options, "bits", 0)) if "MatMulNBits" in step.yields else None
        if first and release < first:
            return (
                f"onnxruntime {runtime.version} on the device cannot run {step.options.bits}-bit weight-only layers "
                f"({first[0]}.{first[1]} or later can)"
            )
    return None


RULES = (
    RuntimeRule("onnx-version", "onnxruntime.ai/docs/reference/compatibility.html", version),
    RuntimeRule("weight-bits", "files of each kind loaded in 1.19.2, 1.23.2 and 1.32.0", weight_bits),
)
