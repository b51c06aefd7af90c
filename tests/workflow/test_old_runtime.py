"""A board whose Python is so old that its newest onnxruntime is 1.19.2: it gets what that can read, or is told why not.

Real parts: Python 3.8 or 3.9 with that onnxruntime behind a real sshd. The network is in opset 23 and IR version 11,
of which 1.19.2 reads neither.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt.core.recipe import BASELINE
from edgeopt.errors import ModelError
from edgeopt.remote.client import connect
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.workspace import Workspace
from support.sshd import Sshd
from support.workflow import Heard, Task

_RELEASE = "1.19.2"
_ANSWER = """
import sys
import numpy as np
import edgeopt_runner
np.save(sys.argv[2], edgeopt_runner.load("net")({"x": np.load(sys.argv[1])})["y"])
"""


@pytest.fixture(scope="session")
def old_python() -> str:
    """Python 3.8 or 3.9 with onnxruntime 1.19.2, installed once a machine; skips where it cannot be had."""
    versions = Path(os.environ.get("PYENV_ROOT", "~root/.pyenv")).expanduser() / "versions"
    found = [path for minor in (8, 9) for path in sorted(versions.glob(f"3.{minor}.*/bin/python3"))]
    if not found:
        pytest.skip(f"no Python 3.8 or 3.9 in {versions}")
    folder = Path(tempfile.gettempdir(), f"edgeopt-onnxruntime-{_RELEASE}-{os.getuid()}")
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = folder / "bin" / "python"
        has = [str(python), "-c", f"import onnxruntime; assert onnxruntime.__version__ == '{_RELEASE}'"]
        if not python.exists() or subprocess.run(has, capture_output=True, check=False).returncode:
            subprocess.run([str(found[0]), "-m", "venv", str(folder)], check=True)
            asked = [str(python), "-m", "pip", "install", "-q", f"onnxruntime=={_RELEASE}"]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no onnxruntime {_RELEASE}: {done.stderr[-200:]}")
    return str(python)


def new_network(path: Path, *, last: str = "Gelu") -> Path:
    """`x` [N, 32] to `y` [N, 10], in opset 23 and IR version 11, with operators that there were not in opset 21."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((32, 64)).astype(np.float32) / 6,
        "w2": random.standard_normal((64, 10)).astype(np.float32) / 8,
        "scale": np.linspace(0.5, 1.5, 64, dtype=np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="/first"),
        helper.make_node("RMSNormalization", ["a", "scale"], ["b"], name="/norm"),
        helper.make_node("Gelu", ["b"], ["c"], name="/gelu"),
        helper.make_node("MatMul", ["c", "w2"], ["d"], name="/second"),
        helper.make_node(last, ["d"], ["y"], name="/last"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), path)
    return path


@pytest.fixture
def new_task(task: Task, tmp_path: Path) -> Task:
    """The usual samples with a network of today."""
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "samples.npz").write_bytes(task.samples.read_bytes())
    new_network(folder / "net.onnx")
    return Task(folder)


@pytest.fixture
def board(server: Sshd, old_python: str, workspace: Workspace) -> str:
    """The name of the old board."""
    workspace.inventory.add(server.device("old", python=old_python))
    return "old"


def answers_there(server: Sshd, python: str, folder: Path, inputs: np.ndarray) -> np.ndarray:
    """What an application on the board gets from the active release."""
    np.save(folder / "x.npy", inputs)
    root = server.home / ".edgeopt"
    environment = {"HOME": str(server.home), "PYTHONPATH": str(root / "runner/current/edgeopt_runner.pyz")}
    command = [python, "-c", _ANSWER, str(folder / "x.npy"), str(folder / "y.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: np.ndarray = np.load(folder / "y.npy")
    return found


def test_a_network_of_today_is_measured_and_runs_on_the_runtime_of_yesterday(
    new_task: Task, board: str, server: Sshd, workspace: Workspace, old_python: str, tmp_path: Path
) -> None:
    heard = Heard()
    request = new_task.request(target=board, recipes=("optimised",), app="net")
    record = deploy(request, workspace, listener=heard)
    assert record.state == "done"
    original = record.variants[0]
    file = onnx.load(workspace.artifacts.path(original.artifact))
    assert (original.name, file.opset_import[0].version, file.ir_version) == (BASELINE.name, 21, 10)
    assert "RMSNormalization" not in {node.op_type for node in file.graph.node}
    assert original.cosine is not None
    assert original.cosine > 0.99999
    assert any("opset 23 became 21" in line and "measured as original" in line for line in heard.lines)
    assert record.selection is not None
    measured = {one.candidate.variant.name for one in record.selection.assessments if one.latency_ns}
    assert measured == {"original", "optimised"}
    assert not [one for one in record.rejections if one.name in measured]
    x = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    here = _here(new_task.network, x)
    np.testing.assert_allclose(answers_there(server, old_python, tmp_path, x), here, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_lowered_is_refused_before_anything_is_sent(
    new_task: Task, board: str, server: Sshd, workspace: Workspace
) -> None:
    new_network(new_task.network, last="Swish")
    model = onnx.load(new_task.network)
    model.opset_import[0].version = 24
    model.graph.node[0].CopyFrom(helper.make_node("Cast", ["x"], ["x8"], to=TensorProto.FLOAT8E8M0, round_mode="down"))
    model.graph.node.insert(1, helper.make_node("Cast", ["x8"], ["xf"], to=TensorProto.FLOAT))
    model.graph.node.insert(2, helper.make_node("MatMul", ["xf", "w1"], ["a"]))
    onnx.save(model, new_task.network)
    with connect(server.device("old")) as connection:
        connection.probe()
    before = {path.name for path in (server.home / ".edgeopt").rglob("*")}
    with pytest.raises(ModelError) as refused:
        deploy(new_task.request(target=board, recipes=("optimised",)), workspace)
    message = str(refused.value)
    assert "cannot run on the device" in message
    assert "Cast" in message
    assert "opset 21" in message
    sent = {path.name for path in (server.home / ".edgeopt").rglob("*")} - before
    assert not [name for name in sent if len(name) == 64]


def _here(network: Path, inputs: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": inputs})[0]
    return found
