"""What OpenVINO does with names and files, where it is peculiar."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeopt.testing.engines import ENGINE_CHECKS, EngineCase
from edgeopt_runner import group
from edgeopt_runner.engines import RunFailed, engine
from support.networks import constant, save, small_cnn_onnx

MODELS = Path(__file__).parents[2] / "data" / "models"
SHAPE = (1, 1, 8, 8)


def test_the_names_are_the_files_also_where_casts_at_its_ends_are_merged(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["cast_in"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["cast_in", "w"], ["half"]),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = constant("w", np.eye(4) * 2, np.float16)
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 4)}, {"y": ("N", 4)}, [weights])
    session = engine("openvino").load(str(path), {})
    assert (session.inputs, session.outputs) == (["x"], ["y"])
    found = session.run({"x": np.ones((2, 4), np.float32)})
    np.testing.assert_allclose(found["y"], 2 * np.ones((2, 4)))
    session.close()


def test_a_tflite_file_of_the_store_which_has_no_suffix_is_read(tmp_path):
    path = shutil.copy(MODELS / "small.tflite", tmp_path / "0123abcd")
    session = engine("openvino").load(str(path), {})
    feed = {name: np.ones(SHAPE, np.float32) for name in session.inputs}
    expected = engine("litert").load(str(path), {}).run(feed)
    for name, values in session.run(feed).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)
    session.close()


def rows_compiled(session):
    """First dimension of the compiled input: a number, or nothing where it is free."""
    (port,) = session.compiled.inputs
    first = port.get_partial_shape()[0]
    return None if first.is_dynamic else first.get_length()


def pictures(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE[1:])).astype(np.float32)


@pytest.fixture(scope="module")
def free_batch(tmp_path_factory):
    """A network of which nothing but the batch is free, and ONNX Runtime's session of it."""
    path = small_cnn_onnx(tmp_path_factory.mktemp("free") / "net.onnx")
    return str(path), onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def same(session, reference, feed):
    found = session.run({"image": feed})
    np.testing.assert_allclose(found["logits"], reference.run(None, {"image": feed})[0], rtol=1e-4, atol=1e-5)


def test_a_batch_that_alone_is_free_is_compiled_for_one_sample_and_other_sizes_run_all_the_same(free_batch):
    path, reference = free_batch
    session = engine("openvino").load(path, {})
    assert (rows_compiled(session), session.rows) == (1, 0)
    placement = session.placement()
    one, many = pictures(1), pictures(5)
    before = session.run({"image": one})["logits"]
    assert session._any is None, "nothing is compiled before other sizes come"
    early = session.prepare({"image": one})
    same(session, reference, many)
    free = session._any
    for rows in (3, 1, 5):
        same(session, reference, pictures(rows, seed=rows))
    assert session._any is free, "compiled once for all other sizes"
    np.testing.assert_array_equal(session.run({"image": one})["logits"], before)
    np.testing.assert_array_equal(early()[0], before)
    assert session.placement() == placement
    session.close()


@pytest.mark.parametrize(
    ("settings", "rows"),
    [({"batch": 4}, 4), ({"batch": 4, "sessions": 2}, 2), ({"batch": 3, "sessions": 2}, None), ({"sessions": 2}, 1)],
)
def test_the_size_of_a_request_is_each_sessions_share_of_the_settings_batch(settings, rows, free_batch):
    path, reference = free_batch
    sessions = group.load(engine("openvino"), path, settings)
    assert [rows_compiled(one) for one in sessions.sessions] == [rows] * settings.get("sessions", 1)
    for count in (settings.get("batch", 1), 1, 7):
        same(sessions, reference, pictures(count))
    sessions.close()


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda check: check.__name__)
def test_an_engine_with_fixed_sizes_conforms(check, free_batch):
    check(EngineCase(engine("openvino"), free_batch[0], {"image": pictures(1)}))


def test_where_more_than_the_batch_is_free_sizes_stay_free(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = [constant("w", np.arange(12).reshape(4, 3))]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", "T", 4)}, {"y": ("N", "T", 3)}, weights)
    session = engine("openvino").load(str(path), {})
    for shape in ((1, 2, 4), (1, 6, 4), (2, 3, 4)):
        assert session.run({"x": np.ones(shape, np.float32)})["y"].shape == (*shape[:2], 3)
    assert (rows_compiled(session), session._any, session.rows) == (None, None, 0)


def test_a_network_that_no_single_sample_fits_keeps_free_sizes(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "pairs"], ["y"])]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 4)}, {"y": ("M", 8)}, [constant("pairs", [-1, 8], np.int64)])
    session = engine("openvino").load(str(path), {})
    assert session.run({"x": np.ones((4, 4), np.float32)})["y"].shape == (2, 8)


def test_other_sizes_of_a_file_that_is_gone_are_refused_and_the_usual_size_still_runs(tmp_path):
    path = small_cnn_onnx(tmp_path / "net.onnx")
    session = engine("openvino").load(str(path), {})
    before = session.run({"image": pictures(1)})["logits"]
    path.unlink()
    with pytest.raises(RunFailed, match=r"net\.onnx"):
        session.run({"image": pictures(2)})
    np.testing.assert_array_equal(session.run({"image": pictures(1)})["logits"], before)
