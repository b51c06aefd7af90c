import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import DataError, PassError
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes.recovery.kept_channels import kept_by_outputs, kept_by_weights
from edgeopt.passes.recovery.least_squares import (
    NormalEquations,
    add_to_layer,
    columns_of,
    groups_of,
    input_rows,
    output_rows,
    positions_of,
)
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import outputs, top1
from support.recovering import apply, pruned, spoilt
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    check(Case("refit", files.network, files.calibration, tmp_path, training=files.training))


@pytest.mark.parametrize(
    ("name", "least", "count"), [("residual", 0.96, 8), ("depthwise", 0.85, 8), ("transformer", 0.93, 14)]
)
def test_brings_a_network_without_half_its_channels_back_without_labels(name, least, count, tmp_path):
    files, half = trained(name), tmp_path / "half.onnx"
    apply("prune_channels", files.network, files, half, ratio=0.5, ranking="layer")
    report = apply("refit", half, files, tmp_path / "result.onnx")
    assert top1(half, files) < 0.7
    assert top1(tmp_path / "result.onnx", files) > least
    assert report.notes == (f"refitted {count} layers to the original's outputs",)


def test_layers_that_are_not_linear_in_their_weights_are_skipped_and_told(tmp_path):
    files = trained("recurrent")
    report = apply("refit", files.network, files, tmp_path / "result.onnx")
    assert report.notes[0] == "refitted 1 layers to the original's outputs"
    assert "skipped 1 of 2 layers: /lstm/LSTM (" in report.notes[1]
    assert top1(tmp_path / "result.onnx", files) > 0.9


def test_weights_that_were_changed_after_pruning_are_recognised_by_outputs(tmp_path):
    files = trained("residual")
    network = import_onnx(pruned(files, tmp_path / "pruned.onnx", 0.25))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(1.01)
    export_onnx(network, like=files.network, destination=tmp_path / "changed.onnx")
    apply("refit", tmp_path / "changed.onnx", files, tmp_path / "result.onnx")
    assert top1(tmp_path / "result.onnx", files) > 0.95


def test_outputs_come_closer_where_coarse_weights_moved_them(tmp_path):
    files = trained("transformer")
    network = import_onnx(files.network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                step = module.weight.abs().max() / 3
                module.weight.copy_((module.weight / step).round() * step)
    export_onnx(network, like=files.network, destination=tmp_path / "coarse.onnx")
    apply("refit", tmp_path / "coarse.onnx", files, tmp_path / "result.onnx")
    exact = outputs(files.network, files.evaluation)
    lost, left = (
        np.square(outputs(tmp_path / f"{x}.onnx", files.evaluation) - exact).mean() for x in ("coarse", "result")
    )
    assert left < 0.1 * lost


def test_layers_with_other_names_are_skipped_and_told(tmp_path):
    files = trained("residual")
    model = onnx.load(pruned(files, tmp_path / "pruned.onnx", 0.5))
    next(node for node in model.graph.node if node.op_type == "Gemm").name = "renamed"
    onnx.save(model, tmp_path / "renamed.onnx")
    report = apply("refit", tmp_path / "renamed.onnx", files, tmp_path / "result.onnx")
    assert report.notes[1] == "skipped 1 of 8 layers: renamed (the original has no layer of this name)"


def test_no_common_name_is_an_error_that_says_why(tmp_path):
    files = trained("residual")
    model = onnx.load(files.network)
    for index, node in enumerate(model.graph.node):
        node.name = f"other_{index}"
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(PassError, match=r"no layer could be refitted: other_\d+ \(the original has no layer"):
        apply("refit", tmp_path / "renamed.onnx", files, tmp_path / "result.onnx")


def test_a_sample_that_is_not_finite_is_named(tmp_path):
    files = trained("residual")
    with pytest.raises(DataError, match=r"sample 3 .* holds nan"):
        apply("refit", files.network, files, tmp_path / "r.onnx", calibration=spoilt(files, tmp_path / "s.npz"))


def test_layers_stay_for_which_no_time_is_left(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match=r"no layer could be refitted: .*no time left"):
        apply("refit", files.network, files, tmp_path / "result.onnx", max_seconds=1e-9)


@pytest.mark.parametrize("options", [{"ridge": 0.0}, {"positions": 0}, {"samples": 0}, {"max_seconds": 0}])
def test_nonsense_is_refused_with_the_value(options):
    with pytest.raises(PassError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        load_pass(PassSpec("refit", options))


LAYERS = {
    "linear": (nn.Linear(6, 4), (32, 5, 6)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (32, 4, 9, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, dilation=2, bias=False), (32, 4, 9, 9)),
    "depthwise": (nn.Conv2d(4, 4, (1, 3), padding=(0, 2), groups=4), (32, 4, 6, 6)),
    "one dimension": (nn.Conv1d(3, 5, 3, stride=2, padding=1), (32, 3, 21)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_least_squares_find_the_layer_that_made_the_outputs(kind):
    torch.manual_seed(0)
    truth, shape = LAYERS[kind]
    layer, inputs = copy.deepcopy(truth), torch.randn(shape)
    with torch.no_grad():
        layer.weight.normal_()
        wanted = truth(inputs)
        lacking = wanted - layer(inputs)
        places = torch.arange(positions_of(layer, wanted))
        equations = NormalEquations(groups_of(layer), columns_of(layer), len(layer.weight) // groups_of(layer))
        equations.add(input_rows(layer, inputs, places), output_rows(layer, lacking, places))
        add_to_layer(layer, equations.change(1e-9, bias=layer.bias is not None))
        assert torch.allclose(layer.weight, truth.weight, atol=1e-4)
        assert torch.allclose(layer(inputs), wanted, atol=1e-3)


def test_a_ridge_keeps_weights_that_no_data_speak_of():
    equations = NormalEquations(1, 2, 1)
    rows = torch.tensor([[[1.0, 0.0]] * 10])
    equations.add(rows, torch.full((1, 10, 1), 2.0))
    change = equations.change(1e-6, bias=False)
    assert change[0, :, 0].tolist() == pytest.approx([2.0, 0.0, 0.0], abs=1e-4)


def test_kept_rows_are_found_whichever_columns_are_gone():
    torch.manual_seed(0)
    original = torch.randn(20, 12, 3, 3)
    kept = [0, 3, 4, 11, 19]
    assert kept_by_weights(original, original[kept][:, [1, 5, 7]]) == kept
    assert kept_by_weights(original, original[kept][:, [1, 5, 7]] * 1.01) is None


def test_rows_on_a_coarse_grid_are_not_guessed():
    torch.manual_seed(0)
    original = torch.randn(20, 12, 3, 3).sign()
    assert kept_by_weights(original, original[[2, 5]][:, :6]) is None


def test_kept_channels_are_found_by_outputs_and_noise_is_refused():
    torch.manual_seed(0)
    original = torch.randn(200, 20)
    kept = [1, 2, 8, 15]
    noisy = original[:, kept] * 3 + 1 + torch.randn(200, 4)
    assert kept_by_outputs([(original[:100], noisy[:100]), (original[100:], noisy[100:])]) == kept
    assert kept_by_outputs([(original, torch.randn(200, 4))]) is None
