from dataclasses import replace

import pytest

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.onnxruntime_versions import too_new
from edgeopt_targets.profile_files import find_profile
from support.x86 import AVX2, x86_facts

CNN = ModelFacts(opset=20, ir_version=10, operators={"Conv": 20, "Relu": 17, "Gemm": 1})
LSTM = ModelFacts(opset=20, ir_version=10, operators={"LSTM": 2})
X86 = registry.target("x86")
PROFILE = find_profile("x86-avx2")


def static(**options):
    return Recipe("int8", (PassSpec("quantise_static", options),), "int8")


def objection(recipe, model=CNN, facts=None, profile=PROFILE):
    return X86.rules(profile, facts or x86_facts(), model, recipe)


def test_every_resolved_recipe_of_the_profile_may_run_on_a_network_with_all_kinds_of_layers():
    model = ModelFacts(20, 10, {"Conv": 1, "MatMul": 1, "Gemm": 1})
    recipes = X86.recipes(PROFILE, x86_facts())
    assert [objection(recipe, model) for recipe in recipes[:9]] == [None] * 9
    for converted in recipes[9:]:  # files of a runtime that this device has not got
        assert "has none of openvino, litert" in str(objection(converted, model))


@pytest.mark.parametrize(
    ("recipe", "model", "facts", "reason"),
    [
        (static(), CNN, x86_facts(machine="aarch64"), "the device is aarch64"),
        (static(), CNN, x86_facts(onnxruntime=None), "has none of onnxruntime"),
        (
            static(),
            ModelFacts(22, 10, {"Conv": 1}),
            x86_facts(onnxruntime="1.19.2"),
            "opsets up to 21; the network has 22",
        ),
        (Recipe("original"), ModelFacts(17, 10, {}), x86_facts(onnxruntime="1.16.3"), "IR versions up to 9"),
        (static(), ModelFacts(20, 10, {"Conv": 1}, calibrated=False), None, "needs calibration samples"),
        (static(), LSTM, None, "has no Conv or ConvTranspose or Gemm or MatMul"),
        (static(activations="int8"), CNN, None, "slower than float on x86"),
        (static(reduce_range=False), CNN, None, "no VNNI"),
        (Recipe("b", (), "bfloat16"), CNN, None, "no use for bfloat16"),
        (
            Recipe("w", (PassSpec("quantise_weights", {"bits": 8}),), "int8"),
            CNN,
            x86_facts(onnxruntime="1.19.2"),
            "cannot run 8-bit weight-only layers",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(recipe, model, facts, reason):
    assert reason in (objection(recipe, model, facts) or "")


def test_a_refusal_names_its_rule_and_source():
    said = objection(static(), ModelFacts(22, 10, {"Conv": 1}), x86_facts(onnxruntime="1.19.2"))
    assert said.endswith("[rule onnx-version: onnxruntime.ai/docs/reference/compatibility.html]")


def test_eight_bit_weights_need_no_reduced_range_with_vnni():
    profile = find_profile("x86-avx512-vnni")
    assert objection(static(reduce_range=False), facts=x86_facts((*AVX2, "avx512_vnni")), profile=profile) is None


@pytest.mark.parametrize(("extra", "expected"), [((), True), (("avx_vnni",), False), (("avx512_vnni",), False)])
def test_open_reduce_range_is_written_out_for_the_cpu(extra, expected):
    recipes = X86.recipes(PROFILE, x86_facts((*AVX2, *extra)))
    found = {
        recipe.name: spec.options["reduce_range"]
        for recipe in recipes
        for spec in recipe.passes
        if spec.name == "quantise_static"
    }
    assert found["int8-minmax"] is expected
    assert found["int8-unsigned"] is False


def test_threads_are_those_of_the_device_without_doubles():
    assert [one.threads for one in X86.settings(PROFILE, x86_facts())] == [1, 2]
    assert [one.threads for one in X86.settings(PROFILE, x86_facts(cores_logical=1, cores_physical=1))] == [1]
    assert [one.threads for one in X86.settings(PROFILE, x86_facts(cores_logical=3, cores_physical=0))] == [1, 3]


def test_sessions_are_tried_where_every_one_has_its_cpus():
    profile = replace(PROFILE, sessions=(1, 2, 4))
    found = X86.settings(profile, x86_facts(cores_logical=4, cores_physical=2))
    assert [(one.threads, one.sessions) for one in found] == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4)]
    assert [one.sessions for one in X86.settings(profile, x86_facts(cores_logical=1, cores_physical=1))] == [1]


def test_inter_op_threads_are_for_finalists():
    profile = replace(PROFILE, inter_op=(1, 2), graph_optimisation=("all",))
    first = X86.settings(profile, x86_facts())[0]
    assert first.inter_op == 1
    assert [one.inter_op for one in X86.variations(profile, first)] == [2]


def test_variations_are_the_other_optimisation_levels():
    first = X86.settings(PROFILE, x86_facts())[0]
    assert [one.graph_optimisation for one in X86.variations(PROFILE, first)] == ["extended"]
    assert all(one.threads == first.threads for one in X86.variations(PROFILE, first))


@pytest.mark.parametrize(
    ("version", "opset", "ir_version", "fits"),
    [
        ("1.19.2", 21, 10, True),
        ("1.19.2", 20, 11, False),
        ("1.10.0", 15, 8, True),
        ("1.10.0", 16, 8, False),
        ("1.5.2", 13, 7, True),
        ("1.5.2", 14, 7, False),
        ("1.32.0", 28, 14, True),
        ("unknown", 28, 14, True),
    ],
)
def test_runtime_versions_read_what_their_release_notes_say(version, opset, ir_version, fits):
    assert (too_new(version, opset, ir_version) is None) is fits
