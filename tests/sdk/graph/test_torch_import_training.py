"""Networks taken from ONNX into torch are ones of torch: copied, trained, pruned and written again."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import onnx
import pytest
import torch
import torch_pruning
from onnx import helper
from torch import nn

from edgeopt.graph.session import open_session
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from edgeopt_runner.protocol.samples import SampleFile
from support.importing import demand_parity, draw, names_of
from support.networks import constant, save
from support.trained import NETWORKS, trained


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    samples = list(SampleFile(str(trained("residual").training)).read(count))
    return np.concatenate([s.inputs["image"] for s in samples]), np.concatenate([s.label for s in samples]).reshape(-1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_is_a_network_of_its_own(name):
    network = import_onnx(trained(name).network)
    inputs = torch.randn(2, 1, 8, 8)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other.layer_names == network.layer_names
        assert (other.input_names, other.output_names) == (("image",), ("logits",))
        with torch.no_grad():
            torch.testing.assert_close(other(inputs), network(inputs))
            next(other.parameters()).zero_()
            assert not torch.allclose(other(inputs), network(inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_changes_every_layer_and_lowers_the_loss(name):
    network = import_onnx(trained(name).network)
    images, labels = (torch.from_numpy(value) for value in pictures(64))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    before = {key: value.clone() for key, value in network.named_parameters()}
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(not torch.equal(before[key], value) for key, value in network.named_parameters())


def test_a_constant_reshape_survives_the_pruning_of_channels(tmp_path):
    weights = [constant("w", draw(8, 1, 3, 3)), constant("v", draw(8 * 36, 4)), constant("to", [-1, 288], np.int64)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["s"], "relu"),
        helper.make_node("Reshape", ["s", "to"], ["f"], "reshape"),
        helper.make_node("Gemm", ["f", "v"], ["y"], "fc"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 1, 8, 8)}, {"y": ("N", 4)}, weights)
    network = import_onnx(path)
    graph = torch_pruning.DependencyGraph().build_dependency(network, torch.randn(2, 1, 8, 8))
    graph.get_pruning_group(network.conv, torch_pruning.prune_conv_out_channels, [1, 5]).prune()
    assert network(torch.randn(3, 1, 8, 8)).shape == (3, 4)
    export_onnx(network, path, tmp_path / "pruned.onnx")
    shapes = {tuple(weight.dims) for weight in onnx.load(tmp_path / "pruned.onnx").graph.initializer}
    assert {(6, 1, 3, 3), (6 * 36, 4)} == shapes - {(0,), (2,)}


@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_pruned_networks_are_written_smaller(tmp_path, name):
    path = trained(name).network
    network = import_onnx(path)
    example = torch.randn(2, 1, 8, 8)
    head = next(module for module in network.modules() if isinstance(module, nn.Linear))
    pruner = torch_pruning.pruner.BasePruner(
        network, example, torch_pruning.importance.MagnitudeImportance(p=2), pruning_ratio=0.5, ignored_layers=[head]
    )
    pruner.step()
    pruned = tmp_path / "pruned.onnx"
    export_onnx(network, path, pruned)
    assert pruned.stat().st_size < 0.55 * path.stat().st_size
    session = open_session(pruned)
    assert (session.get_inputs()[0].shape, session.get_outputs()[0].shape) == (["batch", 1, 8, 8], ["batch", 10])
    demand_parity(pruned, import_onnx(pruned), draw(3, 1, 8, 8))
    assert names_of(pruned) == [name for name in names_of(path) if name in names_of(pruned)]
