"""The life of a Raspberry Pi 5 with half a GiB: a booted arm64 Debian with its device tree and 16 KiB pages.

What is measured there is right; how long it took is an emulator's, and not even the ranking is a board's. One machine
serves all tests in their order, for it takes a core as long as it is on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support.board_commands import PATIENCE_SECONDS, answer, provision, run
from support.board_vm import Vm, running_vm
from support.workflow import SHORT_WORDS, Computer, eventually, known_measurements, known_variants

pytestmark = [pytest.mark.boards, pytest.mark.timeout(1200)]  # ten times what it takes where the cores are free
_ONE_ANSWER = 1.01 / 64
"""Sums are added in another order there: outputs differ in their last digits, and at most one answer of 64 turns."""


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    with running_vm(tmp_path_factory.mktemp("vm"), "pi5", cpu="cortex-a76", memory_mib=512) as running:
        yield running


def test_01_it_is_added_and_known_for_what_it_is(edgeopt: Computer, vm: Vm) -> None:
    key = ["--key", str(vm.client_key), "--fingerprint", vm.fingerprint]
    added = answer(edgeopt, "device", "add", "pi", vm.address, *key)
    facts = added["facts"]
    assert facts["model"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (facts["machine"], facts["bits"], facts["cpu"]) == ("aarch64", 64, "Cortex-A76")
    assert (facts["python"], facts["libc"], facts["page_bytes"]) == ("3.11.2", "glibc 2.36", 16384)
    assert {"asimd", "asimddp", "asimdhp"} <= set(facts["isa"])
    assert 400 << 20 < facts["memory_bytes"] < 512 << 20
    assert "raspberrypi,5-model-b" in facts["compatible"]
    assert facts["runtimes"] == []
    assert added["device"]["profile"] == "raspberry-pi-5"


def test_02_it_gets_onnx_runtime_without_internet(edgeopt: Computer, vm: Vm) -> None:
    assert vm.run("timeout 2 bash -c '</dev/tcp/192.0.2.1/80' 2>/dev/null; echo $?") != "0\n"
    assert list(provision(edgeopt, "pi")) == ["onnxruntime"]
    assert vm.run("ls /root") == ""
    assert "onnxruntime" not in vm.run("ls -R /usr/local /usr/lib/python3"), "the system's own Python was touched"


def test_03_float_and_int8_run_there_as_accurately_as_here(edgeopt: Computer, vm: Vm, digits_words: list[str]) -> None:
    words = [*digits_words, "--target", "pi", "--recipes", "optimised,int8-minmax", "--max-drop", "5%"]
    record = answer(edgeopt, *words, "--minimise", "size")
    assert (record["state"], record["profile_name"]) == ("done", "raspberry-pi-5")
    with edgeopt.workspace() as workspace:
        variants = {one.artifact.digest: one for one in known_variants(workspace).values()}
        known = known_measurements(workspace).values()
    measured = [one for one in known if one.variant_digest in variants]
    assert {variants[one.variant_digest].name for one in measured} == {"optimised", "int8-minmax"}
    for one in measured:
        assert one.ok, one.detail
        assert one.accuracy.samples == 64
        assert one.accuracy.value == pytest.approx(variants[one.variant_digest].metric, abs=_ONE_ANSWER)
        assert 20 << 20 < one.memory.peak_bytes < 300 << 20
    active = vm.run("sha256sum .edgeopt/apps/digits/current/model.onnx").split()[0]
    assert active == record["deployment"]["variant_digest"]


def test_04_a_model_for_more_memory_than_there_is_ends_with_a_word_and_the_board_lives_on(
    edgeopt: Computer, vm: Vm, tmp_path: Path
) -> None:
    status, out, error = run(edgeopt, *greedy_words(tmp_path, 420 << 20), "--target", "pi")
    assert status in (3, 4), error
    assert "memory" in (out + error).lower()
    assert "Out of memory" not in vm.run("dmesg"), "the kernel had to choose whom to end"
    (app,) = answer(edgeopt, "device", "apps", "pi")["apps"]
    assert (app["app"], app["current"], app["healthy"]) == ("digits", 1, True)


def test_05_a_second_release_is_rolled_back(edgeopt: Computer, vm: Vm, digits_words: list[str]) -> None:
    words = [*digits_words, "--target", "pi", "--recipes", "optimised", "--max-drop", "5%", "--minimise", "size"]
    second = answer(edgeopt, *words)  # for the greater part known from before
    assert second["deployment"]["release"] == 2
    back = answer(edgeopt, "device", "rollback", "pi", "digits")
    assert back["release"] == 1
    assert vm.run("readlink .edgeopt/apps/digits/current").strip().endswith("1")


@pytest.mark.long
def test_06_the_same_command_goes_on_when_the_plug_was_pulled(
    edgeopt: Computer, vm: Vm, digits_words: list[str]
) -> None:
    words = [*digits_words, "--target", "pi", "--recipes", "optimised", "--seed", "2", "--max-drop", "5%", "--json"]
    before = vm.run("ls .edgeopt/jobs").split()
    running = edgeopt.start(*words)
    eventually(lambda: set(vm.run("ls .edgeopt/jobs").split()).difference(before), seconds=300)
    vm.cut_power()
    vm.boot()
    out, error = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0, error
    assert json.loads(out)["state"] == "done"


def test_07_cleaning_leaves_nothing(edgeopt: Computer, vm: Vm) -> None:
    status, _, error = run(edgeopt, "device", "clean", "pi", "--yes", "--force")
    assert status == 0, error
    assert vm.run("ls -A /root") == ".ssh\n"
    assert "edgeopt" not in vm.run("ps ax -o args= | grep -v grep; ls /tmp /var/tmp /dev/shm")


def greedy_words(folder: Path, size_bytes: int) -> list[str]:
    """Words of a deployment of a small file whose one layer makes a tensor of so many bytes."""
    repeats = helper.make_tensor("repeats", TensorProto.INT64, [2], [1, size_bytes // 4 // 32])
    graph = helper.make_graph(
        [
            helper.make_node("Tile", ["x", "repeats"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["y"], axes=[1], keepdims=1),
        ],
        "greedy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [repeats],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, folder / "greedy.onnx")
    samples = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    data = ["--data", str(folder / "samples.npz"), "--recipes", "optimised"]
    return ["deploy", str(folder / "greedy.onnx"), *data, *SHORT_WORDS]
