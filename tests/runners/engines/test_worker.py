"""The worker with every engine: a whole measurement of a real file, in the interpreter that has the runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.profile import Settings
from edgeopt_runner import engines, environment
from edgeopt_runner.protocol.samples import write_samples
from edgeopt_runner.runtimes import ask
from support.small_models import FILES, FOLDER, expected, images
from support.worker import Board

ROOT = Path(__file__).parents[3]
TFLITE_RUNTIME = ("numpy==1.26.4", "tflite-runtime==2.14.0")


def board(folder: Path) -> Board:
    """A runner's root with golden samples of the small network."""
    found = Board(folder)
    inputs = np.stack([images(8)[number][None] for number in range(8)])
    wanted = [expected(one) for one in inputs]
    arrays = {"input:x": inputs, "labels": np.stack([one["logits"].argmax(-1) for one in wanted])}
    arrays.update({f"reference:{name}": np.stack([one[name] for one in wanted]) for name in wanted[0]})
    write_samples(str(folder / "small.npz"), arrays)
    found.golden = found.evaluation = found.add(folder / "small.npz")
    return found


def measured(found: Board, file: str, settings: Settings, python: str = sys.executable) -> dict:
    job = found.job(settings=settings, model=found.add(FOLDER / file), metric="outputs")
    result = found.work(job, python=python)["result"]
    assert result["status"] == "ok", result["detail"]
    return result["measurement"]


@pytest.mark.parametrize("name", ["litert", "mnn", "ncnn", "openvino"])
def test_a_measurement_is_right_and_says_where_it_ran(name: str, tmp_path: Path):
    if engines.engine(name).available() is None:
        pytest.skip(f"{name} is not installed here")
    found = measured(board(tmp_path), FILES[name], Settings(runtime=name))
    assert found["correctness"]["passed"], found["correctness"]
    assert found["correctness"]["cosine"] > 0.9999
    assert found["latency"]["median_ns"] > 0
    assert found["memory"]["run_bytes"] > found["memory"]["import_bytes"] // 2
    assert bool(found["placement"]) == (name != "mnn")  # MNN cannot tell


def test_requests_of_several_samples_over_two_sessions_come_back_in_order(tmp_path: Path):
    if engines.engine("litert").available() is None:
        pytest.skip("litert is not installed here")
    settings = Settings(runtime="litert", sessions=2, batch=4)
    found = measured(board(tmp_path), "small.tflite", settings)
    assert found["correctness"]["cosine"] > 0.9999


@pytest.mark.parametrize("name", ["litert", "mnn", "ncnn", "onnxruntime", "openvino"])
def test_a_runtime_is_found_although_it_prints_while_it_is_imported(name: str):
    if engines.engine(name).available() is None:
        pytest.skip(f"{name} is not installed here")
    entry = ask(sys.executable, name)
    assert entry is not None
    assert entry["found"]["version"] == engines.engine(name).available()["version"]


@pytest.fixture(scope="module")
def tflite_python() -> str:
    """An interpreter with tflite_runtime, which needs a NumPy of its own: made once on this computer."""
    if sys.version_info[:2] > (3, 11):
        pytest.skip("tflite-runtime has no wheel for this Python")
    folder = Path(tempfile.gettempdir(), f"edgeopt-tflite-runtime-{os.getuid()}-{sys.version_info.minor}")
    python = folder / "bin" / "python"
    check = [python, "-c", "import tflite_runtime, numpy; assert tflite_runtime.__version__ == '2.14.0'"]
    if python.exists() and subprocess.run(check, capture_output=True).returncode == 0:
        return str(python)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *TFLITE_RUNTIME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    if done.returncode != 0:
        pytest.skip(f"tflite-runtime cannot be installed here: {done.stderr.strip()[-200:]}")
    return str(python)


def test_tflite_runtime_runs_the_same_files_through_the_worker(tflite_python: str, tmp_path: Path):
    found = board(tmp_path)
    for file in ("small.tflite", "small_int8.tflite"):
        one = measured(found, file, Settings(runtime="tflite_runtime"), tflite_python)
        assert one["runtime_version"] == "2.14.0"
        assert one["correctness"]["cosine"] > 0.999, file
        assert sum(one["placement"].values()) == {"small.tflite": 3, "small_int8.tflite": 6}[file]


def test_tflite_runtime_conforms_in_its_own_interpreter(tflite_python: str):
    script = (
        "import sys, numpy as np; from edgeopt_runner import engines\n"
        "from edgeopt.testing.engines import check_engine\n"
        "x = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)\n"
        "for path in sys.argv[1:]:\n"
        "    for problem in check_engine(engines.engine('tflite_runtime'), path, {'x': x}): print(problem)\n"
    )
    files = [str(FOLDER / name) for name in ("small.tflite", "small_int8.tflite")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("sdk", "runners"))}
    done = subprocess.run([tflite_python, "-c", script, *files], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]


def test_a_short_weight_file_is_refused_and_does_not_crash(tmp_path: Path):
    if engines.engine("ncnn").available() is None:
        pytest.skip("ncnn is not installed here")
    path = tmp_path / "short"
    with zipfile.ZipFile(FOLDER / "small.ncnn") as archive, zipfile.ZipFile(path, "w") as cut:
        for name in archive.namelist():
            data = archive.read(name)
            cut.writestr(name, data[:8] if name == "model.bin" else data)
    with pytest.raises(engines.LoadFailed, match=r"model.bin: it is shorter than model.param says"):
        engines.engine("ncnn").load(str(path), {})


@pytest.mark.parametrize(("name", "module"), [("openvino", "openvino"), ("mnn", "MNN")])
def test_versions_are_told_and_nothing_is_left_in_the_users_home(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if engines.engine(name).available() is None:
        pytest.skip(f"{name} is not installed here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    entry = ask(sys.executable, name)
    assert entry is not None
    told = environment._imported(sys.prefix, [module])[0]["version"]
    assert told.startswith(entry["found"]["version"])
    assert list(tmp_path.iterdir()) == []


def test_settings_travel_only_where_they_are_set(tmp_path: Path):
    settings = Settings(runtime="openvino", precision="bfloat16")
    assert "precision" not in replace(settings, precision="").document()
    assert settings.document()["precision"] == "bfloat16"
    assert "bfloat16" in str(settings)
