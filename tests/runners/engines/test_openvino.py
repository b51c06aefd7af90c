"""What OpenVINO does with names and files, where it is peculiar."""

import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from edgeopt_runner.engines import engine
from support.networks import constant, save

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
