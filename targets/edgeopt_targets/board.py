"""What the built-in targets share: matching by the profile, settings for every runtime that is there, rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.passes._base import saturates
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.lowering import lowered
from edgeopt_targets.matching import fits
from edgeopt_targets.rules import device, executorch, network, onnx, tensorrt, tflite
from edgeopt_targets.rules._base import Rule, RuntimeRule, able_runtimes, ask, first_objection
from edgeopt_targets.runtimes import RUNTIMES

_BFLOAT16 = ("openvino",)
"""Runtimes that can be told to compute float networks in bfloat16 (1.4 to 2.0 times as fast, measured on AVX-512)."""

_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


class Board:
    """A target whose knowledge is its profiles and a list of rules."""

    name: ClassVar[str]
    device_rules: ClassVar[tuple[Rule, ...]] = (*device.RULES, *network.RULES)
    runtime_rules: ClassVar[tuple[RuntimeRule, ...]] = (
        *onnx.RULES,
        *tensorrt.RULES,
        *tflite.RULES,
        *executorch.RULES,
    )

    def matches(self, profile: Profile, facts: DeviceFacts) -> bool:
        """Whether machine, pointer size, ISA flags and clues fit."""
        return fits(profile, facts)

    def recipes(self, profile: Profile, facts: DeviceFacts) -> tuple[Recipe, ...]:
        """The profile's recipes; where `reduce_range` is left open, it is set for this CPU.

        Where a runtime of the device reads no newer versions of ONNX, results are lowered to those that it reads.

        Raises:
            PassError: A recipe names a pass that is not installed.
        """
        reduce = saturates(facts.machine, facts.isa)
        resolved = (
            replace(recipe, passes=tuple(_resolved(spec, reduce) for spec in recipe.passes))
            for recipe in profile.recipes
        )
        return tuple(lowered(recipe, profile, facts) for recipe in resolved)

    def rules(self, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> str | None:
        """The first reason against `recipe` with the rule's name and source, or ``None``.

        Raises:
            PassError: The recipe names a pass that is not installed, or gives it bad options.
        """
        return first_objection(ask(profile, facts, model, recipe), self.device_rules, self.runtime_rules)

    def runtimes(self, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> tuple[str, ...]:
        """Engines of the device that may run what `recipe` makes, in the profile's order; none where `rules` object.

        Raises:
            PassError: The recipe names a pass that is not installed, or gives it bad options.
        """
        return able_runtimes(ask(profile, facts, model, recipe), self.device_rules, self.runtime_rules)

    def settings(self, profile: Profile, facts: DeviceFacts) -> tuple[Settings, ...]:
        """For each runtime of the profile that the device has: every thread count and number of sessions it bears."""
        present = [name for name in profile.runtimes if facts.runtime(name)] or [profile.runtimes[0]]
        return tuple(one for name in present for one in _of_runtime(name, profile, facts))

    def variations(self, profile: Profile, settings: Settings) -> tuple[Settings, ...]:
        """The same settings at the profile's other graph-optimisation levels, and with its other inter-op threads."""
        known = RUNTIMES.get(settings.runtime)
        if known is not None and not known.optimises:
            return ()
        levels = [level for level in profile.graph_optimisation if level != settings.graph_optimisation]
        others = [count for count in dict.fromkeys(profile.inter_op) if count != settings.inter_op]
        changed = [replace(settings, graph_optimisation=level) for level in levels]
        return tuple(changed + [replace(settings, inter_op=count) for count in others])


def _of_runtime(runtime: str, profile: Profile, facts: DeviceFacts) -> Iterator[Settings]:
    cores = {"physical": facts.cores_physical or facts.cores_logical, "logical": facts.cores_logical}
    counts = [cores[threads] if isinstance(threads, str) else threads for threads in profile.threads]
    usable = [count for count in counts if 1 <= count <= max(1, facts.cores_logical)]
    precisions = ("", "bfloat16") if runtime in _BFLOAT16 and not _BFLOAT16_FLAGS.isdisjoint(facts.isa) else ("",)
    level = profile.graph_optimisation[0]
    for precision in precisions:
        for sessions in dict.fromkeys((1, *profile.sessions)):
            for count in dict.fromkeys(usable or [1]):
                one = Settings(runtime, count, level, sessions=sessions, precision=precision)
                if sessions == 1 or one.busy_threads <= facts.cores_logical:
                    yield one


def _resolved(spec: PassSpec, reduce_range: bool) -> PassSpec:
    if spec.name not in ("quantise_static", "quantise_dynamic") or spec.options.get("reduce_range", "auto") != "auto":
        return spec
    reduce = reduce_range and spec.options.get("weights", "int8") == "int8"
    return replace(spec, options={**spec.options, "reduce_range": reduce})
