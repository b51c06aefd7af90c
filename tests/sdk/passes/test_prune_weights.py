import gzip

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
from edgeopt.passes.pruning.pace import Choice, zeros_at
from edgeopt.passes.pruning.sparsity import Rule, chosen, magnitudes
from edgeopt.passes.quantising.torch_weights import LayerWeight
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import top1
from support.trained import trained

TRAINING = {"epochs": 4, "learning_rate": 3e-3}


def pruned(files, work, *, labels=True, samples=True, keep=(), checkpoint=None, **options):
    """The file with zeros and the report."""
    work.mkdir(parents=True, exist_ok=True)
    context = PassContext(
        work=work,
        calibration=files.calibration if samples else None,
        training=files.training if labels and samples else None,
        original=files.network,
        keep_float=keep,
        checkpoint=checkpoint,
    )
    report = load_pass(PassSpec("prune_weights", options)).apply(files.network, work / "pruned.onnx", context)
    return work / "pruned.onnx", report


def weights_of(path, work):
    """Weights by node, each [outputs, inputs, ...]."""
    work.mkdir(parents=True, exist_ok=True)
    model = onnx.load(prepare(path, PassContext(work=work)))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kinds = {node.name: node.op_type for node in model.graph.node}
    found = {}
    for weight in constant_weights(model):
        values = tensors[weight.name]
        turned = kinds[weight.node] in ("Gemm", "MatMul") and weight.axes == (1,)
        found.setdefault(weight.node, []).append(values.T if turned else values)
    return found


def zeros(path, work):
    """How many weights are zero, and of how many."""
    arrays = [array for found in weights_of(path, work).values() for array in found]
    return sum(int((array == 0).sum()) for array in arrays), sum(array.size for array in arrays)


@pytest.mark.parametrize("importance", ["magnitude", "gradient", "taylor"])
@pytest.mark.parametrize("name", ["residual", "depthwise", "transformer", "recurrent"])
def test_the_sparsity_that_was_asked_for_is_reached_exactly(name, importance, tmp_path):
    files = trained(name)
    path, report = pruned(files, tmp_path, sparsity=0.37, importance=importance)
    zero, total = zeros(path, tmp_path)
    assert zero == round(0.37 * total)
    assert "37.0% of the weights" in report.notes[0]


def test_each_layer_has_its_share_where_that_is_wanted(tmp_path):
    path, _ = pruned(trained("residual"), tmp_path, scope="layer", sparsity=0.6)
    for node, arrays in weights_of(path, tmp_path).items():
        assert (arrays[0] == 0).sum() == round(0.6 * arrays[0].size), node


def test_half_of_the_least_weights_do_little(tmp_path):
    files = trained("residual")
    path, _ = pruned(files, tmp_path, samples=False)
    assert top1(path, files) >= files.top1 - 0.01


def test_gradients_tell_more_than_magnitudes_in_a_recurrent_network(tmp_path):
    files = trained("recurrent")
    by_size, _ = pruned(files, tmp_path / "a", importance="magnitude")
    by_gradient, _ = pruned(files, tmp_path / "b", importance="taylor")
    unlabelled, _ = pruned(files, tmp_path / "c", importance="taylor", labels=False)
    assert top1(by_gradient, files) > top1(by_size, files) + 0.05
    assert top1(unlabelled, files) > top1(by_size, files) + 0.05


@pytest.mark.parametrize(("name", "kept", "group"), [("residual", 2, 4), ("transformer", 2, 4), ("recurrent", 1, 8)])
def test_a_pattern_holds_in_every_group_of_input_channels(name, kept, group, tmp_path):
    path, report = pruned(trained(name), tmp_path, pattern=f"{kept}:{group}", samples=False)
    checked = 0
    for node, arrays in weights_of(path, tmp_path).items():
        if any(node in note for note in report.notes[1:]):
            continue
        for array in arrays:
            inputs = array[0] if name == "recurrent" and array.ndim == 3 else array
            groups = np.moveaxis(inputs, 1, -1).reshape(-1, group)
            assert ((groups != 0).sum(1) == kept).all(), node
            checked += 1
    assert checked >= 2


def test_layers_that_a_pattern_does_not_divide_are_named(tmp_path):
    _, report = pruned(trained("residual"), tmp_path, pattern="2:4", samples=False)
    assert "skipped 1 of 8 layers: /stem/stem.0/Conv (input channels that 4 does not divide)" in report.notes


def test_neurons_go_whole_and_outputs_stay(tmp_path):
    path, report = pruned(trained("residual"), tmp_path, unit="neurons", scope="layer", sparsity=0.25, samples=False)
    assert any("/head/Gemm (its neurons are the outputs)" in note for note in report.notes)
    for node, (array, *_) in weights_of(path, tmp_path).items():
        dead = (array.reshape(len(array), -1) == 0).all(1).sum()
        assert dead == (0 if node == "/head/Gemm" else round(0.25 * len(array))), node


def test_pruning_while_training_keeps_what_pruning_at_once_loses(tmp_path):
    files = trained("residual")
    at_once, _ = pruned(files, tmp_path / "a", sparsity=0.8, samples=False)
    gradual, _ = pruned(files, tmp_path / "b", sparsity=0.8, pace="gradual", **TRAINING)
    zero, total = zeros(gradual, tmp_path)
    assert zero == round(0.8 * total)
    assert top1(at_once, files) < 0.5
    assert top1(gradual, files) >= files.top1 - 0.015
    assert len(gzip.compress(gradual.read_bytes())) < 0.5 * len(gzip.compress(files.network.read_bytes()))


def test_a_pattern_recovers_without_labels(tmp_path):
    files = trained("residual")
    at_once, _ = pruned(files, tmp_path / "a", pattern="2:4", samples=False)
    options = {"epochs": 12, "learning_rate": 3e-3}
    gradual, report = pruned(files, tmp_path / "b", labels=False, pattern="2:4", pace="gradual", **options)
    assert top1(gradual, files) > top1(at_once, files) + 0.1
    for node, (array, *_) in weights_of(gradual, tmp_path).items():
        if not any(node in note for note in report.notes[1:]):
            assert ((np.moveaxis(array, 1, -1).reshape(-1, 4) != 0).sum(1) <= 2).all(), node


def test_a_training_that_was_interrupted_ends_in_the_same_zeros(tmp_path, monkeypatch):
    files, options = trained("residual"), {"sparsity": 0.8, "pace": "gradual", "epochs": 3, "labels": False}
    whole, _ = pruned(files, tmp_path / "whole", **options)

    def interrupted(choice, network, step, steps):
        if step == 6:  # in the second of three epochs, of four steps each, while zeros still grow
            raise KeyboardInterrupt
        after_step(choice, network, step, steps)

    after_step, checkpoint = Choice.after_step, tmp_path / "state.pt"
    monkeypatch.setattr(Choice, "after_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pruned(files, tmp_path / "half", checkpoint=checkpoint, **options)
    assert checkpoint.exists()
    monkeypatch.undo()
    resumed, _ = pruned(files, tmp_path / "resumed", checkpoint=checkpoint, **options)
    assert resumed.read_bytes() == whole.read_bytes()


def test_the_network_keeps_its_form(tmp_path):
    files = trained("residual")
    path, _ = pruned(files, tmp_path, samples=False)
    before, after = onnx.load(files.network).graph, onnx.load(path).graph
    assert [value.name for value in after.input] == [value.name for value in before.input]
    kinds = [[node.op_type for node in graph.node].count("BatchNormalization") for graph in (before, after)]
    assert kinds[0] == kinds[1] > 0


def test_kept_layers_lose_nothing(tmp_path):
    path, report = pruned(trained("residual"), tmp_path, keep=("/head/Gemm",), samples=False)
    assert (weights_of(path, tmp_path)["/head/Gemm"][0] != 0).all()
    assert any("/head/Gemm (kept)" in note for note in report.notes)


def two_layers():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    with torch.no_grad():
        network[1].weight.mul_(100)
    return network, [LayerWeight("0.weight", "0"), LayerWeight("1.weight", "1")]


def test_no_layer_is_emptied():
    network, weights = two_layers()
    masks = chosen(network, weights, magnitudes(network, weights), 0.55, Rule())
    assert masks["0.weight"].sum() == 1


def test_what_is_zero_already_counts():
    network, weights = two_layers()
    with torch.no_grad():
        network[1].weight[:4] = 0
    masks = chosen(network, weights, magnitudes(network, weights), 0.25, Rule())
    assert not masks["1.weight"][:4].any()
    assert masks["1.weight"][4:].all()
    assert masks["0.weight"].all()


def test_zeros_grow_fast_at_first_and_slowly_at_the_end():
    shares = [zeros_at(progress, 0.1, 0.9) for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[-1] == 0.9
    steps = np.diff(shares)
    assert (np.diff(steps) < 0).all()
    assert (steps > 0).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({"pattern": "4:2"}, "pattern is '4:2'"),
        ({"pattern": "half"}, "pattern is 'half'"),
        ({"pattern": "2:4", "unit": "neurons"}, "neurons go whole"),
        ({"ramp": 1.0}, "ramp is 1.0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(PassError, match=named):
        load_pass(PassSpec("prune_weights", options))


@pytest.mark.parametrize("options", [{"importance": "taylor"}, {"pace": "gradual"}])
def test_samples_are_asked_for_where_they_are_needed(options, tmp_path):
    with pytest.raises(PassError, match="needs samples"):
        pruned(trained("residual"), tmp_path, samples=False, **options)


def test_a_network_that_a_pattern_fits_nowhere_is_refused(tmp_path):
    with pytest.raises(PassError, match="no layer can be pruned so"):
        pruned(trained("recurrent"), tmp_path, pattern="5:7", samples=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    files = trained("recurrent")
    check(Case("prune_weights", files.network, files.evaluation, tmp_path, training=files.calibration))
