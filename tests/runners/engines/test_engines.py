"""Every engine whose runtime is here, on a real file of its format: conformance, parity, refusals, placement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.testing.engines import ENGINE_CHECKS, EngineCase
from edgeopt_runner import engines
from support.small_models import FILES, FOLDER, expected, images

CASES = [
    ("executorch", "small.pte"),
    ("executorch", "small_int8.pte"),
    ("litert", "small.tflite"),
    ("litert", "small_int8.tflite"),
    ("mnn", "small.mnn"),
    ("ncnn", "small.ncnn"),
    ("onnxruntime", "small.onnx"),
    ("openvino", "small.onnx"),
    ("openvino", "small.tflite"),
    ("openvino", "small_int8.tflite"),
]
PACKAGES = {
    "executorch": "executorch",
    "litert": "ai_edge_litert",
    "mnn": "MNN",
    "ncnn": "ncnn",
    "openvino": "openvino",
}


def here(name: str) -> engines.Engine:
    """The engine, where its runtime is installed."""
    engine = engines.engine(name)
    if engine.available() is None:
        pytest.skip(f"{name} is not installed here")
    return engine


@pytest.mark.parametrize(("name", "file"), CASES)
@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, name: str, file: str):
    check(EngineCase(here(name), FOLDER / file, {"x": images()}))


@pytest.mark.parametrize(("name", "file"), [case for case in CASES if "int8" not in case[1]])
def test_gives_what_the_original_gives_for_the_originals_arrays(name: str, file: str):
    session = here(name).load(str(FOLDER / file), {})
    found, wanted = session.run({"x": images()}), expected(images())
    assert list(found) == list(wanted)
    for output, array in wanted.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-4, atol=1e-5)
        assert found[output].dtype == array.dtype


@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_integer_inputs_and_outputs_are_float_to_the_user(name: str):
    session = here(name).load(str(FOLDER / "small_int8.tflite"), {})
    x = np.clip(images(), -2, 2)
    found = session.run({"x": x})["logits"]
    wanted = expected(np.rint(x / np.float32(0.04)) * np.float32(0.04))["logits"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=0.051)  # half a step of the outputs
    np.testing.assert_allclose(found / 0.1, np.rint(found / 0.1), atol=1e-4)


@pytest.mark.parametrize("name", ["litert", "openvino"])
def test_a_foreign_file_keeps_the_names_of_its_own_signature(name: str):
    session = here(name).load(str(FOLDER / "foreign.tflite"), {})
    assert (session.inputs, session.outputs, session.rows) == (["image"], ["scores", "features"], 1)
    found = session.run({"image": np.ascontiguousarray(images().transpose(0, 2, 3, 1))})
    np.testing.assert_allclose(found["scores"], expected(images())["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_prepared_calls_give_the_outputs_of_their_own_feeds(name: str, file: str):
    session = here(name).load(str(FOLDER / file), {})
    feeds = [{"x": one[None]} for one in images(3)]
    calls = [session.prepare(feed) for feed in feeds]
    for call, feed in [*zip(calls, feeds, strict=True)] * 2:
        for found, wanted in zip(call(), session.run(feed).values(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_inputs_of_another_shape_are_refused_and_the_session_goes_on(name: str, file: str):
    session = here(name).load(str(FOLDER / file), {})
    before = session.run({"x": images()})["logits"]
    with pytest.raises(engines.RunFailed):
        session.run({"x": np.zeros((1, 1, 9, 9), np.float32)})
    np.testing.assert_allclose(session.run({"x": images()})["logits"], before, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("litert", "precision", "float16"),
        ("litert", "spinning", False),
        ("mnn", "graph_optimisation", "extended"),
        ("ncnn", "inter_op", 2),
        ("onnxruntime", "precision", "float16"),
        ("openvino", "provider", "TPU"),
        ("litert", "threads", 0),
    ],
)
def test_a_setting_that_a_runtime_lacks_is_refused_by_name(name: str, setting: str, value: object):
    with pytest.raises(engines.LoadFailed, match=setting):
        here(name).load(str(FOLDER / FILES[name]), {setting: value})


@pytest.mark.parametrize(
    ("name", "file", "format_"),
    [
        ("onnxruntime", "small.tflite", "TFLite"),
        ("litert", "small.onnx", "ONNX"),
        ("openvino", "small.ncnn", "zip"),
        ("ncnn", "small.onnx", "ONNX"),
        ("mnn", "small.tflite", "TFLite"),
    ],
)
def test_a_file_of_another_format_is_named(name: str, file: str, format_: str):
    with pytest.raises(engines.LoadFailed, match=format_):
        here(name).load(str(FOLDER / file), {})


@pytest.mark.parametrize("name", ["executorch", "litert", "mnn", "ncnn", "openvino", "tflite_runtime", "tensorrt"])
def test_a_runtime_that_is_not_there_is_absent_and_cannot_load(name: str):
    package = {**PACKAGES, "tflite_runtime": "tflite_runtime", "tensorrt": "tensorrt"}[name]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "sys.modules[sys.argv[2]] = None; sys.modules['tensorflow'] = None\n"
        "from edgeopt_runner import engines\n"
        "engine = engines.engine(sys.argv[3]); print(engine.available())\n"
        "try: engine.load('x', {})\n"
        "except engines.EngineMissing as error: print('missing:', error)\n"
    )
    source = str(Path(__file__).parents[3] / "runners")
    command = [sys.executable, "-c", script, source, package, name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "None"
    assert "cannot be imported" in done.stdout


@pytest.mark.parametrize("name", engines.names())
def test_an_engines_module_does_not_import_its_runtime(name: str):
    heavy = ["MNN", "ai_edge_litert", "ncnn", "onnxruntime", "openvino", "tensorflow", "tensorrt", "numpy"]
    heavy += ["executorch", "torch"]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from edgeopt_runner import engines; engines.engine(sys.argv[2])\n"
        "print([name for name in sys.argv[3:] if name in sys.modules])\n"
    )
    source = str(Path(__file__).parents[3] / "runners")
    command = [sys.executable, "-I", "-c", script, source, name, *heavy]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_models_are_read_without_a_suffix(tmp_path: Path):
    for name, file in FILES.items():
        engine = engines.engine(name)
        if engine.available() is not None:
            path = tmp_path / name
            path.write_bytes((FOLDER / file).read_bytes())
            assert engine.load(str(path), {}).run({"x": images()})["logits"].shape == (1, 5)
