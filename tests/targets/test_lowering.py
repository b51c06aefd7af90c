"""Which recipes are lowered for which runtimes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.profile_files import find_profile
from support.boards import board_facts

NEW = ModelFacts(opset=24, ir_version=11, operators={"Conv": 20, "Gemm": 1})
RECIPE = Recipe("optimised", (PassSpec("simplify"),))


def last(profile_name: str, recipe: Recipe = RECIPE, **runtimes: str) -> dict[str, int]:
    """Options of the `lower_version` that a target appends; empty where it appends none."""
    profile = replace(find_profile(profile_name), recipes=(recipe,))
    (made,) = registry.target(profile.target).recipes(profile, board_facts(runtimes=runtimes))
    appended = [dict(spec.options) for spec in made.passes if spec.name == "lower_version"]
    assert len(appended) <= 1
    return appended[0] if appended else {}


@pytest.mark.parametrize(
    ("release", "options"),
    [
        ("1.10.0", {"opset": 15, "ir_version": 8}),
        ("1.19.2", {"opset": 21, "ir_version": 10}),
        ("1.23.2", {"opset": 23, "ir_version": 11}),
        ("1.28.0", {"opset": 26, "ir_version": 13}),
        ("1.32.0", {}),
        ("unknown", {}),
    ],
)
def test_recipes_end_in_what_the_devices_onnxruntime_reads(release: str, options: dict[str, int]) -> None:
    assert last("raspberry-pi-4", onnxruntime=release) == options
    assert last("raspberry-pi-4", BASELINE, onnxruntime=release) == options


def test_the_oldest_of_several_runtimes_decides_as_far_as_8_bits_go() -> None:
    assert last("jetson-agx-xavier", onnxruntime="1.19.2", tensorrt="8.5.2") == {"opset": 17, "ir_version": 10}
    assert last("jetson-nano", onnxruntime="1.10.0", tensorrt="7.1.3") == {"opset": 15, "ir_version": 8}
    assert last("jetson-orin-nano", tensorrt="10.3.0") == {}


def test_what_ends_in_another_format_is_left_alone() -> None:
    converted = Recipe("litert", (PassSpec("simplify"), PassSpec("convert_litert")))
    assert last("raspberry-pi-4", converted, onnxruntime="1.19.2") == {}


def test_the_rules_let_through_what_is_lowered_and_refuse_the_rest() -> None:
    profile = find_profile("raspberry-pi-4")
    target, facts = registry.target(profile.target), board_facts(runtimes={"onnxruntime": "1.19.2"})
    (original,) = target.recipes(replace(profile, recipes=(BASELINE,)), facts)
    refused = target.rules(profile, facts, NEW, BASELINE)
    assert refused is not None
    assert "opsets up to 21; the network has 24" in refused
    assert target.rules(profile, facts, NEW, original) is None
    assert target.runtimes(profile, facts, NEW, original) == ("onnxruntime",)
