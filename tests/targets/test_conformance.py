"""The built-in targets against the published conformance suite, and the suite against targets that are wrong."""

from dataclasses import replace

import pytest

from edgeopt.core.profile import Settings
from edgeopt.core.recipe import PassSpec
from edgeopt.testing.targets import CHECKS, Case
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.profile_files import find_profile, load_profiles
from edgeopt_targets.x86 import X86
from support.boards import facts_for

MODEL = ModelFacts(opset=20, ir_version=10, operators={"Conv": 20, "MatMul": 3, "Gemm": 1})


def case_of(name, target=None):
    """A profile with the smallest device that fits it."""
    profile = find_profile(name)
    return Case(target or registry.target(profile.target), profile, facts_for(profile), MODEL)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [profile.name for profile in load_profiles()])
def test_built_in_target_conforms(check, name):
    check(case_of(name))


def test_every_target_has_a_profile_under_conformance():
    assert {profile.target for profile in load_profiles()} == set(registry.target_names())


class Anything(X86):
    """Matches whatever it is asked about."""

    def matches(self, profile, facts):
        return True


class Renames(X86):
    """Calls a recipe otherwise."""

    def recipes(self, profile, facts):
        return tuple(replace(recipe, name=recipe.name.upper()) for recipe in super().recipes(profile, facts))


class Piles(X86):
    """Adds a pass each time it is asked."""

    def recipes(self, profile, facts):
        extra = (PassSpec("simplify"),)
        return tuple(replace(recipe, passes=recipe.passes + extra) for recipe in super().recipes(profile, facts))


class Mumbles(X86):
    """Gives a reason that is none."""

    def rules(self, profile, facts, model, recipe):
        super().rules(profile, facts, model, recipe)
        return "" if recipe.passes else None


class Permits(X86):
    """Has nothing against anything."""

    def rules(self, profile, facts, model, recipe):
        return None


class Boasts(X86):
    """Runs everything, whatever its rules say."""

    def runtimes(self, profile, facts, model, recipe):
        return ("onnxruntime",)


class Greedy(X86):
    """Takes eight threads everywhere."""

    def settings(self, profile, facts):
        return (Settings(threads=8),)


class Repeats(X86):
    """Varies nothing."""

    def variations(self, profile, settings):
        return (settings,)


class Counts(X86):
    """Answers by how often it was asked."""

    asked = 0

    def settings(self, profile, facts):
        type(self).asked += 1
        return super().settings(profile, facts)[self.asked % 2 :]


class Reads(X86):
    """Looks at the machine it runs on."""

    def settings(self, profile, facts):
        with open("/proc/cpuinfo"):
            return super().settings(profile, facts)


@pytest.mark.parametrize(
    ("target", "check", "message"),
    [
        (Anything, "check_matches_its_devices", "does not name matches"),
        (Renames, "check_keeps_the_profiles_recipes", "OPTIMISED"),
        (Piles, "check_keeps_the_profiles_recipes", "asked for again"),
        (Mumbles, "check_rules_are_sentences", "rules say ''"),
        (Permits, "check_rules_refuse", "without a runtime"),
        (Boasts, "check_runtimes_agree_with_rules", "a device without a runtime has"),
        (Greedy, "check_settings_fit_the_device", "8 threads on a device with 4 CPUs"),
        (Repeats, "check_variations_are_others", "repeat one"),
        (Counts, "check_is_pure", "answers"),
        (Reads, "check_is_pure", "opens nothing"),
    ],
)
def test_the_suite_finds_what_is_wrong(target, check, message):
    (found,) = (one for one in CHECKS if one.__name__ == check)
    with pytest.raises(AssertionError, match=message):
        found(case_of("x86-avx2", target()))


def test_the_suite_finds_a_recipe_whose_pass_has_bad_options():
    profile = find_profile("x86-avx2")
    recipe = replace(profile.recipes[0], passes=(PassSpec("simplify", {"no_such_option": 1}),))
    case = replace(case_of("x86-avx2"), profile=replace(profile, recipes=(recipe,)))
    (check,) = (one for one in CHECKS if one.__name__ == "check_passes_load")
    with pytest.raises(Exception, match="no_such_option"):
        check(case)
