import numpy as np
import onnx
import pytest

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.watch import channel_mean, demand_samples, rows, upstream, watch
from edgeopt_runner.protocol.samples import write_samples
from support.networks import broken_nan_onnx, constant, save
from support.trained import trained


def prepared(name, tmp_path):
    return Network.load(prepare(trained(name).network, PassContext(work=tmp_path)))


@pytest.mark.parametrize("name", ["residual", "depthwise", "transformer"])
def test_weights_times_rows_are_the_outputs_of_every_layer(name, tmp_path):
    network = prepared(name, tmp_path)
    for layer in network.layers:
        output = network.output(layer)
        values = next(watch(network.model, [layer.input, output], trained(name).calibration, 1))
        read, made = rows(network, layer, values[layer.input], values[output], count=5, rng=np.random.default_rng(0))
        weight = network.weight(layer).reshape(layer.groups, layer.outputs // layer.groups, -1)
        found = np.einsum("ngk,gok->ngo", read, weight).reshape(len(made), -1) + network.bias(layer)
        np.testing.assert_allclose(found, made, rtol=1e-4, atol=1e-4)
        assert channel_mean(layer, values[output]).shape == (layer.outputs,)


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"pads": [2, 0, 1, 3], "dilations": [2, 1], "strides": [1, 2]},
    ],
)
def test_rows_know_every_kind_of_padding(attributes, tmp_path):
    rng = np.random.default_rng(1)
    node = onnx.helper.make_node("Conv", ["x", "k"], ["y"], name="conv", **attributes)
    weights = [constant("k", rng.standard_normal((4, 2, 2, 3)))]
    path = save(tmp_path / "conv.onnx", [node], {"x": ("N", 2, 7, 8)}, {"y": ("N", 4, "h", "w")}, weights)
    write_samples(str(tmp_path / "s.npz"), {"input:x": rng.standard_normal((1, 1, 2, 7, 8)).astype(np.float32)})
    network = Network.load(path)
    (layer,) = network.layers
    values = next(watch(network.model, ["x", "y"], tmp_path / "s.npz", 1))
    read, made = rows(network, layer, values["x"], values["y"], count=1000, rng=rng)
    assert len(made) == values["y"].size // 4
    np.testing.assert_allclose(read[:, 0] @ network.weight(layer).reshape(4, -1).T, made, rtol=1e-4, atol=1e-5)


def test_only_what_a_tensor_depends_on_is_run(tmp_path):
    network = prepared("residual", tmp_path)
    part = upstream(network.model, [network.output(network.layers[1])])
    assert len(part.graph.node) < 5 < len(network.model.graph.node)


def test_activations_that_are_not_finite_are_named(tmp_path):
    path = broken_nan_onnx(tmp_path / "nan.onnx")
    model = onnx.load(path)
    name, shape = model.graph.input[0].name, [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    write_samples(str(tmp_path / "s.npz"), {f"input:{name}": -np.ones((2, *shape), np.float32)})
    with pytest.raises(PassError, match="not finite for calibration sample 0"):
        list(watch(model, [model.graph.output[0].name], tmp_path / "s.npz", 2))


def test_missing_and_empty_calibration_are_told(tmp_path):
    with pytest.raises(PassError, match="--data"):
        demand_samples(None, "this")
    write_samples(str(tmp_path / "none.npz"), {"input:x": np.zeros((0, 1, 4), np.float32)})
    with pytest.raises(PassError, match="empty"):
        demand_samples(tmp_path / "none.npz", "this")
