import numpy as np
import onnx
import pytest

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.chains import scaled_inputs
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.smooth_activations import Options, SmoothActivations
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.protocol.samples import write_samples
from support.networks import constant, save
from support.precision import applied, changed, outputs, top1
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("transformer")
    check(Case("smooth_activations", files.network, files.calibration, tmp_path))


def with_outliers(factor):
    """Make three channels of every layer normalisation `factor` times larger; what reads them, smaller."""

    def change(network):
        rng = np.random.default_rng(0)
        for node in list(network.model.graph.node):
            readers = network.consumers(node.output[0])
            layers = [layer for layer in network.layers if layer.name in {reader.name for reader in readers}]
            if node.op_type != "LayerNormalization" or len(layers) != len(readers):
                continue
            scale = np.ones(layers[0].inputs, np.float32)
            scale[rng.permutation(len(scale))[:3]] = factor
            for layer in layers:
                network.set_weight(layer, scaled_inputs(layer, network.weight(layer), 1 / scale))
            for index in (1, 2):
                network.set_constant(node, index, network.constant(node.input[index]) * scale)

    return change


def test_outlier_channels_that_ruin_int8_do_so_no_more(tmp_path):
    files = trained("transformer")
    damaged = changed(files.network, tmp_path / "damaged.onnx", with_outliers(300.0))
    smoothed, report = applied("smooth_activations", damaged, files, tmp_path / "s")
    np.testing.assert_allclose(
        outputs(smoothed, files.evaluation), outputs(damaged, files.evaluation), rtol=1e-5, atol=1e-5
    )
    before = top1(applied("quantise_static", damaged, files, tmp_path / "q")[0], files)
    after = top1(applied("quantise_static", smoothed, files, tmp_path / "sq")[0], files)
    assert before < 0.5 < 0.97 <= after
    assert report.notes == ("smoothed the inputs of 8 of 14 layers",)


def single(tmp_path, nodes, weights, inputs=3):
    """A network of one input [N, 4, inputs] and one output; samples of which channel 0 is large."""
    path = save(tmp_path / "one.onnx", nodes, {"x": ("N", 4, inputs)}, {"y": ("N", 4, 2)}, weights)
    values = np.random.default_rng(1).standard_normal((6, 1, 4, inputs)).astype(np.float32)
    values[..., 0] *= 100
    write_samples(str(tmp_path / "s.npz"), {"input:x": values})
    return path


def smoothed(path, tmp_path, **options):
    context = PassContext(work=tmp_path, calibration=tmp_path / "s.npz")
    report = SmoothActivations(Options(**options)).apply(path, tmp_path / "smooth.onnx", context)
    return Network.load(tmp_path / "smooth.onnx"), report


def node(operator, inputs, output):
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator}_{output}")


RNG = np.random.default_rng(2)
DENSE = [constant("w", RNG.standard_normal((3, 2)))]
VECTORS = [constant("g", [1.0, 2.0, 3.0]), constant("b", [0.5, 0.0, -0.5])]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", ["x", "g"], "h"), node("MatMul", ["h", "w"], "y")],
        [node("Mul", ["g", "x"], "m"), node("Add", ["m", "b"], "h"), node("MatMul", ["h", "w"], "y")],
        [
            node("MatMul", ["x", "v"], "m"),
            node("Add", ["b", "m"], "a"),
            node("Relu", ["a"], "h"),
            node("MatMul", ["h", "w"], "y"),
        ],
    ],
    ids=["mul", "mul and add", "a layer before"],
)
def test_the_division_goes_into_what_makes_the_activation(nodes, tmp_path):
    path = single(tmp_path, nodes, [*DENSE, *VECTORS, constant("v", RNG.standard_normal((3, 3)))])
    network, report = smoothed(path, tmp_path)
    assert report.notes[0].startswith("smoothed the inputs of 1 of")
    assert len(network.model.graph.node) == len(nodes)
    wanted, found = (outputs(file, tmp_path / "s.npz") for file in (path, tmp_path / "smooth.onnx"))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert np.abs(network.weight(network.layers[-1]) - Network.load(path).weight(network.layers[-1])).max() > 0.1


def test_alpha_1_moves_all_of_the_range_into_the_weights(tmp_path):
    path = single(tmp_path, [node("Mul", ["x", "g"], "h"), node("MatMul", ["h", "w"], "y")], [*DENSE, *VECTORS])
    network, _ = smoothed(path, tmp_path, alpha=1.0)
    session = onnx.numpy_helper.to_array(next(t for t in network.model.graph.initializer if t.name.startswith("g")))
    with np.load(tmp_path / "s.npz") as stored:
        peak = np.abs(stored["input:x"] * session).reshape(-1, 3).max(axis=0)
    np.testing.assert_allclose(peak, 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("MatMul", ["x", "w"], "y")],
        [
            node("Mul", ["x", "g"], "h"),
            node("MatMul", ["h", "w"], "z"),
            node("ReduceSum", ["h"], "s"),
            node("Add", ["z", "s"], "y"),
        ],
    ],
    ids=["reads the input", "somebody else reads it too"],
)
def test_where_nothing_can_take_the_division_the_network_is_refused(nodes, tmp_path):
    path = single(tmp_path, nodes, [*DENSE, *VECTORS])
    with pytest.raises(PassError, match="nothing to smooth"):
        smoothed(path, tmp_path)


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": float("nan")}, {"samples": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)
