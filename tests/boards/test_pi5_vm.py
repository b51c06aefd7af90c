"""The life of a Raspberry Pi 5 with half a GiB: a booted arm64 Debian with its device tree and 16 KiB pages.

What is measured there is right; how long it took is an emulator's, and not even the ranking is a board's. One machine
serves all tests in their order, for it takes a core as long as it is on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.run import RunRecord
from support.board_commands import PATIENCE_SECONDS, answer, provision, run
from support.board_models import SAMPLES, changed, greedy_words
from support.board_vm import Vm, running_vm
from support.workflow import Computer, eventually

pytestmark = [pytest.mark.boards, pytest.mark.timeout(1200)]  # ten times what it takes where the cores are free
_ONE_ANSWER = 1.01 / SAMPLES
"""Sums are added in another order there: outputs differ in their last digits, and at most one answer of 64 turns."""


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    with running_vm(tmp_path_factory.mktemp("vm"), "pi5", cpu="cortex-a76", memory_mib=512) as running:
        yield running


def deployed(edgeopt: Computer, words: list[str], **options: str) -> RunRecord:
    """A deployment to the machine that ends well, the smallest file winning."""
    told = ["--target", "pi", "--max-drop", "5%", "--minimise", "size"]
    done = answer(edgeopt, *changed(words, **options), *told)
    with edgeopt.workspace() as workspace:
        record = workspace.ledger.run(done["run_id"])
    assert (record.state, record.profile_name) == ("done", "raspberry-pi-5")
    return record


def measured(record: RunRecord) -> set[str]:
    """Names of the variants that ran there, each as accurate there as here, and within the memory that there is."""
    assert record.selection is not None
    found = [one.candidate for one in record.selection.assessments]
    for variant, launch in [(one.variant, launch) for one in found for launch in one.measurements]:
        assert launch.ok, launch.detail
        assert launch.memory is not None
        assert 20 << 20 < (launch.memory.peak_bytes or 0) < 300 << 20
        assert launch.accuracy is not None
        assert launch.accuracy.samples == SAMPLES
        assert launch.accuracy.value == pytest.approx(variant.metric, abs=_ONE_ANSWER)
    return {one.variant.name for one in found}


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


def test_02_it_gets_both_runtimes_without_internet(edgeopt: Computer, vm: Vm) -> None:
    assert vm.run("timeout 2 bash -c '</dev/tcp/192.0.2.1/80' 2>/dev/null; echo $?") != "0\n"
    words = ["--runtime", "onnxruntime", "--runtime", "litert"]
    assert set(provision(edgeopt, "pi", *words)) == {"litert", "onnxruntime"}
    assert vm.run("ls /root") == ""
    assert "onnxruntime" not in vm.run("ls -R /usr/local /usr/lib/python3"), "the system's own Python was touched"


def test_03_float_and_int8_run_in_onnx_runtime_as_accurately_as_here(
    edgeopt: Computer, vm: Vm, digits_words: list[str]
) -> None:
    record = deployed(edgeopt, digits_words, recipes="optimised,int8-minmax")
    assert measured(record) == {"original", "optimised", "int8-minmax"}
    assert record.deployment is not None
    assert record.deployment.release == 1
    assert vm.run("sha256sum .edgeopt/apps/digits/current/model.onnx").split()[0] == record.deployment.variant_digest


def test_04_float_and_int8_run_in_litert_as_accurately_as_here(
    edgeopt: Computer, vm: Vm, digits_words: list[str]
) -> None:
    record = deployed(edgeopt, digits_words, runtimes="onnxruntime,litert", recipes="litert-float,litert-int8")
    assert measured(record) == {"original", "litert-float", "litert-int8"}
    assert record.deployment is not None
    assert record.deployment.release == 2
    assert vm.run("sha256sum .edgeopt/apps/digits/current/model.tflite").split()[0] == record.deployment.variant_digest
    assert "model.onnx" in vm.run("ls .edgeopt/apps/digits/previous/")


def test_05_it_goes_back_and_forth_between_runtimes_though_its_clock_is_wrong(edgeopt: Computer, vm: Vm) -> None:
    vm.run("date -s '2001-02-03 04:05:06'")
    checks = {check["name"]: check for check in answer(edgeopt, "device", "doctor", "pi", status=4)["checks"]}
    assert not checks["clock"]["ok"]
    assert "timedatectl" in checks["clock"]["remedy"]
    for release, file in ((1, "model.onnx"), (2, "model.tflite")):
        assert answer(edgeopt, "device", "rollback", "pi", "digits")["release"] == release
        assert file in vm.run("ls .edgeopt/apps/digits/current/")
    vm.run(f"date -s @{time.time():.0f}")
    (app,) = answer(edgeopt, "device", "apps", "pi")["apps"]
    assert (app["current"], app["previous"], app["healthy"]) == (2, 1, True)


def test_06_a_model_for_more_memory_than_there_is_ends_with_a_word_and_the_board_lives_on(
    edgeopt: Computer, vm: Vm, tmp_path: Path
) -> None:
    status, out, error = run(edgeopt, *greedy_words(tmp_path, 420 << 20), "--target", "pi")
    assert status in (3, 4), error
    assert "memory" in (out + error).lower()
    assert "Out of memory" not in vm.run("dmesg"), "the kernel had to choose whom to end"
    untouched(edgeopt)


def untouched(edgeopt: Computer) -> None:
    """What was active still is."""
    (app,) = answer(edgeopt, "device", "apps", "pi")["apps"]
    assert (app["app"], app["current"], app["healthy"]) == ("digits", 2, True)


def test_07_a_full_disk_is_told_before_anything_is_sent(edgeopt: Computer, vm: Vm) -> None:
    vm.run("fallocate -l $(($(stat -f -c '%a * %S' /) - 4000000)) /filler")
    status, _, error = run(edgeopt, "device", "provision", "pi", "--runtime", "ncnn")
    vm.run("rm /filler")
    assert status == 4, error
    assert "bytes free" in error
    assert "needed" in error
    assert ".part" not in vm.run("ls .edgeopt/objects")
    untouched(edgeopt)


def test_08_a_card_that_became_read_only_is_told_as_such(edgeopt: Computer, vm: Vm) -> None:
    vm.run("sync; mount -o remount,ro /")
    status, _, error = run(edgeopt, "device", "rollback", "pi", "digits")
    vm.run("mount -o remount,rw /")
    assert status == 4, error
    assert "Read-only file system" in error
    assert "Traceback" not in error
    untouched(edgeopt)


@pytest.mark.long
def test_09_the_same_command_goes_on_when_the_plug_was_pulled(
    edgeopt: Computer, vm: Vm, digits_words: list[str]
) -> None:
    """Long: it boots the machine again, and measures anew for what was lost."""
    words = [*changed(digits_words, recipes="optimised"), "--target", "pi", "--seed", "2", "--max-drop", "5%", "--json"]
    before = vm.run("ls .edgeopt/jobs").split()
    running = edgeopt.start(*words)
    eventually(lambda: set(vm.run("ls .edgeopt/jobs").split()).difference(before), seconds=300)
    vm.cut_power()
    vm.boot()
    out, error = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0, error
    assert json.loads(out)["state"] == "done"


def test_10_cleaning_leaves_nothing(edgeopt: Computer, vm: Vm) -> None:
    status, _, error = run(edgeopt, "device", "clean", "pi", "--yes", "--force")
    assert status == 0, error
    assert vm.run("ls -A /root") == ".ssh\n"
    assert "edgeopt" not in vm.run("ps ax -o args= | grep -v grep; ls /tmp /var/tmp /dev/shm")
