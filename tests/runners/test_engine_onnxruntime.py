"""The ONNX Runtime engine against the published conformance suite, and the suite against engines that are wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.testing.engines import ENGINE_CHECKS, EngineCase, check_engine
from edgeopt_runner import engines
from edgeopt_runner.engines.onnxruntime import ENGINE
from support.worker import conv_network, outputs_of


@pytest.fixture
def case(tmp_path: Path) -> EngineCase:
    inputs = np.random.default_rng(3).normal(size=(1, 3, 16, 16)).astype(np.float32)
    return EngineCase(ENGINE, conv_network(tmp_path / "model.onnx"), {"x": inputs})


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, case):
    check(case)


def test_outputs_are_the_runtimes_own(case):
    session = engines.engine("onnxruntime").load(str(case.model_path), {"threads": 1})
    expected = outputs_of(Path(case.model_path), case.feeds["x"][None])[0]
    np.testing.assert_allclose(session.run(dict(case.feeds))["logits"], expected, rtol=1e-5)
    np.testing.assert_allclose(session.prepare(dict(case.feeds))()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_optimisation_level_loads(case, level):
    session = ENGINE.load(str(case.model_path), {"graph_optimisation": level, "spinning": False})
    assert session.run(dict(case.feeds))["logits"].shape == (1, 5)


@pytest.mark.parametrize("settings", [{"graph_optimisation": "most"}, {"threads": 0}, {"threads": "4"}])
def test_settings_that_are_not_ours_are_refused_by_name(case, settings):
    (name,) = settings
    with pytest.raises(engines.LoadFailed, match=name):
        ENGINE.load(str(case.model_path), settings)


def test_an_unknown_engine_is_named_with_those_there_are():
    with pytest.raises(engines.EngineMissing, match=r"'tensorflow'.*onnxruntime"):
        engines.engine("tensorflow")


def test_a_missing_runtime_is_absent_and_cannot_load(tmp_path):
    script = (
        "import sys; sys.modules['onnxruntime'] = None; sys.path.insert(0, sys.argv[1])\n"
        "from edgeopt_runner import engines\n"
        "engine = engines.engine('onnxruntime'); print(engine.available())\n"
        "try: engine.load('x', {})\n"
        "except engines.EngineMissing as error: print('missing:', error)\n"
    )
    source = str(Path(__file__).parents[2] / "runners")
    done = subprocess.run([sys.executable, "-c", script, source], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "None"
    assert "missing: onnxruntime cannot be imported" in done.stdout


class _Wrapped:
    """The real engine with one fault put in."""

    name = "onnxruntime"

    def __init__(self, **faults):
        self.faults = faults

    def available(self):
        return self.faults.get("available", ENGINE.available())

    def load(self, path, settings):
        if "accepts_anything" in self.faults and "model.onnx" not in path:
            return self
        session = ENGINE.load(path, settings)
        if "run" in self.faults:
            real, runs = session.run, []
            session.run = lambda feeds: (runs.append(1), self.faults["run"](real(feeds), len(runs)))[1]
        return session

    def close(self):
        pass


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"available": None}, "tells_its_version: available() must return a dict"),
        (
            {"run": lambda outputs, n: {k: v + n for k, v in outputs.items()}},
            "repeats_itself: run() gave other outputs",
        ),
        ({"run": lambda outputs, n: {}}, "names_inputs_and_outputs: run() gave []"),
        ({"accepts_anything": True}, "refuses_what_is_no_model: load() accepted garbage"),
    ],
)
def test_the_suite_finds_what_is_wrong(case, faults, expected):
    problems = check_engine(_Wrapped(**faults), case.model_path, case.feeds)
    assert any(problem.startswith(expected) for problem in problems), problems


def test_the_suite_finds_nothing_wrong_with_the_real_engine(case):
    assert check_engine(ENGINE, case.model_path, case.feeds) == ()
