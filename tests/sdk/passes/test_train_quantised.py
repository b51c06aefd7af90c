import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.weights import constant_weights
from edgeopt.passes.quantising.fake_quantisation import Activation, Quantised, Rounding
from edgeopt.passes.quantising.grid import exact, smallest
from edgeopt.passes.quantising.torch_weights import layer_weights
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import applied, changed, outputs, top1, unbalanced
from support.trained import module_of, trained

SHORT = {"epochs": 4, "learning_rate": 2e-3}


def quantised(files, work, *, source=None, labels=True, samples=True, keep=(), isa=("avx2",), **options):
    """The file with trained weights and the report."""
    work.mkdir(parents=True, exist_ok=True)
    context = PassContext(
        work=work,
        calibration=files.calibration if samples else None,
        training=files.training if labels and samples else None,
        original=files.network,
        keep_float=keep,
        isa=isa,
    )
    step = load_pass(PassSpec("train_quantised", {**SHORT, **options}))
    report = step.apply(source or files.network, work / "trained.onnx", context)
    return work / "trained.onnx", report


def weights_of(path, work):
    """Weights with their axes, by node."""
    work.mkdir(parents=True, exist_ok=True)
    model = onnx.load(prepare(path, PassContext(work=work)))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for weight in constant_weights(model):
        found.setdefault(weight.node, []).append((tensors[weight.name], weight.axes))
    return found


def bits_of(path, work):
    """The smallest grid that a layer's weights lie on, by node; 0: none."""
    grids = {node: [smallest(*weight) for weight in weights] for node, weights in weights_of(path, work).items()}
    return {node: max(grid.bits if grid else 0 for grid in found) for node, found in grids.items()}


def test_int8_keeps_the_accuracy_that_rounding_alone_loses(tmp_path):
    files = trained("residual")
    source = changed(files.network, tmp_path / "unbalanced.onnx", unbalanced(2.5))
    rounded, _ = applied("quantise_static", source, files, tmp_path / "ptq", per_channel=False)
    path, report = quantised(files, tmp_path / "qat", source=source, per_channel=False, epochs=5, learning_rate=1e-3)
    exported, _ = applied("quantise_static", path, files, tmp_path / "int8", per_channel=False)
    assert top1(source, files) == files.top1
    assert top1(rounded, files) < files.top1 - 0.1
    assert top1(exported, files) >= files.top1 - 0.003
    assert "quantise_static stores them so" in report.notes[-1]


def test_channels_of_very_different_range_are_evened_out_first(tmp_path):
    files = trained("depthwise")
    relus, _ = applied("equalise", files.network, files, tmp_path / "relus", replace_clip=True)
    source = changed(relus, tmp_path / "uneven.onnx", unbalanced(2))
    rounded, _ = applied("quantise_static", source, files, tmp_path / "ptq")
    path, _ = quantised(files, tmp_path / "qat", source=source, learning_rate=1e-3)
    exported, _ = applied("quantise_static", path, files, tmp_path / "int8")
    assert top1(rounded, files) < files.top1 - 0.1
    assert top1(exported, files) >= files.top1 - 0.003
    path, _ = quantised(files, tmp_path / "alone", source=source, learning_rate=1e-3, equalise=False)
    alone, _ = applied("quantise_static", path, files, tmp_path / "int8-alone")
    assert top1(rounded, files) < top1(alone, files) < top1(exported, files)


def test_a_step_is_as_long_in_a_channel_of_large_weights():
    inputs, factor = torch.rand(16, 3), torch.tensor([1.0, 64.0])
    small, large = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    with torch.no_grad():
        large.weight.copy_(small.weight * factor[:, None])
        large.bias.copy_(small.bias * factor)
    for network, unit in ((small, torch.ones(2)), (large, factor)):
        holder = torch.nn.Sequential(network)
        model = Quantised(holder, [Rounding(weight, 8) for weight in layer_weights(holder)], activations=False)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        for _ in range(5):
            optimiser.zero_grad()
            (model(inputs) / unit).sub(1).square().sum().backward()
            optimiser.step()
        model.bake()
    assert torch.allclose(large.weight / factor[:, None], small.weight, atol=1e-5)
    assert torch.allclose(large.bias / factor, small.bias, atol=1e-5)


def test_weights_of_four_bits_keep_the_accuracy_without_labels(tmp_path):
    files = trained("depthwise")
    path, report = quantised(files, tmp_path, labels=False, bits=4, activation_bits=0)
    packed, _ = applied("pack_weights", path, files, tmp_path / "packed")
    assert np.allclose(outputs(packed, files.evaluation), outputs(path, files.evaluation), atol=1e-4)
    assert top1(packed, files) >= files.top1 - 0.01
    assert packed.stat().st_size < files.network.stat().st_size / 2.5
    assert "without labels" in report.notes[-1]


def test_two_bits_are_stored_in_two_and_run_in_eight(tmp_path):
    files = trained("residual")
    path, _ = quantised(files, tmp_path, bits=2)
    untrained, _ = applied("pack_weights", files.network, files, tmp_path / "untrained", bits=2)
    integers, _ = applied("quantise_static", path, files, tmp_path / "int8")
    packed, _ = applied("pack_weights", integers, files, tmp_path / "packed")
    assert top1(untrained, files) < 0.8
    assert top1(packed, files) >= files.top1 - 0.015
    assert np.array_equal(outputs(packed, files.evaluation), outputs(integers, files.evaluation))
    assert packed.stat().st_size < files.network.stat().st_size / 3.5


def test_binary_weights_are_far_better_trained_than_rounded(tmp_path):
    files = trained("residual")
    path, _ = quantised(files, tmp_path, bits=1, activation_bits=0)
    packed, _ = applied("pack_weights", path, files, tmp_path / "packed")
    rounded, _ = applied("pack_weights", files.network, files, tmp_path / "rounded", bits=1)
    assert top1(rounded, files) < 0.6
    assert top1(packed, files) >= files.top1 - 0.03
    assert packed.stat().st_size < files.network.stat().st_size / 8


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_weights_lie_exactly_on_the_grid_and_ends_on_that_of_8_bits(bits, tmp_path):
    path, report = quantised(trained("residual"), tmp_path, labels=False, bits=bits, epochs=1)
    found = bits_of(path, tmp_path / "found")
    ends = {"/stem/stem.0/Conv", "/head/Gemm"}
    assert len(found) == 8
    assert {found[node] for node in ends} == {8}
    assert {one for node, one in found.items() if node not in ends} == {bits}
    assert f"layers in {bits} bits" in report.notes[-1]


def test_batch_norms_are_folded_before_the_grid_is_drawn(tmp_path):
    path, _ = quantised(trained("residual"), tmp_path, labels=False, epochs=1)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(("isa", "reduced"), [(("avx2",), True), (("avx2", "avx512_vnni"), False)])
def test_where_products_saturate_weights_have_seven_bits(isa, reduced, tmp_path):
    path, _ = quantised(trained("residual"), tmp_path, labels=False, epochs=1, isa=isa)
    for node, [(weight, axes)] in weights_of(path, tmp_path / "found").items():
        assert exact(weight, 8, axes, reduced=reduced) is not None, node


def test_recurrent_weights_are_trained_too(tmp_path):
    files = trained("recurrent")
    path, _ = quantised(files, tmp_path, bits=2, activation_bits=0)
    rounded, _ = applied("pack_weights", files.network, files, tmp_path / "rounded", bits=2)
    assert bits_of(path, tmp_path / "found")["/lstm/LSTM"] == 2
    assert top1(path, files) > top1(rounded, files) + 0.1


def test_pruned_weights_stay_zero(tmp_path):
    files = trained("residual")
    context = PassContext(work=tmp_path)
    load_pass(PassSpec("prune_weights", {})).apply(files.network, tmp_path / "sparse.onnx", context)
    path, _ = quantised(files, tmp_path / "qat", source=tmp_path / "sparse.onnx", labels=False, bits=4)
    before = weights_of(tmp_path / "sparse.onnx", tmp_path / "before")
    after = weights_of(path, tmp_path / "after")
    assert all(not after[node][0][0][before[node][0][0] == 0].any() for node in before)
    assert sum(int((weights[0][0] == 0).sum()) for weights in before.values()) > 10_000


def test_kept_layers_stay_real(tmp_path):
    kept = "/blocks/blocks.0/conv1/Conv"
    path, report = quantised(trained("residual"), tmp_path, labels=False, bits=4, epochs=1, keep=(kept,))
    found = bits_of(path, tmp_path / "found")
    assert found[kept] == 0
    assert found["/blocks/blocks.0/conv2/Conv"] == 4
    assert report.kept_float == (kept,)


def test_gradients_go_straight_through_to_the_real_weights():
    network = module_of("residual")
    weights = layer_weights(network)
    model = Quantised(network, [Rounding(weight, 1) for weight in weights], activations=False)
    model(torch.rand(4, 1, 8, 8)).square().sum().backward()
    assert all(bool(weight.of(network).grad.any()) for weight in weights)


def test_a_network_is_left_as_it_was_but_for_its_weights():
    network, inputs = module_of("residual"), torch.rand(4, 1, 8, 8)
    names, wanted = list(network.state_dict()), network(inputs)
    model = Quantised(network, [Rounding(weight, 8) for weight in layer_weights(network)], activations=True)
    model.observe([(inputs,)])
    assert len(model.ranges) > 8
    model.eval().bake()
    assert list(network.state_dict()) == names
    assert torch.allclose(network(inputs), wanted, atol=0.2)
    assert not torch.equal(network(inputs), wanted)


def test_activations_are_rounded_to_the_range_that_was_seen():
    activation = Activation()
    activation.observing = True
    activation(torch.tensor([-1.0, 0.5, 4.1]))
    activation.observing = False
    activation.eval()
    rounded = activation(torch.linspace(-2, 6, 5000))
    assert len(rounded.unique()) == 256
    assert float(rounded.min()) == pytest.approx(-1, abs=0.02)
    assert float(rounded.max()) == pytest.approx(4.1, abs=0.02)
    assert float(activation(torch.zeros(()))) == 0


def test_ranges_follow_what_training_sees():
    activation = Activation()
    activation.high.fill_(1.0)
    for _ in range(300):
        activation(torch.tensor([0.0, 5.0]))
    assert float(activation.high) == pytest.approx(5, abs=0.3)


def test_samples_are_asked_for(tmp_path):
    with pytest.raises(PassError, match="needs samples"):
        quantised(trained("residual"), tmp_path, samples=False)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"bits": 3}, "bits=3"), ({"epochs": 0}, "epochs is 0"), ({"learning_rate": -1.0}, "learning_rate is -1.0")],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(PassError, match=named):
        load_pass(PassSpec("train_quantised", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    files = trained("depthwise")
    options = {"bits": 4, "epochs": 1}
    check(Case("train_quantised", files.network, files.evaluation, tmp_path, options, training=files.calibration))
