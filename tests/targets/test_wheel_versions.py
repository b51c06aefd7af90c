"""The wheels of boards as they come: the rows of the table that was made with pip."""

import pytest

from edgeopt_targets.tensorrt_versions import largest_opset, tensorrt_of
from edgeopt_targets.wheel_versions import installable, newest_wheel, no_wheel
from support.boards import board_facts

BOARDS = {
    "JetPack 4": {"python": "3.6.9", "libc": "glibc 2.27"},
    "JetPack 5": {"python": "3.8.10", "libc": "glibc 2.31"},
    "Bullseye": {"python": "3.9.2", "libc": "glibc 2.31"},
    "JetPack 6": {"python": "3.10.12", "libc": "glibc 2.35"},
    "Bookworm": {"python": "3.11.2", "libc": "glibc 2.36"},
    "Trixie": {"python": "3.13.5", "libc": "glibc 2.41"},
    "Bullseye 32": {"python": "3.9.2", "libc": "glibc 2.31", "bits": 32},
    "Bookworm 32": {"python": "3.11.2", "libc": "glibc 2.36", "bits": 32, "machine": "armv7l"},
    "Trixie 32": {"python": "3.13.5", "libc": "glibc 2.41", "bits": 32},
}


@pytest.mark.parametrize(
    ("board", "onnxruntime", "litert", "tflite_runtime", "openvino", "ncnn"),
    [
        ("JetPack 4", "1.10.0", "", "", "", ""),
        ("JetPack 5", "1.19.2", "", "2.13.0", "2024.4.0", "1.0.20260526"),
        ("Bullseye", "1.19.2", "2.1.0", "2.13.0", "2025.2.0", "1.0.20261020"),
        ("JetPack 6", "1.23.2", "2.3.0", "2.14.0", "2026.4.1", "1.0.20261020"),
        ("Bookworm", "1.32.0", "2.3.0", "2.14.0", "2026.4.1", "1.0.20261020"),
        ("Trixie", "1.32.0", "2.3.0", "", "2026.4.1", "1.0.20261020"),
        ("Bullseye 32", "", "", "2.13.0", "", "1.0.20261020"),
        ("Bookworm 32", "", "", "2.14.0", "", "1.0.20261020"),
        ("Trixie 32", "", "", "", "", ""),
    ],
)
def test_the_newest_wheel_of_each_runtime(board, onnxruntime, litert, tflite_runtime, openvino, ncnn):
    facts = board_facts(**BOARDS[board])
    wanted = {"onnxruntime": onnxruntime, "litert": litert, "tflite_runtime": tflite_runtime}
    wanted |= {"openvino": openvino, "ncnn": ncnn}
    assert {name: newest_wheel(name, facts) for name in wanted} == wanted
    assert {name: no_wheel(name, facts) for name in wanted} == {name: not version for name, version in wanted.items()}


def test_what_nobody_looked_at_is_not_refused():
    assert not no_wheel("onnxruntime", board_facts(machine="riscv64"))
    assert not no_wheel("onnxruntime", board_facts(python="3.15.0"))
    assert not no_wheel("onnxruntime", board_facts(python=""))
    assert newest_wheel("onnxruntime", board_facts(python="3.15.0")) == ""


def test_there_are_no_wheels_for_musl_and_none_of_tensorrt():
    assert no_wheel("onnxruntime", board_facts(libc="musl"))
    assert no_wheel("tensorrt", board_facts())


def test_what_is_provisioned_is_the_first_that_has_a_wheel():
    runtimes = ("tensorrt", "onnxruntime", "tflite_runtime", "ncnn")
    assert installable(runtimes, board_facts()) == "onnxruntime"
    assert installable(runtimes, board_facts(**BOARDS["Bookworm 32"])) == "tflite_runtime"
    assert installable(runtimes, board_facts(**BOARDS["Trixie 32"])) == ""


@pytest.mark.parametrize(
    ("version", "opset"),
    [("6.0.1", 10), ("7.1.3", 11), ("8.2.1", 13), ("8.5.2", 17), ("8.6.2", 17), ("10.3.0", 0), ("", 0), ("5.1", 10)],
)
def test_tensorrt_reads_opsets_up_to(version, opset):
    assert largest_opset(version) == opset


@pytest.mark.parametrize(
    ("l4t", "version"),
    [("32.7.1", "8.2.1"), ("35.4.1", "8.5.2"), ("36.4.3", "10.3.0"), ("38.4.0", "10.13.3"), ("34.1", ""), ("", "")],
)
def test_tensorrt_of_a_release(l4t, version):
    assert tensorrt_of(board_facts(l4t=l4t)) == version


def test_installed_tensorrt_goes_before_the_table():
    assert tensorrt_of(board_facts(l4t="36.4.3", libraries={"tensorrt": "10.7.0"})) == "10.7.0"
    assert tensorrt_of(board_facts(l4t="36.4.3", runtimes={"tensorrt": "10.8.0"})) == "10.8.0"


@pytest.mark.parametrize(
    ("board", "version"), [("JetPack 5", ""), ("Bullseye", ""), ("JetPack 6", "1.5.1"), ("Trixie", "1.5.1")]
)
def test_executorch_needs_python_3_10_and_glibc_2_28(board, version):
    facts = board_facts(**BOARDS[board])
    assert (newest_wheel("executorch", facts), no_wheel("executorch", facts)) == (version, not version)
    assert no_wheel("executorch", board_facts(**BOARDS["Bookworm 32"]))
