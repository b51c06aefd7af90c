"""Rules on x86's 8-bit products."""

from __future__ import annotations

from edgeopt.core.device import RuntimeFacts
from edgeopt.passes._base import saturates
from edgeopt_targets.rules._base import Question, RuntimeRule


def signed_activations(question: Question, runtime: RuntimeFacts) -> str | None:
    """Signed activations, which its unsigned × signed product does not take."""
    if runtime.name != "onnxruntime":
        return None
    signed = [step for step in question.passes if getattr(step.options, "activations", "") == "int8"]
    return "int8 activations are slower than float on x86, whose 8-bit product is unsigned × signed" if signed else None


def saturation(question: Question, runtime: RuntimeFacts) -> str | None:
    """8-bit weights on a CPU that adds two products in 16 bits."""
    if runtime.name != "onnxruntime" or not saturates(question.facts.machine, question.facts.isa):
        return None
    for step in question.passes:
        options = step.options
        if step.name == "quantise_static" and options.weights == "int8" and options.reduce_range is False:
            return "this CPU has no VNNI: 8-bit weights saturate in 16 bits there (leave reduce_range open)"
    return None


RULES = (
    RuntimeRule("x86-signed", "measured on a Zen 3, ONNX Runtime 1.32", signed_activations),
    RuntimeRule("x86-saturation", "Rodriguez et al.: Lower Numerical Precision Deep Learning, 2018", saturation),
)
