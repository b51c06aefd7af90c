"""What each rule refuses and what it lets through, on boards as they are."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from edgeopt.core.device import PackageFacts
from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt_targets import registry
from edgeopt_targets._base import ModelFacts
from edgeopt_targets.profile_files import find_profile, load_profiles
from edgeopt_targets.rules import tflite
from edgeopt_targets.rules._base import Question
from support.boards import board_facts

CNN = ModelFacts(opset=17, ir_version=8, operators={"Conv": 20, "Relu": 17, "Gemm": 1}, size_bytes=14 << 20)
OLD = ModelFacts(opset=11, ir_version=6, operators={"Conv": 20, "MatMul": 1})


def recipe(name, precision="float32", **options):
    return Recipe(name, (PassSpec(name, options),), precision)


SIGNED = recipe("quantise_static", "int8", activations="int8")
UNSIGNED = recipe("quantise_static", "int8")
HALF = recipe("cast_half", "float16")


def verdict(profile_name, facts, recipe=BASELINE, model=CNN):
    profile = find_profile(profile_name)
    return registry.target(profile.target).rules(profile, facts, model, recipe)


def jetson(**runtimes):
    return board_facts("NVIDIA Jetson", runtimes=runtimes)


@pytest.mark.parametrize(
    ("profile", "facts", "recipe", "model", "reason", "rule"),
    [
        ("raspberry-pi-4", board_facts(machine="armv7l"), BASELINE, CNN, "the device is armv7l", "machine"),
        ("raspberry-pi-4", board_facts(bits=32), BASELINE, CNN, "userland is 32-bit", "machine"),
        (
            "raspberry-pi-4",
            board_facts(runtimes={}, python="3.9.2", libc="glibc 2.31"),
            BASELINE,
            CNN,
            "(edgeopt device provision installs onnxruntime 1.19.2)",
            "runtime-absent",
        ),
        (
            "raspberry-pi-32bit",
            board_facts(runtimes={}, bits=32),
            BASELINE,
            CNN,
            "no wheel of them for Python 3.11.2 with glibc 2.36 on armv7l; there is one of tflite_runtime",
            "runtime-absent",
        ),
        (
            "raspberry-pi-4",
            board_facts(runtimes={"onnxruntime": "1.21.0"}),
            BASELINE,
            CNN,
            "illegal instruction on Cortex-A53 and A72",
            "denied-wheel",
        ),
        (
            "raspberry-pi-4",
            board_facts(runtimes={}, packages=(PackageFacts("onnxruntime", "1.21.0"),)),
            BASELINE,
            CNN,
            "onnxruntime 1.21.0 on the device dies",
            "denied-wheel",
        ),
        (
            "raspberry-pi-zero-2w",
            board_facts(memory_bytes=430 << 20),
            BASELINE,
            replace(CNN, size_bytes=400 << 20),
            "needs about 600 MiB of memory, the device has 430 MiB",
            "memory",
        ),
        (
            "armv7",
            board_facts(bits=32, memory_bytes=8 << 30),
            BASELINE,
            replace(CNN, size_bytes=1700 << 20),
            "a 32-bit process has room for 3072 MiB, loading takes about 3400 MiB",
            "address-space",
        ),
        (
            "jetson-nano",
            jetson(onnxruntime="1.10.0"),
            BASELINE,
            CNN,
            "reads opsets up to 15; the network has 17 (export it again with opset 15 or lower)",
            "onnx-version",
        ),
        (
            "jetson-orin-nano",
            jetson(onnxruntime="1.16.3"),
            recipe("quantise_weights", "int4", bits=2),
            OLD,
            "cannot run 2-bit weight-only layers",
            "weight-bits",
        ),
        (
            "jetson-nano",
            jetson(tensorrt="8.2.1"),
            SIGNED,
            OLD,
            "Maxwell, 128 cores (compute capability 5.3) has no int8",
            "gpu-precision",
        ),
        ("jetson-tx2", jetson(tensorrt="8.2.1"), SIGNED, OLD, "(compute capability 6.2) has no int8", "gpu-precision"),
        (
            "jetson-nano",
            jetson(tensorrt="7.1.3"),
            BASELINE,
            CNN,
            "TensorRT 7.1.3 on the device reads opsets up to 11",
            "tensorrt-opset",
        ),
        ("jetson-xavier-nx", jetson(tensorrt="8.5.2"), BASELINE, replace(CNN, opset=20), "up to 17", "tensorrt-opset"),
        (
            "jetson-agx-orin",
            jetson(tensorrt="10.3.0"),
            recipe("quantise_dynamic", "int8"),
            OLD,
            "MatMulInteger",
            "tensorrt-operators",
        ),
        (
            "jetson-agx-orin",
            jetson(tensorrt="10.3.0"),
            recipe("quantise_weights", "int4", bits=4),
            OLD,
            "MatMulNBits",
            "tensorrt-operators",
        ),
        (
            "jetson-agx-orin",
            jetson(tensorrt="10.3.0"),
            recipe("optimise_graph", level="extended"),
            CNN,
            "fused",
            "tensorrt-operators",
        ),
        ("jetson-agx-orin", jetson(tensorrt="10.3.0"), UNSIGNED, CNN, "int8 around zero only", "tensorrt-symmetric"),
        (
            "jetson-xavier-nx",
            jetson(tensorrt="8.5.2"),
            recipe("simplify", "int4"),
            OLD,
            "no 4-bit weights",
            "tensorrt-int4",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_rule_and_source(profile, facts, recipe, model, reason, rule):
    said = verdict(profile, facts, recipe, model)
    assert reason in (said or "")
    assert f"[rule {rule}: " in said
    assert said.endswith("]")


@pytest.mark.parametrize(
    ("profile", "facts", "recipe", "model"),
    [
        ("raspberry-pi-4", board_facts(), UNSIGNED, CNN),
        ("raspberry-pi-4", board_facts(), SIGNED, CNN),
        ("raspberry-pi-5", board_facts(cpu="Cortex-A76", runtimes={"onnxruntime": "1.21.0"}), BASELINE, CNN),
        ("raspberry-pi-4", board_facts(runtimes={"onnxruntime": "1.21.1"}), BASELINE, CNN),
        ("raspberry-pi-zero-2w", board_facts(memory_bytes=430 << 20), BASELINE, CNN),
        ("raspberry-pi-zero-2w", board_facts(memory_bytes=430 << 20), UNSIGNED, replace(CNN, size_bytes=400 << 20)),
        ("raspberry-pi-32bit", board_facts(bits=32), BASELINE, CNN),
        ("jetson-nano", jetson(tensorrt="8.2.1"), HALF, OLD),
        ("jetson-xavier-nx", jetson(tensorrt="8.5.2"), SIGNED, CNN),
        ("jetson-agx-orin", jetson(tensorrt="10.3.0"), BASELINE, replace(CNN, opset=23)),
        ("jetson-agx-orin", jetson(tensorrt="10.3.0"), recipe("optimise_graph"), CNN),
        ("generic", board_facts(machine="riscv64"), UNSIGNED, CNN),
        ("generic", board_facts(machine="anything"), UNSIGNED, CNN),
    ],
)
def test_what_can_work_is_let_through(profile, facts, recipe, model):
    assert verdict(profile, facts, recipe, model) is None


def test_a_second_runtime_saves_what_the_first_cannot_run():
    facts, profile = jetson(tensorrt="8.2.1", onnxruntime="1.19.2"), find_profile("jetson-nano")
    target = registry.target("jetson")
    assert target.rules(profile, facts, CNN, SIGNED) is None
    assert target.runtimes(profile, facts, CNN, SIGNED) == ("onnxruntime",)
    assert target.runtimes(profile, facts, OLD, HALF) == ("tensorrt", "onnxruntime")


def test_settings_range_over_every_runtime_that_is_there():
    profile = find_profile("raspberry-pi-4")
    target = registry.target("arm")
    facts = board_facts(runtimes={"ncnn": "1.0", "onnxruntime": "1.32.0", "unheard": "1"})
    found = target.settings(profile, facts)
    assert [(one.runtime, one.threads) for one in found] == [
        ("onnxruntime", 1),
        ("onnxruntime", 4),
        ("ncnn", 1),
        ("ncnn", 4),
    ]
    assert [len(target.variations(profile, one)) for one in found] == [1, 1, 0, 0]


@pytest.mark.parametrize(("isa", "precisions"), [((), [""]), (("avx512_bf16",), ["", "bfloat16"])])
def test_openvino_may_compute_in_bfloat16_where_the_cpu_can(isa, precisions):
    facts = board_facts(machine="x86_64", isa=isa, runtimes={"openvino": "2026.4.1"})
    found = registry.target("x86").settings(replace(find_profile("x86-64"), threads=(1,)), facts)
    assert [one.precision for one in found] == precisions


@dataclass(frozen=True)
class ToTflite:
    """Stands for a conversion, as the rules see it: what it writes, and its options."""

    options: SimpleNamespace
    name: str = "convert_litert"
    format: str = "tflite"


@pytest.mark.parametrize(
    ("precision", "option", "version", "operators", "reason"),
    [
        ("int4", "weights4", "2.14.0", {"Conv": 1}, "crashes on 4-bit weights"),
        ("int8", "weights4", "2.14.0", {"Conv": 1}, "crashes on 4-bit weights"),
        ("int8", "int8", "2.13.0", {"Conv": 1}, "does not load 8-bit files"),
        ("int8", "dynamic", "2.14.0", {"LSTM": 1}, "crashes on LSTM"),
        ("int8", "int8", "2.14.0", {"Conv": 1}, None),
        ("int8", "dynamic", "2.14.0", {"Conv": 1}, None),
    ],
)
def test_old_tflite_gets_no_file_that_it_crashes_on(precision, option, version, operators, reason):
    facts = board_facts(runtimes={"tflite_runtime": version})
    step = ToTflite(SimpleNamespace(precision=option))
    wanted = Recipe("litert", (), precision)
    question = Question(find_profile("armv7"), facts, replace(CNN, operators=operators), wanted, (step,))
    assert question.format == "tflite"
    assert [one.name for one in question.runtimes] == ["tflite_runtime"]
    said = [rule.objects(question, question.runtimes[0]) for rule in tflite.RULES]
    assert [one for one in said if one and reason and reason in one] or (reason is None and not any(said))


def test_a_recipe_for_files_that_no_runtime_of_the_profile_reads_says_so():
    assert "has no runtime for .pte files (executorch would read them)" in verdict(
        "armv7", board_facts(bits=32), BASELINE, replace(CNN, format="pte")
    )


def test_executorch_is_not_tried_where_torch_would_fill_the_memory():
    made = recipe("convert_executorch")
    for mebibytes, refused in ((480, True), (920, False), (7900, False)):
        facts = board_facts(runtimes={"executorch": "1.5.1"}, memory_bytes=mebibytes << 20)
        found = str(verdict("aarch64", facts, made))
        assert ("executorch-memory" in found and "torch" in found) == refused, found


def test_every_rule_has_a_name_of_its_own_and_a_source():
    kinds = {type(registry.target(profile.target)) for profile in load_profiles()}
    for kind in kinds:
        rules = [*kind.device_rules, *kind.runtime_rules]
        assert len({rule.name for rule in rules}) == len(rules)
        assert all(len(rule.source) > 10 and rule.objects.__doc__ for rule in rules)
