"""Appends to recipes what writes their results in versions that the device's runtimes read."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.core.device import DeviceFacts
from edgeopt.core.formats import ONNX
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.passes.registry import pass_class
from edgeopt_targets.onnxruntime_versions import reads
from edgeopt_targets.rules._base import LOWERING
from edgeopt_targets.tensorrt_versions import largest_opset

_LEAST_OPSET = 13
"""Nothing is lowered further: 8 bits need it. A runtime that reads less is left to its rules."""


def lowered(recipe: Recipe, profile: Profile, facts: DeviceFacts) -> Recipe:
    """The recipe with `lower_version` at its end where a runtime of the device is known to have limits.

    A recipe that ends in another format than ONNX, or lowers by itself, stays as it is.

    Raises:
        PassError: It names a pass that is not installed.
    """
    limits = _limits(profile, facts)
    if not limits or any(spec.name == LOWERING or _format(spec) != ONNX for spec in recipe.passes):
        return recipe
    return replace(recipe, passes=(*recipe.passes, PassSpec(LOWERING, limits)))


def _limits(profile: Profile, facts: DeviceFacts) -> dict[str, int]:
    """What all runtimes of the device that read ONNX can read; empty where none is known to be limited."""
    opsets, ir_versions = [], []
    for runtime in facts.runtimes:
        if runtime.name not in profile.runtimes:
            continue
        if runtime.name == "onnxruntime" and (known := reads(runtime.version)):
            opsets.append(known[0])
            ir_versions.append(known[1])
        elif runtime.name == "tensorrt":
            opsets.append(largest_opset(runtime.version))
    opsets = [opset for opset in opsets if opset >= _LEAST_OPSET]
    found = {"opset": min(opsets, default=0), "ir_version": min(ir_versions, default=0)}
    return {name: version for name, version in found.items() if version}


def _format(spec: PassSpec) -> str:
    return str(getattr(pass_class(spec.name), "format", ONNX))
