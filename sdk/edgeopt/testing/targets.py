"""Conformance suite for authors of targets: what every target must do, checked on a device and a network.

In a test of your package::

    import pytest
    from edgeopt.testing.targets import CHECKS, Case

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_target_conforms(check):
        check(Case(MyTarget(), profile, facts, model))
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt.errors import PassError
from edgeopt.passes.registry import load_pass
from edgeopt_targets._base import ModelFacts, Target

LONGEST_SENTENCE = 300


@dataclass(frozen=True)
class Case:
    """A target with something to ask it about.

    Attributes:
        target: The target.
        profile: A profile that it serves.
        facts: A device that the profile fits, with one of its runtimes.
        model: A network that the device can run as it is, with calibration samples.
    """

    target: Target
    profile: Profile
    facts: DeviceFacts
    model: ModelFacts

    def recipes(self) -> tuple[Recipe, ...]:
        """What the target makes of the profile's recipes for the device."""
        return self.target.recipes(self.profile, self.facts)

    def objection(self, recipe: Recipe, **changes: Any) -> str | None:
        """What the rules say about a recipe, on the device with some of its facts changed."""
        return self.target.rules(self.profile, replace(self.facts, **changes), self.model, recipe)


def check_declares_itself(case: Case) -> None:
    """The target bears the name that profiles call it by, and says what it knows."""
    assert case.target.name == case.profile.target, f"it is {case.target.name!r}, the profile {case.profile.target!r}"
    assert type(case.target).__doc__, "the target has no docstring"


def check_matches_its_devices(case: Case) -> None:
    """The device fits its profile, and a machine that the profile does not name does not, if it names any."""
    assert case.target.matches(case.profile, case.facts) is True, "the device of the case does not match"
    other = replace(case.facts, machine="no_such_machine")
    matched = case.target.matches(case.profile, other)
    assert matched is not bool(case.profile.machine), "a machine that the profile does not name matches"


def check_keeps_the_profiles_recipes(case: Case) -> None:
    """The profile's recipes come back in order, under their names, and nothing is left open in them."""
    made = case.recipes()
    names = [recipe.name for recipe in case.profile.recipes]
    assert [recipe.name for recipe in made] == names, f"recipes are {[recipe.name for recipe in made]}, not {names}"
    again = case.target.recipes(replace(case.profile, recipes=made), case.facts)
    assert again == made, "recipes that were written out for the device change when they are asked for again"


def check_passes_load(case: Case) -> None:
    """Every pass of every recipe is installed and takes its options."""
    for recipe in case.recipes():
        for spec in recipe.passes:
            load_pass(spec)


def check_rules_are_sentences(case: Case) -> None:
    """Rules give ``None`` or one sentence, and have nothing against the unmodified model where it can run."""
    for recipe in (BASELINE, *case.recipes()):
        reason = case.objection(recipe)
        assert reason is None or _is_sentence(reason), f"rules say {reason!r} about {recipe.name}"
    assert case.objection(BASELINE) is None, f"the original is refused: {case.objection(BASELINE)}"


def check_rules_refuse(case: Case) -> None:
    """Without a runtime nothing can work, a precision that the profile does not list is out; bad passes are errors."""
    for recipe in (BASELINE, *case.recipes()):
        reason = case.objection(recipe, runtimes=())
        assert _is_sentence(reason), f"{recipe.name} may run on a device without a runtime ({reason!r})"
    assert _is_sentence(case.objection(Recipe("odd", precision="no_such_precision"))), "any precision is accepted"
    try:
        reason = case.objection(Recipe("odd", (PassSpec("no_such_pass"),)))
    except PassError:
        return
    raise AssertionError(f"a pass that is not installed is no PassError (rules say {reason!r})")


def check_runtimes_agree_with_rules(case: Case) -> None:
    """There is a runtime for a recipe exactly where the rules have nothing against it, and the device has it."""
    for recipe in (BASELINE, *case.recipes()):
        able = case.target.runtimes(case.profile, case.facts, case.model, recipe)
        refused = case.objection(recipe)
        assert bool(able) is (refused is None), f"{recipe.name}: runtimes {able}, rules say {refused!r}"
        assert all(case.facts.runtime(name) for name in able), f"{recipe.name}: the device lacks one of {able}"
        without = case.target.runtimes(case.profile, replace(case.facts, runtimes=()), case.model, recipe)
        assert without == (), f"{recipe.name}: a device without a runtime has {without}"


def check_settings_fit_the_device(case: Case) -> None:
    """Settings are there, differ, name what the profile and the device have, and ask for no more than its CPUs."""
    single, unknown = replace(case.facts, cores_logical=1, cores_physical=1), replace(case.facts, cores_physical=0)
    for facts in (case.facts, single, unknown):
        found = case.target.settings(case.profile, facts)
        assert found, f"there are no settings to try with {facts.cores_logical} CPUs"
        assert len(set(found)) == len(found), f"settings are there twice: {found}"
        for one in found:
            _check_settings(case, facts, one)


def check_variations_are_others(case: Case) -> None:
    """Variations differ from the settings and from one another, and are settings that fit the device too."""
    for one in case.target.settings(case.profile, case.facts):
        found = case.target.variations(case.profile, one)
        assert len({one, *found}) == len(found) + 1, f"variations of {one} repeat one: {found}"
        for variation in found:
            _check_settings(case, case.facts, variation)


def check_is_pure(case: Case) -> None:
    """Same arguments, same answers, also of a new instance; arguments stay as they are, no file or socket is opened."""
    kept = copy.deepcopy((case.profile, case.facts, case.model))
    first = _answers(case)
    with mock.patch("builtins.open", _refuse_to_open), mock.patch("socket.socket", _refuse_to_open):
        assert _answers(case) == first, "the second time the answers are others"
        assert _answers(replace(case, target=type(case.target)())) == first, "another instance answers otherwise"
    assert (case.profile, case.facts, case.model) == kept, "it changed what it was given"


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_declares_itself,
    check_matches_its_devices,
    check_keeps_the_profiles_recipes,
    check_passes_load,
    check_rules_are_sentences,
    check_rules_refuse,
    check_runtimes_agree_with_rules,
    check_settings_fit_the_device,
    check_variations_are_others,
    check_is_pure,
)
"""All checks; each takes a `Case` and raises AssertionError, or the PassError that a recipe deserves."""


def _is_sentence(reason: Any) -> bool:
    """Whether it can stand in a table: text on one line, neither blank nor endless."""
    return isinstance(reason, str) and reason.isprintable() and 0 < len(reason.strip()) <= LONGEST_SENTENCE


def _check_settings(case: Case, facts: DeviceFacts, settings: Settings) -> None:
    cpus = max(1, facts.cores_logical)
    assert 1 <= settings.threads <= cpus, f"{settings} on a device with {cpus} CPUs"
    assert settings.runtime in case.profile.runtimes, f"the profile has no runtime {settings.runtime!r}"
    assert facts.runtime(settings.runtime), f"the device has no {settings.runtime}"
    assert settings.graph_optimisation in case.profile.graph_optimisation, f"level {settings.graph_optimisation!r}"


def _answers(case: Case) -> tuple[object, ...]:
    recipes, settings = case.recipes(), case.target.settings(case.profile, case.facts)
    return (
        case.target.matches(case.profile, case.facts),
        recipes,
        tuple(case.objection(recipe) for recipe in recipes),
        settings,
        tuple(case.target.variations(case.profile, one) for one in settings),
    )


def _refuse_to_open(*arguments: object, **_: object) -> None:
    raise AssertionError(f"a target opens nothing, this one tried {arguments[:1]}")
