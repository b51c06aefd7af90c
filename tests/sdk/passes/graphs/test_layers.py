import numpy as np
import onnx
import onnxruntime
import pytest

from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.layers import Network, skips
from edgeopt.passes.graphs.prepare import prepare
from support.networks import constant, mlp_onnx, save
from support.trained import trained

FEED = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)


def prepared(name, tmp_path):
    return Network.load(prepare(trained(name).network, PassContext(work=tmp_path)))


def run(network, feed, tmp_path):
    network.save(tmp_path / "saved.onnx")
    onnx.checker.check_model(tmp_path / "saved.onnx", full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "saved.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: feed})[0]


@pytest.mark.parametrize(("name", "layers"), [("residual", 8), ("depthwise", 8), ("transformer", 14), ("recurrent", 1)])
def test_finds_every_layer_with_constant_weights(name, layers, tmp_path):
    network = prepared(name, tmp_path)
    assert len(network.layers) == layers
    assert not network.skipped
    for layer in network.layers:
        assert network.weight(layer).shape == (layer.outputs, layer.inputs // layer.groups, *layer.kernel)
        assert network.bias(layer).shape == (layer.outputs,)


@pytest.mark.parametrize("name", ["residual", "depthwise", "transformer"])
def test_what_was_read_can_be_written_without_a_change(name, tmp_path):
    network = prepared(name, tmp_path)
    wanted = run(prepared(name, tmp_path), FEED, tmp_path)
    for layer in network.layers:
        network.set_weight(layer, network.weight(layer))
        network.set_bias(layer, network.bias(layer))
    np.testing.assert_array_equal(run(network, FEED, tmp_path), wanted)


def test_depthwise_layers_are_known_as_such(tmp_path):
    assert [layer.depthwise for layer in prepared("depthwise", tmp_path).layers].count(True) == 2


def test_a_bias_of_a_matmul_is_that_of_the_add_behind_it(tmp_path):
    network = prepared("transformer", tmp_path)
    query = next(layer for layer in network.layers if layer.name.endswith("layers.0/attention/query/MatMul"))
    assert network.output(query).endswith("query/Add_output_0")
    assert np.abs(network.bias(query)).max() > 0


def test_a_bias_can_be_given_to_layers_that_have_none(tmp_path):
    weights = [constant("w", np.eye(4)), constant("k", np.ones((2, 1, 1, 1)))]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        onnx.helper.make_node("MatMul", ["c", "w"], ["y"], name="dense"),
    ]
    path = save(tmp_path / "bare.onnx", nodes, {"x": ("N", 1, 4, 4)}, {"y": ("N", 2, 4, 4)}, weights)
    network = Network.load(path)
    for layer in network.layers:
        network.set_bias(layer, np.arange(layer.outputs))
    found = run(network, np.zeros((1, 1, 4, 4), np.float32), tmp_path)
    np.testing.assert_array_equal(found[0, :, 0], [[0, 1, 2, 3], [1, 2, 3, 4]])
    np.testing.assert_array_equal(network.bias(network.layers[1]), [0, 1, 2, 3])


def test_writing_a_shared_constant_leaves_the_other_reader_alone(tmp_path):
    shared = constant("w", np.eye(4))
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="one"),
        onnx.helper.make_node("MatMul", ["h", "w"], ["y"], name="two"),
    ]
    network = Network.load(save(tmp_path / "tied.onnx", nodes, {"x": ("N", 4)}, {"y": ("N", 4)}, [shared]))
    first, second = network.layers
    network.set_weight(first, 2 * network.weight(first))
    np.testing.assert_array_equal(network.weight(second), np.eye(4))
    np.testing.assert_array_equal(run(network, np.ones((1, 4), np.float32), tmp_path), np.full((1, 4), 2.0))


def test_a_gemm_with_factors_is_skipped_and_named(tmp_path):
    network = Network.load(mlp_onnx(tmp_path / "mlp.onnx"))
    model = network.model
    first = network.layers[0]
    network.node(first.name).attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    found = Network(model)
    assert skips(found.skipped, 2) == (f"skipped 1 of 2 layers: {first.name} (transA or alpha)",)


def test_a_tensor_that_is_also_an_output_has_no_only_consumer(tmp_path):
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["h"], name="relu"),
        onnx.helper.make_node("Neg", ["h"], ["y"], name="neg"),
    ]
    shape = {"x": ("N", 4)}
    path = save(tmp_path / "a.onnx", nodes, shape, {"y": ("N", 4)}, [])
    assert Network.load(path).only_consumer("h").name == "neg"
    path = save(tmp_path / "b.onnx", nodes, shape, {"y": ("N", 4), "h": ("N", 4)}, [])
    assert Network.load(path).only_consumer("h") is None
