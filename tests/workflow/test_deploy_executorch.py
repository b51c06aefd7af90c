"""The main job by ExecuTorch on a board whose provisioned interpreter has it: converted, measured, chosen, active.

The environments of converter and runtime are one (1.2 GB), which these tests do not make.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgeopt.environments import is_ready
from edgeopt.graph.engine_process import EXECUTORCH
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.workspace import Workspace
from support.workflow import Computer, Task, run_onnx

_APPLICATION = """
import json, sys
import numpy as np
import edgeopt_runner
model = edgeopt_runner.load("net")
print(json.dumps(model({"x": np.load(sys.argv[1])})["y"].tolist()))
"""


@pytest.fixture
def provisioned(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter with ExecuTorch that the board uses."""
    if "EDGEOPT_ENVIRONMENTS" not in os.environ:
        folder = Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}")
        monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(folder))
    if not is_ready(EXECUTORCH):
        pytest.skip("ExecuTorch's environment is not here (1.2 GB; a first use of convert_executorch makes it)")
    current = computer.root / "env" / "current"
    current.parent.mkdir(parents=True)
    current.symlink_to(EXECUTORCH.folder)
    return current / "bin" / "python"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_network_is_deployed_by_executorch_in_float_and_in_8_bits(
    computer: Computer, workspace: Workspace, task: Task, provisioned: Path, tmp_path: Path
) -> None:
    """Long for its two conversions, each of which imports torch and lowers the network: 20 s and more."""
    request = task.request(recipes=("executorch", "executorch-int8"), runtimes=("executorch",), app="net")
    record = deploy(request, workspace)
    assert record.state == "done"
    assert record.selection is not None
    found = {one.candidate.variant.name: one.candidate for one in record.selection.assessments}
    assert set(found) == {"executorch", "executorch-int8"}, [str(one) for one in record.rejections]
    for candidate in found.values():
        assert candidate.variant.artifact.format == "pte"
        assert {one.settings.runtime for one in candidate.measurements} == {"executorch"}
        assert all("XNNPACK" in one.placement for one in candidate.measurements)
    assert found["executorch-int8"].variant.artifact.size_bytes < found["executorch"].variant.artifact.size_bytes
    assert record.deployment is not None
    assert record.deployment.healthy

    feed = np.random.default_rng(7).standard_normal((1, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", feed)
    words = [str(provisioned), "-c", _APPLICATION, str(tmp_path / "x.npy")]
    runner = computer.root / "runner/current/edgeopt_runner.pyz"
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(runner)})
    assert done.returncode == 0, done.stderr
    outputs = np.array(json.loads(done.stdout.splitlines()[-1]))
    wanted = run_onnx(task.network, feed)
    assert (outputs * wanted).sum() > 0.99 * np.linalg.norm(outputs) * np.linalg.norm(wanted)
