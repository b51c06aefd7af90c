"""Rules on the network and the recipe, whatever the device: samples, operators, precision."""

from __future__ import annotations

from edgeopt.core.formats import ONNX
from edgeopt_targets.rules._base import Question, Rule


def source_format(question: Question) -> str | None:
    """A pass, for a network that is no ONNX file."""
    if question.model.format == ONNX or not question.passes:
        return None
    return f"a .{question.model.format} file is taken as it is; give the network that it was converted from"


def precision(question: Question) -> str | None:
    """A precision that is no use on such hardware."""
    listed = question.profile.precisions
    if question.recipe.precision in listed:
        return None
    return f"profile {question.profile.name} has no use for {question.recipe.precision} (it lists {', '.join(listed)})"


def calibration(question: Question) -> str | None:
    """A pass that needs samples, and there are none."""
    if question.model.calibrated:
        return None
    wanting = [step.name for step in question.passes if step.needs_calibration]
    return f"{wanting[0]} needs calibration samples, and there are none (give --data)" if wanting else None


def operators(question: Question) -> str | None:
    """A pass that would find nothing to do."""
    for step in question.passes:
        if step.operators and not step.operators.intersection(question.model.operators):
            return f"the network has no {' or '.join(sorted(step.operators))}, which is all that {step.name} compresses"
    return None


RULES = (
    Rule("source-format", "passes read ONNX alone", source_format),
    Rule("precision", "the profile's precisions and their source", precision),
    Rule("calibration", "the pass's own declaration", calibration),
    Rule("operators", "the pass's own declaration", operators),
)
