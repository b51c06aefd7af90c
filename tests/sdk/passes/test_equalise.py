import numpy as np
import onnx
import pytest

from edgeopt.errors import ParityError, PassError
from edgeopt.passes._base import EXACT, PassContext
from edgeopt.passes.equalise import Equalise, Options
from edgeopt.passes.graphs.chains import input_columns, pairs
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.protocol.samples import write_samples
from support.networks import constant, save
from support.precision import applied, changed, outputs, top1, unbalanced
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("equalise", files.network, files.calibration, tmp_path))


def test_int8_with_one_scale_a_tensor_is_repaired(tmp_path):
    files = trained("residual")
    damaged = changed(files.network, tmp_path / "damaged.onnx", unbalanced(octaves=4))
    whole = {"per_channel": False}
    equalised, report = applied("equalise", damaged, files, tmp_path / "e")
    np.testing.assert_allclose(
        outputs(equalised, files.evaluation), outputs(damaged, files.evaluation), rtol=1e-5, atol=1e-5
    )
    before = top1(applied("quantise_static", damaged, files, tmp_path / "q", **whole)[0], files)
    after = top1(applied("quantise_static", equalised, files, tmp_path / "eq", **whole)[0], files)
    assert before < 0.5 < 0.99 <= after
    assert report.notes == ("equalised 2 pairs of layers",)


def test_depthwise_layers_with_scales_of_their_own_are_repaired_too(tmp_path):
    files = trained("depthwise")
    relus, report = applied("equalise", files.network, files, tmp_path / "relu", replace_clip=True)
    assert report.notes == ("5 Clip became Relu", "equalised 7 pairs of layers")
    damaged = changed(relus, tmp_path / "damaged.onnx", unbalanced(octaves=2))
    equalised, _ = applied("equalise", damaged, files, tmp_path / "e")
    np.testing.assert_allclose(
        outputs(equalised, files.evaluation), outputs(damaged, files.evaluation), rtol=1e-5, atol=1e-5
    )
    before = top1(applied("quantise_static", damaged, files, tmp_path / "q")[0], files)
    after = top1(applied("quantise_static", equalised, files, tmp_path / "eq")[0], files)
    assert before < 0.7 < 0.98 <= after


def test_ranges_of_both_layers_are_alike_in_each_channel(tmp_path):
    files = trained("residual")
    damaged = changed(files.network, tmp_path / "damaged.onnx", unbalanced(octaves=3))
    network = Network.load(applied("equalise", damaged, files, tmp_path / "e")[0])
    for pair in pairs(network):
        made = np.abs(network.weight(pair.first).reshape(pair.first.outputs, -1)).max(axis=1)
        read = np.abs(input_columns(pair.second, network.weight(pair.second))).max(axis=1)
        np.testing.assert_allclose(made, read, rtol=1e-2)


def test_relu6_is_left_alone_by_default(tmp_path):
    files = trained("depthwise")
    network = Network.load(prepare(files.network, PassContext(work=tmp_path)))
    found = {(pair.first.name, pair.second.name) for pair in pairs(network)}
    assert found == {
        ("/features/features.9/Conv", "/features/features.11/Conv"),
        ("/features/features.17/Conv", "/head/Gemm"),
    }
    equalised, report = applied("equalise", files.network, files, tmp_path / "e")
    assert report.notes == ("equalised 2 pairs of layers",)
    np.testing.assert_allclose(
        outputs(equalised, files.evaluation), outputs(files.network, files.evaluation), rtol=1e-5, atol=2e-5
    )


def test_a_flattened_picture_gives_its_channels_scales_to_all_their_places(tmp_path):
    rng = np.random.default_rng(0)
    weights = [
        constant("k", rng.standard_normal((3, 1, 3, 3)) * [[[[100.0]]], [[[1.0]]], [[[0.01]]]]),
        constant("w", rng.standard_normal((3 * 16, 5))),
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "k"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("LeakyRelu", ["c"], ["r"], name="leaky"),
        onnx.helper.make_node("Flatten", ["r"], ["f"], name="flat"),
        onnx.helper.make_node("Gemm", ["f", "w"], ["y"], name="dense"),
    ]
    path = save(tmp_path / "flat.onnx", nodes, {"x": ("N", 1, 4, 4)}, {"y": ("N", 5)}, weights)
    write_samples(str(tmp_path / "s.npz"), {"input:x": rng.standard_normal((4, 1, 1, 4, 4)).astype(np.float32)})
    Equalise(Options()).apply(path, tmp_path / "e.onnx", PassContext(work=tmp_path))
    wanted, found = (outputs(file, tmp_path / "s.npz") for file in (path, tmp_path / "e.onnx"))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    largest = np.abs(Network.load(tmp_path / "e.onnx").weight(pairs(Network.load(path))[0].first)).max(axis=(1, 2, 3))
    assert largest.max() / largest.min() < 1000 < 100 / 0.01


def test_high_biases_are_absorbed_where_batch_norm_says_so(tmp_path):
    rng = np.random.default_rng(0)
    weights = [
        constant("k", rng.standard_normal((4, 1, 1, 1))),
        constant("w", rng.standard_normal((2, 4, 1, 1))),
        constant("scale", np.full(4, 0.1)),
        constant("shift", [5.0, 0.0, 5.0, -5.0]),
        constant("zero", np.zeros(4)),
        constant("one", np.ones(4)),
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "k"], ["c"], name="first"),
        onnx.helper.make_node("BatchNormalization", ["c", "scale", "shift", "zero", "one"], ["n"], name="norm"),
        onnx.helper.make_node("Relu", ["n"], ["r"], name="relu"),
        onnx.helper.make_node("Conv", ["r", "w"], ["y"], name="second"),
    ]
    path = save(tmp_path / "high.onnx", nodes, {"x": ("N", 1, 4, 4)}, {"y": ("N", 2, 4, 4)}, weights)
    write_samples(str(tmp_path / "s.npz"), {"input:x": rng.standard_normal((8, 1, 1, 4, 4)).astype(np.float32)})
    report = Equalise(Options(absorb=True)).apply(path, tmp_path / "e.onnx", PassContext(work=tmp_path))
    assert report.notes == ("equalised 1 pairs of layers", "absorbed the biases of 2 channels")
    wanted, found = (outputs(file, tmp_path / "s.npz") for file in (path, tmp_path / "e.onnx"))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    plain = Network.load(prepare(path, PassContext(work=tmp_path)))
    absorbed = Network.load(tmp_path / "e.onnx")
    gain = np.abs(absorbed.weight(absorbed.layers[0])).ravel() / np.abs(plain.weight(plain.layers[0])).ravel()
    biases = absorbed.bias(absorbed.layers[0]) / gain
    np.testing.assert_allclose(biases, [0.3, 0.0, 0.3, -5.0], atol=1e-4)


def test_networks_without_neighbouring_layers_are_refused(tmp_path):
    with pytest.raises(PassError, match="no two layers"):
        applied("equalise", trained("recurrent").network, trained("recurrent"), tmp_path)


def test_relu6_that_is_really_reached_drops_the_variant(tmp_path):
    from edgeopt.core.recipe import PassSpec, Recipe
    from edgeopt.passes.make import MakeContext, make_variant

    files = trained("depthwise")
    reached = changed(files.network, tmp_path / "reached.onnx", _driven_into_the_bound)
    context = MakeContext(golden=_golden(files, tmp_path), cache=tmp_path / "cache", calibration=files.calibration)
    with pytest.raises(ParityError, match=f"{EXACT}"):
        make_variant(reached, Recipe("r", (PassSpec("equalise", {"replace_clip": True}),)), context)


def _driven_into_the_bound(network):
    first = network.layers[0]
    network.set_weight(first, 8 * network.weight(first))


def _golden(files, tmp_path):
    from edgeopt_runner.protocol.samples import SampleFile

    images = np.stack([sample.inputs["image"] for sample in SampleFile(str(files.calibration)).read(8)])
    write_samples(str(tmp_path / "golden.npz"), {"input:image": images})
    return tmp_path / "golden.npz"


def test_no_sweeps_are_refused():
    with pytest.raises(ValueError, match="sweeps is 0"):
        Options(sweeps=0)
