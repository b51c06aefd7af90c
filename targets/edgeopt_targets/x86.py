"""x86 computers with ONNX Runtime.

What decides there is whether the CPU has VNNI. With it, uint8 × int8 accumulates in 32 bits. Without it, pairs of
products are added in 16 bits with saturation, so weights get 7 bits (`reduce_range`). On a Zen 3 (AVX2), one thread,
against float in ONNX Runtime 1.32: uint8 × int8 with 7-bit weights 1.7× (ResNet-18) and 1.5× (MobileNetV2), uint8 ×
uint8 1.2× and 1.0×, int8 activations 1.0×. Hence uint8 × int8 with 7-bit weights is the default, and int8 activations
are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from edgeopt.core.device import DeviceFacts, RuntimeFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.passes._base import WIDELY_READ_IR, Pass, saturates
from edgeopt.passes.registry import load_pass
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.onnxruntime_versions import EIGHT_BIT_WEIGHTS, parse, too_new

MACHINES = frozenset({"x86_64", "AMD64"})


class X86:
    """The target of the ``x86-*`` profiles."""

    name: ClassVar[str] = "x86"

    def matches(self, profile: Profile, facts: DeviceFacts) -> bool:
        """Whether machine and ISA flags fit."""
        isa = set(facts.isa)
        return (
            facts.machine in profile.machine
            and isa.issuperset(profile.isa_all)
            and (not profile.isa_any or not isa.isdisjoint(profile.isa_any))
            and isa.isdisjoint(profile.isa_none)
        )

    def recipes(self, profile: Profile, facts: DeviceFacts) -> tuple[Recipe, ...]:
        """The profile's recipes; where `reduce_range` is left open, it is set for this CPU."""
        reduce = saturates(facts.machine, facts.isa)
        return tuple(
            replace(recipe, passes=tuple(_resolved(spec, reduce) for spec in recipe.passes))
            for recipe in profile.recipes
        )

    def rules(self, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> str | None:
        """The first reason against `recipe`, or ``None``.

        Raises:
            PassError: The recipe names a pass that is not installed, or gives it bad options.
        """
        return next(_objections(profile, facts, model, recipe), None)

    def settings(self, profile: Profile, facts: DeviceFacts) -> tuple[Settings, ...]:
        """One for each thread count and number of sessions of the profile that its CPUs bear, at its first level."""
        cores = {"physical": facts.cores_physical or facts.cores_logical, "logical": facts.cores_logical}
        counts = [cores[threads] if isinstance(threads, str) else threads for threads in profile.threads]
        usable = [count for count in counts if 1 <= count <= max(1, facts.cores_logical)]
        runtime = _runtime(profile, facts)
        offered = (
            Settings(
                runtime=runtime.name if runtime else profile.runtimes[0],
                threads=count,
                graph_optimisation=profile.graph_optimisation[0],
                sessions=sessions,
            )
            for sessions in dict.fromkeys((1, *profile.sessions))
            for count in dict.fromkeys(usable or [1])
        )
        return tuple(one for one in offered if one.sessions == 1 or one.busy_threads <= facts.cores_logical)

    def variations(self, profile: Profile, settings: Settings) -> tuple[Settings, ...]:
        """The same settings at the profile's other graph-optimisation levels, and with its other inter-op threads."""
        levels = [level for level in profile.graph_optimisation if level != settings.graph_optimisation]
        others = [count for count in dict.fromkeys(profile.inter_op) if count != settings.inter_op]
        changed = [replace(settings, graph_optimisation=level) for level in levels]
        return tuple(changed + [replace(settings, inter_op=count) for count in others])


def _resolved(spec: PassSpec, reduce_range: bool) -> PassSpec:
    if spec.name not in ("quantise_static", "quantise_dynamic") or spec.options.get("reduce_range", "auto") != "auto":
        return spec
    reduce = reduce_range and spec.options.get("weights", "int8") == "int8"
    return replace(spec, options={**spec.options, "reduce_range": reduce})


def _runtime(profile: Profile, facts: DeviceFacts) -> RuntimeFacts | None:
    """The first of the profile's runtimes that the device has."""
    return next((found for found in map(facts.runtime, profile.runtimes) if found), None)


def _objections(profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> Iterator[str]:
    if facts.machine not in MACHINES:
        yield f"the device is {facts.machine}, not x86-64"
    runtime = _runtime(profile, facts)
    if runtime is None:
        yield f"the device has none of {', '.join(profile.runtimes)} (edgeopt device provision installs one)"
    else:
        # passes lower the IR version of what they write, where that is exact
        ir_version = min(model.ir_version, WIDELY_READ_IR) if recipe.passes else model.ir_version
        if reason := too_new(runtime.version, model.opset, ir_version):
            yield reason
    if recipe.precision not in profile.precisions:
        yield f"profile {profile.name} has no use for {recipe.precision} (it lists {', '.join(profile.precisions)})"
    for spec in recipe.passes:
        yield from _objections_to_pass(load_pass(spec), facts, model, runtime)


def _objections_to_pass(
    step: Pass, facts: DeviceFacts, model: ModelFacts, runtime: RuntimeFacts | None
) -> Iterator[str]:
    if step.needs_calibration and not model.calibrated:
        yield f"{step.name} needs calibration samples, and there are none (give --data)"
    if step.operators and not step.operators.intersection(model.operators):
        yield f"the network has no {' or '.join(sorted(step.operators))}, which is all that {step.name} compresses"
    options: Any = step.options
    if step.name == "quantise_static":
        if options.activations == "int8":
            yield "int8 activations are slower than float on x86, whose 8-bit product is unsigned × signed"
        if options.weights == "int8" and options.reduce_range is False and saturates(facts.machine, facts.isa):
            yield "this CPU has no VNNI: 8-bit weights saturate in 16 bits there (leave reduce_range open)"
    if step.name == "quantise_weights" and options.bits == 8 and runtime and parse(runtime.version) < EIGHT_BIT_WEIGHTS:
        yield f"onnxruntime {runtime.version} on the device cannot run 8-bit weight-only layers (1.20 or later can)"
