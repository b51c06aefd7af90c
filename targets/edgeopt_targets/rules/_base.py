"""What a rule is, and how the rules of a target come to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeopt.core.device import DeviceFacts, RuntimeFacts
from edgeopt.core.formats import ONNX, reads
from edgeopt.core.profile import Profile
from edgeopt.core.recipe import Recipe
from edgeopt.passes._base import WIDELY_READ_IR, Pass, format_of
from edgeopt.passes.registry import load_pass
from edgeopt_targets._base import ModelFacts

LOWERING = "lower_version"
"""The pass that writes a network in an older operator set and IR version."""


@dataclass(frozen=True)
class Question:
    """May this recipe be tried for this network on this device?

    Attributes:
        profile: The device's profile.
        facts: The device.
        model: The network.
        recipe: What is to be done to it.
        passes: The recipe's passes, built.
    """

    profile: Profile
    facts: DeviceFacts
    model: ModelFacts
    recipe: Recipe
    passes: tuple[Pass, ...]

    @property
    def format(self) -> str:
        """Format of the file that the recipe ends in: that of its conversion, if it has one, else the network's."""
        written = [format_of(step) for step in self.passes]
        return next((one for one in written if one != ONNX), self.model.format)

    @property
    def opset(self) -> int:
        """Operator set of that file: the network's, or lower where a pass lowers it."""
        lowered: list[int] = [step.options.opset for step in self.passes if step.name == LOWERING]
        return min([self.model.opset, *filter(None, lowered)])

    @property
    def ir_version(self) -> int:
        """IR version of that file; every pass lowers it to one that is widely read, where that is exact."""
        lowered: list[int] = [step.options.ir_version for step in self.passes if step.name == LOWERING]
        lowered += [WIDELY_READ_IR] if self.passes else []
        return min([self.model.ir_version, *filter(None, lowered)])

    @property
    def runtimes(self) -> tuple[RuntimeFacts, ...]:
        """Runtimes of the profile that the device has and that read such files, in the profile's order."""
        found = map(self.facts.runtime, (name for name in self.profile.runtimes if reads(name, self.format)))
        return tuple(one for one in found if one)


@dataclass(frozen=True)
class Rule:
    """One reason why something cannot work.

    Attributes:
        name: For messages and for looking it up.
        source: Where that is known from.
        objects: The reason in words that end without a full stop, or ``None``.
    """

    name: str
    source: str
    objects: Callable[[Question], str | None]

    def verdict(self, reason: str) -> str:
        """The sentence for the user."""
        return f"{reason} [rule {self.name}: {self.source}]"


@dataclass(frozen=True)
class RuntimeRule:
    """One reason why a runtime that the device has cannot run what a recipe makes; `objects` gets that runtime too."""

    name: str
    source: str
    objects: Callable[[Question, RuntimeFacts], str | None]

    def verdict(self, reason: str) -> str:
        """The sentence for the user."""
        return f"{reason} [rule {self.name}: {self.source}]"


def ask(profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> Question:
    """The question, with the recipe's passes built.

    Raises:
        PassError: The recipe names a pass that is not installed, or gives it bad options.
    """
    return Question(profile, facts, model, recipe, tuple(load_pass(spec) for spec in recipe.passes))


def first_objection(question: Question, rules: Iterable[Rule], of_runtimes: Iterable[RuntimeRule]) -> str | None:
    """The first reason against a recipe, or ``None``.

    A runtime's rules count when no other runtime of the device can run the recipe's file either; the reason is then
    that of the profile's first.
    """
    for rule in rules:
        if reason := rule.objects(question):
            return rule.verdict(reason)
    rows = tuple(of_runtimes)
    verdicts = [_against(question, runtime, rows) for runtime in question.runtimes]
    return verdicts[0] if verdicts and all(verdicts) else None


def able_runtimes(question: Question, rules: Iterable[Rule], of_runtimes: Iterable[RuntimeRule]) -> tuple[str, ...]:
    """Names of the device's runtimes that no rule keeps from running what the recipe makes."""
    if any(rule.objects(question) for rule in rules):
        return ()
    rows = tuple(of_runtimes)
    return tuple(runtime.name for runtime in question.runtimes if not _against(question, runtime, rows))


def _against(question: Question, runtime: RuntimeFacts, rules: Iterable[RuntimeRule]) -> str | None:
    for rule in rules:
        if reason := rule.objects(question, runtime):
            return rule.verdict(reason)
    return None
