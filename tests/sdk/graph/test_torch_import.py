"""Whole networks taken from ONNX into torch: the same outputs, real layers, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session
from edgeopt.graph.torch_export import export_onnx, quiet
from edgeopt.graph.torch_import import import_onnx
from support import architectures
from support.importing import demand_parity, draw, names_of
from support.networks import constant, matmul_transformer_onnx, mlp_onnx, save, small_cnn_onnx
from support.trained import NETWORKS, module_of, trained


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_networks_give_the_same_at_any_batch(name):
    path = trained(name).network
    network = import_onnx(path)
    assert (network.input_names, network.output_names) == (("image",), ("logits",))
    assert not network.training
    for batch in (1, 3, 16):
        demand_parity(path, network, draw(batch, 1, 8, 8))


def test_layers_are_real_ones_and_know_their_node():
    network = import_onnx(trained("residual").network)
    kinds = [type(module).__name__ for module in network.modules()]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("Linear"), kinds.count("ReLU")) == (
        7,
        7,
        1,
        5,
    )
    nodes = {node.name: node.op_type for node in onnx.load(trained("residual").network).graph.node}
    assert nodes[network.layer_names["blocks_blocks_0_conv1_Conv"]] == "Conv"
    assert all(isinstance(network.get_submodule(path), nn.Module) for path in network.layer_names)
    assert set(network.layer_names.values()) <= set(nodes)


def test_a_linear_layer_takes_its_bias_in_and_a_recurrent_one_its_states():
    transformer, recurrent = (import_onnx(trained(name).network) for name in ("transformer", "recurrent"))
    layers = [module for module in transformer.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 14
    assert all(layer.bias is not None for layer in layers)
    assert [name for name, _ in transformer.named_parameters() if "." not in name] == ["place"]
    (lstm,) = (module for module in recurrent.modules() if isinstance(module, nn.LSTM))
    original = module_of("recurrent").lstm
    for name, value in original.named_parameters():
        torch.testing.assert_close(getattr(lstm, name), value)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("write", [small_cnn_onnx, mlp_onnx, matmul_transformer_onnx])
def test_hand_made_files_come_in(tmp_path, write, dynamic):
    path = write(tmp_path / "net.onnx", dynamic)
    network = import_onnx(path)
    shapes = [value.shape for value in open_session(path).get_inputs()]
    for batch in (1, 3) if dynamic else (1,):
        demand_parity(path, network, *(draw(batch, *shape[1:]) for shape in shapes))


def exported(built: Any, path: Path, *, dynamo: bool, dynamic: bool = True) -> Path:
    network, inputs = built
    names = list(inputs)
    inputs = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in inputs.items()} if dynamic else inputs
    if dynamo:
        shapes = {name: {0: "batch"} for name in names} if dynamic else None
        options = {"dynamo": True, "opset_version": 18, "dynamic_shapes": shapes, "external_data": False}
    else:
        axes = {name: {0: "batch"} for name in names} if dynamic else None
        options = {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
    with quiet():
        torch.onnx.export(network, (), path, kwargs=inputs, input_names=names, verbose=False, **options)
    return path


SMALL = {
    "efficientnet": lambda: architectures.efficientnet(32),
    "vit": lambda: architectures.vit(32, 64, 1),
    "encoder": lambda: architectures.encoder(32, 1),
    "lstm": lambda: architectures.lstm(12),
    "gru": lambda: architectures.gru(12),
    "unet": lambda: architectures.unet(32, 4),
    "two_inputs": lambda: architectures.two_inputs(32),
    "two_outputs": lambda: architectures.two_outputs(32),
    "sensor": lambda: architectures.sensor(8),
    "table": lambda: architectures.table(16),
}


@pytest.mark.parametrize("name", SMALL)
def test_architectures_of_the_older_exporter_give_the_same_and_come_back_the_same(tmp_path, name):
    path = exported(SMALL[name](), tmp_path / "net.onnx", dynamo=False)
    demand_round_trip(path, tmp_path)


@pytest.mark.parametrize("name", ["vit", "lstm"])
def test_architectures_of_the_newer_exporter_give_the_same_and_come_back_the_same(tmp_path, name):
    path = exported(SMALL[name](), tmp_path / "net.onnx", dynamo=True)
    demand_round_trip(path, tmp_path)


def demand_round_trip(path: Path, folder: Path) -> None:
    """The same outputs at two batches, in torch and written back; nothing grows the second time."""
    network = import_onnx(path)
    session = open_session(path)
    once, twice = folder / "once.onnx", folder / "twice.onnx"
    export_onnx(network, path, once)
    again = import_onnx(once)
    export_onnx(again, once, twice)
    for batch in (1, 3):
        inputs = [
            draw(batch, *value.shape[1:])
            if "float" in value.type
            else np.random.default_rng(0).integers(0, 50, (batch, *value.shape[1:]))
            for value in session.get_inputs()
        ]
        for file, module in ((path, network), (once, again), (twice, network)):
            demand_parity(file, module, *inputs, tolerance=3e-4)
    assert network.layer_names == again.layer_names
    assert names_of(once) == names_of(twice)
    assert len(names_of(once)) == len(set(names_of(once)))


def test_what_has_no_operator_of_its_own_does_not_grow_on_the_way(tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.silu(self.norm(self.conv(x)))
            n, c, h, w = y.shape
            y = y.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).flip(3)
            left, right = y.chunk(2, 1)
            y = torch.stack((left * right, right.roll(1, 2)), 2).unbind(2)[1].repeat(1, 2, 1, 1)
            return (
                nn.functional.gelu(nn.functional.pad(y, (1, 2, 0, 1), mode="reflect"))
                .mean((2, 3), keepdim=True)
                .squeeze(3)
            )

    torch.manual_seed(0)
    path = exported((Net().eval(), {"x": torch.randn(1, 2, 6, 6)}), tmp_path / "net.onnx", dynamo=False)
    ways = [path]
    for index in range(4):
        ways.append(tmp_path / f"{index}.onnx")
        export_onnx(import_onnx(ways[-2]), ways[-2], ways[-1])
    assert names_of(ways[-2]) == names_of(ways[-1])
    assert len(names_of(ways[-1])) <= len(names_of(ways[1])) < len(names_of(path))
    demand_parity(path, import_onnx(ways[-1]), draw(3, 2, 6, 6))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_in_all_directions(tmp_path, kind, bidirectional):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = kind(5, 7, num_layers=2, bidirectional=bidirectional)

        def forward(self, x: torch.Tensor) -> Any:
            return self.body(x)

    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    with quiet():
        torch.onnx.export(
            Net().eval(),
            (torch.randn(4, 2, 5),),
            path,
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {1: "batch"}},
        )
    network = import_onnx(path)
    assert sum(isinstance(module, kind) for module in network.modules()) == 2
    for batch in (1, 3):
        demand_parity(path, network, draw(4, batch, 5))


def test_a_recurrent_layer_with_a_state_of_its_own_and_backwards(tmp_path):
    weights = {"w": (1, 8, 3), "r": (1, 8, 2), "b": (1, 16), "h": (1, 4, 2), "c": (1, 4, 2)}
    path = save(
        tmp_path / "net.onnx",
        [
            helper.make_node(
                "LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y", "yh"], "rec", hidden_size=2, direction="reverse"
            )
        ],
        {"x": (5, 4, 3)},
        {"y": (5, 1, 4, 2), "yh": (1, 4, 2)},
        [constant(name, draw(*shape, seed=i)) for i, (name, shape) in enumerate(weights.items())],
    )
    network = import_onnx(path)
    demand_parity(path, network, draw(5, 4, 3))
    export_onnx(network, path, tmp_path / "back.onnx")


def test_sizes_computed_in_the_graph_follow_the_input(tmp_path):
    class Net(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
            n, c, h, w = x.shape
            wide = nn.functional.interpolate(x, size=(2 * h, 2 * w), mode="bilinear")
            place = torch.arange(w).to(x.dtype) / w
            rows = (x * place).reshape(n, c * h, w) / (h * w) ** 0.5
            zeros = torch.zeros(n, 1, w)
            mask = torch.where(y[:, :, None] > 0, torch.cat((zeros, rows), 1)[:, : y.shape[1]], -1.0)
            return wide, mask, x.permute(0, 2, 3, 1).reshape(n * h, -1)[: n + h - 1]

    path = tmp_path / "net.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n", 1: "k"}}
    with quiet(), warnings.catch_warnings():
        torch.onnx.export(
            Net(),
            (torch.randn(2, 3, 8, 6), torch.randn(2, 5)),
            path,
            dynamo=False,
            input_names=["x", "y"],
            dynamic_axes=axes,
        )
    network = import_onnx(path)
    for n, h, w, k in ((1, 8, 6, 5), (3, 4, 10, 9)):
        demand_parity(path, network, draw(n, 3, h, w), draw(n, k, seed=1))


def test_a_file_of_fixed_batch_runs_on_more_in_torch(tmp_path):
    """So that it can be trained; written back it has the batch of its file."""
    built = architectures.vit(32, 64, 1)
    path = exported(built, tmp_path / "net.onnx", dynamo=False, dynamic=False)
    network = import_onnx(path)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), built[0](images), rtol=1e-4, atol=1e-5)
    export_onnx(network, path, tmp_path / "back.onnx")
    assert open_session(tmp_path / "back.onnx").get_inputs()[0].shape == [1, 3, 32, 32]


def test_masks_and_numbers_are_not_trained(tmp_path):
    mask = np.triu(np.full((4, 4), -1e9, np.float32), 1)
    parts = [constant("mask", mask), constant("place", draw(4, 4)), constant("root", 0.5)]
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["a"], "a"),
        helper.make_node("Add", ["a", "place"], ["b"], "b"),
        helper.make_node("Mul", ["b", "root"], ["c"], "c"),
        helper.make_node("Softmax", ["c"], ["y"], "soft"),
    ]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 4, 4)}, {"y": ("N", 4, 4)}, parts)
    network = import_onnx(path)
    assert [name for name, _ in network.named_parameters()] == ["place"]
    demand_parity(path, network, draw(2, 4, 4))
    export_onnx(network, path, tmp_path / "back.onnx")
    assert [name for name, _ in import_onnx(tmp_path / "back.onnx").named_parameters()] == ["place"]


def test_an_operator_of_another_domain_is_refused_with_what_to_do(tmp_path):
    nodes = [helper.make_node("BiasGelu", ["x", "b"], ["y"], "odd", domain="com.microsoft")]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 4)}, {"y": ("N", 4)}, [constant("b", draw(4))])
    with pytest.raises(ModelError, match=r"com\.microsoft\.BiasGelu of node odd cannot be taken into torch") as caught:
        import_onnx(path)
    assert "Passes that train cannot work" in caught.value.remedy


def test_a_gru_of_the_other_kind_is_refused(tmp_path):
    parts = [constant("w", draw(1, 6, 3)), constant("r", draw(1, 6, 2))]
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["y"], "rec", hidden_size=2)]
    path = save(tmp_path / "net.onnx", nodes, {"x": (5, "N", 3)}, {"y": (5, 1, "N", 2)}, parts)
    with pytest.raises(ModelError, match=r"GRU of node rec .*linear_before_reset is 0"):
        import_onnx(path)


def test_comparison_logic_and_lookup(tmp_path):
    nodes = [
        helper.make_node("Greater", ["x", "low"], ["a"], "greater"),
        helper.make_node("Less", ["x", "high"], ["b"], "less"),
        helper.make_node("And", ["a", "b"], ["c"], "and"),
        helper.make_node("Not", ["c"], ["d"], "not"),
        helper.make_node("Where", ["d", "x", "row"], ["e"], "where"),
        helper.make_node("TopK", ["e", "k"], ["top", "place"], "topk", axis=1),
        helper.make_node("GatherElements", ["x", "place"], ["f"], "pick", axis=1),
        helper.make_node("Split", ["f", "sizes"], ["g", "h"], "split", axis=1),
        helper.make_node("Concat", ["h", "g", "top"], ["i"], "concat", axis=1),
        helper.make_node("Gather", ["table", "place"], ["j"], "embed"),
        helper.make_node("ReduceSum", ["j", "last"], ["s"], "sum", keepdims=0),
        helper.make_node("Concat", ["i", "s"], ["y"], "out", axis=1),
    ]
    parts = [constant("low", -0.5), constant("high", 0.5), constant("row", draw(8)), constant("k", [3], np.int64)]
    parts += [constant("sizes", [1, 2], np.int64), constant("table", draw(8, 4)), constant("last", [-1], np.int64)]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 8)}, {"y": ("N", 9)}, parts)
    network = import_onnx(path)
    assert isinstance(network.embed, nn.Embedding)
    for batch in (1, 3):
        demand_parity(path, network, draw(batch, 8))
    demand_round_trip(path, tmp_path)


def test_integer_inputs_keep_their_type(tmp_path):
    nodes = [
        helper.make_node("Div", ["x", "two"], ["a"], "half"),
        helper.make_node("Cast", ["a"], ["b"], "real", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["b", "scale"], ["y"], "scaled"),
    ]
    parts = [constant("two", 2, np.int64), constant("scale", draw(4))]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("N", 4)}, {"y": ("N", 4)}, parts, input_dtype=TensorProto.INT64)
    demand_parity(path, import_onnx(path), np.array([[-3, -1, 1, 5], [7, 8, -9, 0]]))
    export_onnx(import_onnx(path), path, tmp_path / "back.onnx")
    assert open_session(tmp_path / "back.onnx").get_inputs()[0].type == "tensor(int64)"
