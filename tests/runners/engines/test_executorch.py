"""ExecuTorch's engine, in the environment that has it: conformance, numbers, threads, a whole measurement.

The environment weighs a gigabyte and is not made by these tests: `convert_executorch` makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.profile import Settings
from edgeopt.environments import interpreter, is_ready
from edgeopt.graph.engine_process import EXECUTORCH, EngineProcess
from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner import engines
from runners.engines.test_worker import board, measured
from support.small_models import FOLDER, expected, images

ROOT = Path(__file__).parents[3]
FLOAT, INT8 = FOLDER / "small.pte", FOLDER / "small_int8.pte"

_CONFORMS = """
import sys, numpy as np
from edgeopt.testing.engines import check_engine
from edgeopt_runner import engines
x = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
for path in sys.argv[1:]:
    for problem in check_engine(engines.engine("executorch"), path, {"x": x}): print(problem)
"""

_REFUSES = """
import sys, numpy as np
from edgeopt_runner import engines
engine = engines.engine("executorch")
def refused(what, error=engines.LoadFailed):
    try: what()
    except error as found: print(found)
first = engine.load(sys.argv[1], {"threads": 1})
refused(lambda: engine.load(sys.argv[1], {"threads": 2}))
engine.load(sys.argv[1], {"threads": 1})
first.close()
call = engine.load(sys.argv[1], {"threads": 2}).prepare({"x": np.zeros((1, 1, 8, 8), np.float32)})
call()
refused(lambda: engine.load(sys.argv[1], {"threads": 1}))
del call
refused(lambda: engine.load(sys.argv[1], {"threads": 0}))
refused(lambda: engine.load(sys.argv[1], {"precision": "float16"}))
refused(lambda: engine.load(sys.argv[2], {}))
refused(lambda: engine.load(sys.argv[1], {}).run({"x": np.zeros((1, 1, 9, 9), np.float32)}), engines.RunFailed)
frozen = np.zeros((1, 1, 8, 8), np.float32); frozen.flags.writeable = False
print(engine.load(sys.argv[1], {}).run({"x": frozen})["logits"].shape)
"""


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has ExecuTorch."""
    with pytest.MonkeyPatch.context() as patch:
        if "EDGEOPT_ENVIRONMENTS" not in os.environ:
            folder = Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}")
            patch.setenv("EDGEOPT_ENVIRONMENTS", str(folder))
        if not is_ready(EXECUTORCH):
            pytest.skip("ExecuTorch's environment is not here (1.2 GB; convert_executorch makes it)")
        return str(interpreter(EXECUTORCH))


def run(python: str, script: str, *arguments: str | Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("sdk", "runners"))}
    command = [python, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_it_conforms(python: str):
    assert run(python, _CONFORMS, FLOAT, INT8) == []


def test_what_it_cannot_do_is_refused_in_one_line(python: str):
    told = run(python, _REFUSES, FLOAT, FOLDER / "small.tflite")
    pool = "ExecuTorch has one pool for all models of a process, and 1 loaded here use it with"
    assert told == [
        f"threads is 2, but {pool} 1",
        f"threads is 1, but {pool} 2",
        "threads is 0; it must be a whole number of at least 1",
        "executorch has no setting precision, which is 'float16'; leave it out",
        "this is a file of format TFLite; executorch reads ExecuTorch",
        "input x has shape [1, 1, 9, 9], not [1, 1, 8, 8]",
        "(1, 5)",
    ]


@pytest.mark.parametrize(("file", "most"), [(FLOAT, 1e-5), (INT8, 0.1)])
def test_the_host_runs_it_in_the_other_interpreter(file: Path, most: float, python: str):
    session = EngineProcess(Path(python), "executorch", file, {"threads": 1})
    wanted = expected(images())
    found = session.run({"x": images()})
    assert list(found) == session.outputs == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], array, atol=most)
    with pytest.raises(engines.RunFailed, match="input x is missing"):
        session.run({})
    np.testing.assert_array_equal(session.run({"x": images()})["logits"], found["logits"])
    session.close()
    assert session._process.returncode is not None


def test_a_file_that_is_damaged_or_of_another_kind_is_refused(python: str, tmp_path: Path):
    (tmp_path / "cut.pte").write_bytes(FLOAT.read_bytes()[:700])
    for path in (tmp_path / "cut.pte", FOLDER / "small.onnx"):
        with pytest.raises(engines.LoadFailed):
            EngineProcess(Path(python), "executorch", path, {})


def test_the_host_opens_its_files_by_their_suffix(python: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(Path(python).parents[2]))
    found = run_feed(open_session(FLOAT), {"x": images()})
    np.testing.assert_allclose(found["logits"], expected(images())["logits"], atol=1e-5)


def test_a_measurement_is_right_and_says_where_it_ran(python: str, tmp_path: Path):
    found = measured(board(tmp_path), "small.pte", Settings(runtime="executorch"), python)
    assert found["runtime_version"].startswith("1.5.1")
    assert found["correctness"]["cosine"] > 0.9999
    assert found["latency"]["median_ns"] > 0
    assert set(found["placement"]) == {"XNNPACK"}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_the_process_ends_with_its_session(python: str):
    session = EngineProcess(Path(python), "executorch", FLOAT, {})
    number = session._process.pid
    del session
    assert not Path(f"/proc/{number}").exists()
