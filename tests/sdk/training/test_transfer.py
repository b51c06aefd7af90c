"""Freezing, features and parameter transfer do what they say, on networks that were trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeopt.errors import PassError
from edgeopt.graph.torch_import import import_onnx
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.transfer import features, freeze, freeze_trunk, layers_of, transfer
from support.trained import module_of, trained
from support.training import digits, fresh, same, small, top1


def test_a_prefix_freezes_all_below_it_and_nothing_beside() -> None:
    network = fresh("residual")
    frozen = freeze(network, ["stem", "blocks.0"])
    assert frozen
    assert all(name.startswith(("stem.", "blocks.0.")) for name in frozen)
    assert network.head.weight.requires_grad
    assert network.blocks[1].conv1.weight.requires_grad


def test_a_network_from_a_file_freezes_by_the_names_of_its_nodes() -> None:
    network = import_onnx(trained("residual").network)
    frozen = freeze(network, ["/blocks/blocks.0", "/stem"], network.layer_names)
    assert {network.layer_names[name.rpartition(".")[0]].split("/")[1] for name in frozen} == {"blocks", "stem"}
    assert not any("blocks_1" in name for name in frozen)


def test_the_last_layers_alone_can_learn_with_the_normalisation_behind_them() -> None:
    network = fresh("residual")
    freeze_trunk(network, 2)
    learning = {name for name, tensor in network.named_parameters() if tensor.requires_grad}
    assert learning == {
        "blocks.1.shortcut.0.weight",
        "blocks.1.shortcut.0.bias",
        "blocks.1.shortcut.1.weight",
        "blocks.1.shortcut.1.bias",
        "head.weight",
        "head.bias",
    }


def test_what_cannot_be_frozen_is_told() -> None:
    with pytest.raises(PassError, match=r"no layer 'neck' to freeze\. Layers with weights: stem\.0, stem\.1"):
        freeze(small(), ["neck"])
    with pytest.raises(PassError, match=r"3 last layers .* 3 layers with weights\. Give train_last between 1 and 2"):
        freeze_trunk(small(), 3)
    assert layers_of(small()) == ("stem.0", "stem.1", "body.2", "body.3", "head")


def test_a_new_head_on_a_trunk_that_was_trained_learns_from_few_samples() -> None:
    network = module_of("residual")
    nn.init.zeros_(network.head.weight)
    before = network.stem[0].weight.clone()
    freeze_trunk(network, 1)
    options = TrainingOptions(epochs=6, batch_size=10, learning_rate=0.05, validation_share=0.0)
    train(network, digits(60), supervised(), options, seed=0)
    assert torch.equal(network.stem[0].weight, before)
    assert top1(network) > 0.9
    alone = fresh("residual")
    train(alone, digits(60), supervised(), options, seed=0)
    assert top1(alone) < top1(network), "the trunk's knowledge was of use"


def test_features_are_what_the_layer_gives() -> None:
    network, samples = module_of("residual"), digits(50)
    found = torch.cat(list(features(network, "blocks", samples, batch_size=16)))
    (images,), _ = samples.batch(range(50))
    assert torch.allclose(found, network.blocks(network.stem(images)), atol=1e-5)
    assert torch.allclose(network.head(found.mean((2, 3))), network(images), atol=1e-4)
    with pytest.raises(PassError, match="no layer 'block'"):
        next(features(network, "block", samples))
    network.idle = nn.Linear(1, 1)
    with pytest.raises(PassError, match="does not call its layer 'idle'"):
        next(features(network, "idle", samples))


def test_parameters_are_taken_over_where_name_and_shape_agree_and_all_else_is_reported() -> None:
    network, source = fresh("residual"), module_of("residual")
    network.head = nn.Linear(32, 4)
    network.neck = nn.Linear(2, 2)
    source.extra = nn.Linear(1, 1, bias=False)
    before = network.head.weight.clone()
    report = transfer(network, source)
    assert same(network.stem, source.stem)
    assert torch.equal(network.head.weight, before)
    assert report.reshaped == ("head.weight [10, 32], not [4, 32]", "head.bias [10], not [4]")
    assert report.missing == ("neck.weight", "neck.bias")
    assert report.unused == ("extra.weight",)
    total = len(network.state_dict())
    assert report.notes[0] == f"{total - 4} of {total} tensors taken over"
    assert report.notes[3] == "of the source not in the network: extra.weight"


def test_prefixes_of_wrappers_are_no_obstacle() -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in module_of("residual").state_dict().items()}
    network = fresh("residual")
    assert not transfer(network, wrapped).missing
    assert top1(network) == trained("residual").top1


def test_a_source_that_fits_nothing_or_is_no_state_is_told() -> None:
    with pytest.raises(
        PassError, match=r"nothing of the source fits: it has weight, bias, the network stem\.0\.weight"
    ):
        transfer(small(), nn.Linear(2, 2))
    with pytest.raises(PassError, match=r"not a tensor at 'epoch' but a int"):
        transfer(small(), {"epoch": 3})  # type: ignore[dict-item]
    with pytest.raises(PassError, match="empty"):
        transfer(small(), {})
