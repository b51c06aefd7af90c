"""Which runtimes a device is given, and what it is told where it cannot have one."""

from __future__ import annotations

import dataclasses

import pytest

from edgeopt.core.device import DeviceFacts, RuntimeFacts
from edgeopt.errors import ProvisionError, UsageError
from edgeopt.workflow.provisioning import Shopping, runtimes_to_install, shopping_list
from edgeopt_targets.profile_files import find_profile, match_profile

PI = DeviceFacts(
    model="Raspberry Pi 4 Model B Rev 1.4", machine="aarch64", bits=64, cpu="Cortex-A72", isa=("asimd",),
    cores_logical=4, cores_physical=4, memory_bytes=4 << 30, memory_available_bytes=3 << 30, disk_free_bytes=8 << 30,
    os="", kernel="", libc="glibc 2.36", python="3.11.2", governor="", power_mode="", temperature_celsius=None,
    boot_id="", runtimes=(), fingerprint="",
)  # fmt: skip
PI_32 = dataclasses.replace(PI, bits=32)


def test_a_device_gets_the_first_runtime_of_its_profile() -> None:
    profile = match_profile(PI)
    assert runtimes_to_install("pi", PI, profile) == (profile.runtimes[0],)


def test_what_was_provisioned_stays_and_nothing_comes_unasked() -> None:
    there = RuntimeFacts("onnxruntime", "1.32.0", interpreter="/root/.edgeopt/env/current/bin/python")
    facts, profile = dataclasses.replace(PI, runtimes=(there,)), match_profile(PI)
    assert runtimes_to_install("pi", facts, profile, asked=["litert"]) == ("litert", "onnxruntime")
    assert runtimes_to_install("pi", facts, profile) == ("onnxruntime",)


def test_the_systems_own_runtimes_are_not_provisioned_again() -> None:
    there = RuntimeFacts("onnxruntime", "1.16.3", interpreter="/usr/bin/python3")
    facts = dataclasses.replace(PI, runtimes=(there,))
    assert runtimes_to_install("pi", facts, match_profile(PI), asked=["litert"]) == ("litert",)


def test_a_32_bit_userland_is_told_what_it_can_have() -> None:
    profile = match_profile(PI_32)
    with pytest.raises(
        ProvisionError, match=r"no wheel of onnxruntime for Python 3\.11\.2, glibc 2\.36, armv7l, 32-bit"
    ) as refused:
        runtimes_to_install("pi", PI_32, profile, asked=["onnxruntime"])
    assert "tflite_runtime or ncnn: edgeopt device provision pi --runtime tflite_runtime" in refused.value.remedy
    assert "64-bit system" in refused.value.remedy
    assert runtimes_to_install("pi", PI_32, profile, asked=["onnxruntime"], checked=False) == ("onnxruntime",)


def test_a_runtime_that_comes_with_the_system_or_that_nobody_knows_is_refused() -> None:
    profile = find_profile("jetson-nano")
    with pytest.raises(ProvisionError, match="tensorrt is in no wheel"):
        runtimes_to_install("nano", PI, profile, asked=["tensorrt"])
    with pytest.raises(UsageError, match=r"'onnxrutime' is no runtime.*onnxruntime"):
        runtimes_to_install("nano", PI, profile, asked=["onnxrutime"])


def test_one_numpy_serves_all_runtimes_of_an_environment() -> None:
    asked = shopping_list(("onnxruntime", "tflite_runtime"), PI)
    assert asked.alone == ("tflite-runtime",)
    assert {"onnxruntime", "numpy<2"} <= set(asked.packages)
    assert not asked.system


def test_where_there_is_no_wheel_of_numpy_it_is_the_systems() -> None:
    assert shopping_list(("tflite_runtime",), PI_32) == Shopping((), ("tflite-runtime",), system=True)


def test_executorch_comes_with_the_torch_that_it_was_built_for_and_none_of_cuda() -> None:
    asked = shopping_list(("executorch", "tflite_runtime"), PI)
    assert asked.alone == ("executorch==1.5.1", "torch==2.13.0+cpu", "torchao==0.18.0", "tflite-runtime")
    assert {"sympy", "flatbuffers", "numpy<2"} <= set(asked.packages)
    assert not {"pandas", "coremltools"} & set(asked.packages)
