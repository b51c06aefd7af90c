"""The loader of programs on the board: the active model, steady under switches, never a mixture of two releases."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import edgeopt_runner
from edgeopt.remote.bundle import build_bundle
from edgeopt_runner import application, releases
from edgeopt_runner.application import ApplicationError
from support.releases import SETTINGS, activation, healthy

_READER = """
import hashlib, os, sys
from edgeopt_runner import application
link, seen = sys.argv[1], set()
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    held = application.hold(link)
    with open(held.path + "/model.onnx", "rb") as stream:
        content = stream.read()
    assert hashlib.sha256(content).hexdigest() == held.manifest["files"]["model"]["sha256"], "mixed"
    assert content == b"model %d" % held.number, (content, held.number)
    seen.add(held.number)
    held.close()
print(len(seen))
"""


def adding(value: float) -> bytes:
    """A model whose output y is x plus `value`."""
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [value])
    node = helper.make_node("Add", ["x", "c"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy")
    graph = helper.make_graph([node], "adding", [x], [y], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def activate(root: Path, content: bytes, **changes: Any) -> None:
    result = releases.activate(str(root), activation(root, content, **changes), healthy)
    assert result["status"] == "ok", result


@pytest.fixture
def root(tmp_path: Path) -> Path:
    activate(tmp_path, adding(1))
    return tmp_path


def run(model: application.Application) -> float:
    return float(model({"x": np.zeros((1, 3), np.float32)})["y"][0, 0])


def test_load_runs_the_active_model(root: Path) -> None:
    with edgeopt_runner.load("digits", root=str(root)) as model:
        assert model.release == 1
        assert model.manifest["settings"] == SETTINGS
        assert run(model) == 1


def test_root_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_ROOT", str(root))
    with edgeopt_runner.load("digits") as model:
        assert run(model) == 1


def test_a_switch_does_not_disturb_a_loaded_model_and_is_told(root: Path) -> None:
    with edgeopt_runner.load("digits", root=str(root)) as model:
        assert not model.changed()
        activate(root, adding(2))
        assert model.changed()
        assert run(model) == 1
        with edgeopt_runner.load("digits", root=str(root)) as newer:
            assert (newer.release, run(newer)) == (2, 2)
        releases.rollback(str(root), {"app": "digits"}, healthy)
        assert not model.changed()


def test_a_held_release_outlives_many_switches_and_goes_after(root: Path) -> None:
    with edgeopt_runner.load("digits", root=str(root)):
        for value in range(2, 7):
            activate(root, adding(value))
        assert (root / "apps/digits/releases/1/model.onnx").exists()
    activate(root, adding(7))
    assert not (root / "apps/digits/releases/1").exists()


def test_inputs_of_other_names_are_told_apart(root: Path) -> None:
    with (
        edgeopt_runner.load("digits", root=str(root)) as model,
        pytest.raises(ValueError, match="takes the inputs x, not image"),
    ):
        model({"image": np.zeros((1, 3), np.float32)})


def test_unknown_apps_and_bad_names_say_what_to_do(root: Path) -> None:
    with pytest.raises(ApplicationError, match=r"no app 'faces' is active under .* edgeopt deploy"):
        edgeopt_runner.load("faces", root=str(root))
    with pytest.raises(ApplicationError, match=r"app is '\.\./digits'"):
        edgeopt_runner.load("../digits", root=str(root))


def test_damaged_model_is_not_served(root: Path) -> None:
    path = root / "apps/digits/current/model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ApplicationError, match=r"model.onnx of release 1 is damaged"):
        edgeopt_runner.load("digits", root=str(root))


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"release": null}'])
def test_damaged_manifest_is_told(root: Path, text: str) -> None:
    (root / "apps/digits/current/manifest.json").write_text(text)
    with pytest.raises(ApplicationError, match="no readable manifest"):
        edgeopt_runner.load("digits", root=str(root))


def test_file_that_the_runtime_refuses_is_told(root: Path) -> None:
    activate(root, b"not a model")
    with pytest.raises(ApplicationError, match="release 2 does not load here"):
        edgeopt_runner.load("digits", root=str(root))


def test_failed_loads_leave_no_descriptor_open(root: Path) -> None:
    activate(root, b"not a model")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ApplicationError):
            edgeopt_runner.load("digits", root=str(root))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_interpreter_without_the_runtime_names_the_one_that_has_it(root: Path, tmp_path: Path) -> None:
    bundle = build_bundle(tmp_path / "edgeopt_runner.pyz").path
    command = [sys.executable, "-S", "-c", "import edgeopt_runner; edgeopt_runner.load('digits')"]
    environment = {"PYTHONPATH": str(bundle), "EDGEOPT_ROOT": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this interpreter has no onnxruntime" in done.stderr
    assert f"{root}/env/current/bin/python" in done.stderr


def test_importing_the_package_loads_neither_numpy_nor_the_loader() -> None:
    code = "import sys, edgeopt_runner; print({'numpy', 'edgeopt_runner.application'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.fixture
def fast_root(tmp_path: Path) -> Iterator[Path]:
    """A root in memory, where syncing costs nothing and switches come fastest."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_readers_never_see_a_gap_or_a_mixture_in_200_switches(fast_root: Path) -> None:
    activate(fast_root, b"model 1")
    link, stop = fast_root / "apps/digits/current", fast_root / "stop"
    command = [sys.executable, "-c", _READER, str(link), str(stop)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for number in range(2, 202):
            activate(fast_root, b"model %d" % number)
    finally:
        stop.touch()
        outcomes = [(*reader.communicate(timeout=60), reader.returncode) for reader in readers]
    for printed, complaint, code in outcomes:
        assert code == 0, complaint
        assert int(printed) > 1
    assert os.readlink(link) == "releases/201"
