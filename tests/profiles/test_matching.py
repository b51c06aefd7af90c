"""Which profile a board gets: model strings, compatible names and releases as boards really give them."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.core.device import DeviceFacts
from edgeopt_targets.matching import unknown_board
from edgeopt_targets.profile_files import load_profiles, match_profile
from support.boards import board_facts, facts_for
from support.x86 import x86_facts

GIB = 1 << 30


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2w"),
        ("Raspberry Pi Zero 2 Rev 1.0", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3 Model B Rev 1.2", "raspberry-pi-3"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry-pi-3"),
        ("Raspberry Pi 4 Model B Rev 1.5", "raspberry-pi-4"),
        ("Raspberry Pi 400 Rev 1.0", "raspberry-pi-400"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "raspberry-pi-cm4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi 500 Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "raspberry-pi-cm5"),
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("NVIDIA Jetson Nano 2GB Developer Kit", "jetson-nano"),
        ("quill", "jetson-tx2"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "jetson-xavier-nx"),
        ("Jetson-AGX", "jetson-agx-xavier"),
        ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
        ("NVIDIA Orin NX Developer Kit", "jetson-orin-nx"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "jetson-thor"),
    ],
)
def test_a_board_is_known_by_its_model(model, name):
    facts = board_facts(model)
    profile = match_profile(facts)
    assert profile.name == name
    assert unknown_board(profile, facts) == ""


@pytest.mark.parametrize(
    ("compatible", "name"),
    [
        (("raspberrypi,5-model-b", "brcm,bcm2712"), "raspberry-pi-5"),
        (("raspberrypi,4-compute-module", "brcm,bcm2711"), "raspberry-pi-cm4"),
        (("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"), "jetson-nano"),
        (("nvidia,p2771-0000", "nvidia,tegra186"), "jetson-tx2"),
        (("nvidia,p3509-0000+p3668-0001", "nvidia,tegra194"), "jetson-xavier-nx"),
        (("nvidia,p2822-0000+p2888-0001", "nvidia,tegra194"), "jetson-agx-xavier"),
        (("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"), "jetson-orin-nano"),
        (("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"), "jetson-orin-nx"),
        (("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"), "jetson-agx-orin"),
        (("nvidia,p3971-0080+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"), "jetson-thor"),
    ],
)
def test_a_carrier_board_with_a_name_of_its_own_is_known_by_its_module(compatible, name):
    facts = board_facts("Vendor X1000", compatible=compatible)
    assert match_profile(facts).name == name
    assert unknown_board(match_profile(facts), facts) == ""


@pytest.mark.parametrize(
    ("soc", "memory", "name"),
    [
        ("nvidia,tegra234", 7.4, "jetson-orin-nano"),
        ("nvidia,tegra234", 15.3, "jetson-orin-nx"),
        ("nvidia,tegra234", 61.3, "jetson-agx-orin"),
        ("nvidia,tegra194", 7.6, "jetson-xavier-nx"),
        ("nvidia,tegra194", 31.0, "jetson-agx-xavier"),
        ("nvidia,tegra210", 3.9, "jetson-nano"),
    ],
)
def test_where_only_the_soc_is_known_memory_decides_and_the_user_is_told(soc, memory, name):
    facts = board_facts("Vendor X1000", compatible=("vendor,x1000", soc), memory_bytes=int(memory * GIB))
    profile = match_profile(facts)
    assert profile.name == name
    assert unknown_board(profile, facts) == (
        f"edgeopt does not know 'Vendor X1000'; by its SoC and memory it is taken for {name!r}."
    )


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (board_facts("Raspberry Pi 6 Model B Rev 1.0"), "raspberry-pi"),
        (board_facts("Radxa ROCK 5B"), "aarch64"),
        (board_facts("Vendor Y", l4t="40.1.0"), "jetson"),
        (board_facts("Vendor Y", compatible=("vendor,y", "nvidia,tegra999")), "jetson"),
        (board_facts("Vendor Z", machine="armv7l", bits=32), "armv7"),
        (board_facts("Lichee Pi 4A", machine="riscv64"), "generic"),
        (board_facts("Raspberry Pi Model B Rev 2", machine="armv6l", bits=32), "generic"),
        (x86_facts(machine="x86_64", bits=32), "generic"),
        (x86_facts(()), "x86-64"),
    ],
)
def test_a_board_that_no_profile_knows_gets_the_nearest_generic_one_and_is_told(facts, name):
    profile = match_profile(facts)
    assert profile.name == name
    assert profile.generic
    assert repr(facts.model) in unknown_board(profile, facts)
    assert repr(name) in unknown_board(profile, facts)


@pytest.mark.parametrize("machine", ["armv7l", "aarch64"])
def test_a_32_bit_userland_has_its_own_profile_whatever_the_kernel(machine):
    facts = board_facts("Raspberry Pi 4 Model B Rev 1.4", machine=machine, bits=32)
    assert match_profile(facts).name == "raspberry-pi-32bit"


@pytest.mark.parametrize("name", [profile.name for profile in load_profiles()])
def test_every_profile_is_reached_by_a_device_that_fits_it(name):
    (profile,) = (one for one in load_profiles() if one.name == name)
    assert match_profile(facts_for(profile)).name == name


WORDS = st.sampled_from(
    ["", "aarch64", "armv7l", "x86_64", "riscv64", "Raspberry Pi 4 Model B", "NVIDIA Jetson", "nvidia,tegra234",
     "raspberrypi,5-model-b", "36.4.3", "avx2", "avx512_vnni", "asimd", "glibc 2.36", "musl", "3.11.2", "["]
) | st.text(max_size=12)  # fmt: skip
NUMBERS = st.integers(-1, 1 << 40)


def _of(kind):
    if "tuple[str" in kind:
        return st.lists(WORDS, max_size=4).map(tuple)
    if "tuple" in kind:
        return st.just(())
    if "Mapping" in kind:
        return st.dictionaries(WORDS, WORDS, max_size=2)
    return WORDS if kind == "str" else st.none() if "None" in kind else NUMBERS


ODD = st.builds(DeviceFacts, **{field.name: _of(str(field.type)) for field in dataclasses.fields(DeviceFacts)})


@settings(max_examples=300, deadline=None)
@given(ODD)
def test_whatever_a_device_says_it_gets_a_profile(facts):
    profile = match_profile(facts)
    assert profile in load_profiles()
    assert "\n" not in unknown_board(profile, dataclasses.replace(facts, machine="aarch64", model="board"))
