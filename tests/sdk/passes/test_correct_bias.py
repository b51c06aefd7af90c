import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.correct_bias import Options
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.quantising.grid import exact
from edgeopt.passes.quantising.rounding import Lattice
from edgeopt.testing.passes import CHECKS, Case
from support.precision import EXACT_DOT, SATURATING, applied, changed, outputs, top1
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("correct_bias", files.network, files.calibration, tmp_path, {"samples": 16}))


def rounded(files, path, bits, per_channel=True):
    """The network with all weights rounded to the nearest, biases as they were."""
    lattice = Lattice(bits, True, per_channel)

    def change(network):
        for layer in network.layers:
            network.set_weight(layer, lattice.nearest(network.weight(layer)))

    return changed(files.network, path, change)


@pytest.mark.parametrize(("name", "most", "least"), [("residual", 0.9, 0.97), ("depthwise", 0.5, 0.65)])
def test_ternary_weights_lose_far_less_than_with_the_old_biases(name, most, least, tmp_path):
    files = trained(name)
    before = top1(rounded(files, tmp_path / "near.onnx", 2), files)
    corrected, report = applied("correct_bias", files.network, files, tmp_path / "c", bits=2)
    assert before < most < least < top1(corrected, files)
    assert report.notes == ("corrected the biases of 8 layers at 2 bits",)


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_outputs_error_at_4_bits_is_at_least_halved(per_channel, tmp_path):
    files = trained("depthwise")
    wanted = outputs(files.network, files.evaluation)
    plain = outputs(rounded(files, tmp_path / "near.onnx", 4, per_channel), files.evaluation)
    path, _ = applied("correct_bias", files.network, files, tmp_path / "c", bits=4, per_channel=per_channel)
    assert ((outputs(path, files.evaluation) - wanted) ** 2).mean() < 0.5 * ((plain - wanted) ** 2).mean()


@pytest.mark.parametrize("isa", [SATURATING, EXACT_DOT], ids=["7 bits", "8 bits"])
def test_the_quantiser_behind_it_stores_the_weights_without_a_further_loss(isa, tmp_path):
    files = trained("depthwise")
    corrected, _ = applied("correct_bias", files.network, files, tmp_path / "c", isa=isa)
    quantised, _ = applied("quantise_static", corrected, files, tmp_path / "q", isa=isa)
    network = Network.load(corrected)
    wanted = sorted((network.weight(layer).ravel() for layer in network.layers), key=lambda w: (w.size, w[0]))
    found = sorted((weight.ravel() for weight in _dequantised(quantised)), key=lambda w: (w.size, w[0]))
    assert len(found) == len(wanted) == 8
    for stored, meant in zip(found, wanted, strict=True):
        np.testing.assert_allclose(stored, meant, rtol=1e-5, atol=1e-7)


def _dequantised(path):
    """Float weights that the DequantizeLinear nodes with two dimensions or more make."""
    graph = onnx.load(path).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        codes = known.get(node.input[0])
        if node.op_type == "DequantizeLinear" and codes is not None and codes.ndim >= 2:
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
            shape = [1] * codes.ndim
            shape[axis] = -1
            yield codes.astype(np.float32) * known[node.input[1]].reshape(shape)


def test_layers_that_must_stay_float_keep_their_weights(tmp_path):
    files = trained("residual")
    before = Network.load(prepare(files.network, PassContext(work=tmp_path)))
    kept = before.layers[2]
    path, report = applied("correct_bias", files.network, files, tmp_path / "c", bits=4, keep=(kept.name,))
    after = Network.load(path)
    assert report.kept_float == (kept.name,)
    np.testing.assert_array_equal(after.weight(kept), before.weight(kept))
    assert all(exact(after.weight(layer), 4, 0) for layer in after.layers if layer.name != kept.name)


def test_layers_without_a_bias_are_rounded_and_named(tmp_path):
    files = trained("transformer")
    bare = changed(files.network, tmp_path / "bare.onnx", _without_the_bias_of_the_first_layer)
    path, report = applied("correct_bias", bare, files, tmp_path / "c", bits=4, samples=8)
    assert report.notes[1] == "skipped 1 of 14 layers: /embed/MatMul (rounded, but it has no bias)"
    network = Network.load(path)
    assert exact(network.weight(network.layers[0]), 4, 0)


def _without_the_bias_of_the_first_layer(network):
    add = network.only_consumer(network.node(network.layers[0].name).output[0])
    network.become(add, "Identity")
    add.input[0] = network.node(network.layers[0].name).output[0]


def test_time_that_runs_out_leaves_layers_to_the_quantiser(tmp_path):
    files = trained("residual")
    path, report = applied("correct_bias", files.network, files, tmp_path / "c", max_seconds=1e-9)
    assert report.notes[1] == "8 of 8 layers were not reached in time"
    np.testing.assert_allclose(outputs(path, files.evaluation), outputs(files.network, files.evaluation), atol=1e-4)


def test_networks_without_layers_are_refused(tmp_path):
    files = trained("recurrent")
    with pytest.raises(PassError, match="may be rounded"):
        applied("correct_bias", files.network, files, tmp_path / "c", keep=("/head/Gemm",))


@pytest.mark.parametrize("options", [{"samples": 0}, {"max_seconds": 0.0}, {"max_seconds": float("nan")}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)
