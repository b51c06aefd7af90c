"""Torch networks written as ONNX: names and dynamic sizes kept, nothing folded, equal bytes, wrong results refused."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from edgeopt.graph.torch_trainable import export_trainable
from support.networks import constant, save, write_torch_file
from support.trained import NETWORKS, trained

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "digits.py"


def graph_of(path: Path) -> onnx.GraphProto:
    return onnx.load(path).graph


def kinds_of(path: Path) -> list[str]:
    return [node.op_type for node in graph_of(path).node]


def interface(path: Path) -> list[bytes]:
    graph = graph_of(path)
    return [value.SerializeToString(deterministic=True) for value in [*graph.input, *graph.output]]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_came_in_goes_out_with_its_names_and_nothing_folded(tmp_path, name, capfd):
    source = trained(name).network
    export_onnx(import_onnx(source), source, tmp_path / "out.onnx")
    mine, theirs = graph_of(tmp_path / "out.onnx"), graph_of(source)
    layers = {"Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "LSTM", "Softmax", "Relu", "Clip"}
    named = [{node.name: node.op_type for node in graph.node if node.op_type in layers} for graph in (mine, theirs)]
    assert named[0] == named[1]
    assert interface(tmp_path / "out.onnx") == interface(source)
    assert not {"Constant", "Identity"} & set(kinds_of(tmp_path / "out.onnx"))
    assert len(mine.node) <= len(theirs.node)
    assert capfd.readouterr() == ("", "")


def test_the_same_network_gives_the_same_bytes(tmp_path):
    source = trained("transformer").network
    for name in ("one.onnx", "two.onnx"):
        export_onnx(import_onnx(source), source, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert b"/site-packages/" not in (tmp_path / "one.onnx").read_bytes()


def test_modes_stay_as_they_were_and_training_mode_is_not_written(tmp_path):
    source = trained("residual").network
    network = import_onnx(source).train()
    network.stem_stem_1_BatchNormalization.eval()
    export_onnx(network, source, tmp_path / "out.onnx")
    assert network.training
    assert not network.stem_stem_1_BatchNormalization.training
    image = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    logits = [open_session(path).run(None, {"image": image})[0] for path in (source, tmp_path / "out.onnx")]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-5)


def test_layers_that_took_the_place_of_others_are_named_after_them(tmp_path):
    source = trained("residual").network
    network = import_onnx(source)
    old = network.blocks_blocks_1_conv1_Conv
    pair = nn.Sequential(nn.Conv2d(32, 4, 3, padding=1, bias=False), nn.Conv2d(4, old.out_channels, 1, bias=False))
    network.set_submodule("blocks_blocks_1_conv1_Conv", pair)
    export_onnx(network, source, tmp_path / "out.onnx")
    names = [node.name for node in graph_of(tmp_path / "out.onnx").node]
    assert [name for name in names if name.startswith("/blocks/blocks.1/conv1/Conv")] == [
        "/blocks/blocks.1/conv1/Conv",
        "/blocks/blocks.1/conv1/Conv/blocks_blocks_1_conv1_Conv.1/Conv",
    ]
    again = import_onnx(tmp_path / "out.onnx")
    export_onnx(again, tmp_path / "out.onnx", tmp_path / "again.onnx")
    assert [node.name for node in graph_of(tmp_path / "again.onnx").node] == names


def test_a_module_of_another_make_takes_names_and_sizes_of_the_file(tmp_path):
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.body(image)

    source = trained("residual").network
    export_onnx(Student(), source, tmp_path / "out.onnx")
    assert interface(tmp_path / "out.onnx") == interface(source)
    assert kinds_of(tmp_path / "out.onnx") == ["Flatten", "Gemm", "Relu", "Gemm"]


def test_more_outputs_than_the_file_are_written_where_the_network_names_them(tmp_path):
    class Two(nn.Module):
        output_names = ("logits", "early")

        def __init__(self, trunk: nn.Module) -> None:
            super().__init__()
            self.trunk, self.exit = trunk, nn.Linear(64, 10)

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.trunk(image), self.exit(image.flatten(1))

    source = trained("residual").network
    export_onnx(Two(import_onnx(source)), source, tmp_path / "out.onnx")
    session = open_session(tmp_path / "out.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits", "early"]
    assert [value.shape for value in session.run(None, {"image": np.zeros((3, 1, 8, 8), np.float32)})] == [(3, 10)] * 2


@pytest.mark.parametrize("size", ["N", 1])
def test_names_that_are_numbers_and_inputs_that_nothing_reads(tmp_path, size):
    nodes = [helper.make_node("MatMul", ["1", "w"], ["7"], "fc"), helper.make_node("Relu", ["7"], ["9"], "relu")]
    weights = [constant("w", np.ones((4, 3)))]
    path = save(
        tmp_path / "net.onnx", nodes, {"1": (size, 4), "2": (size, 2)}, {"9": (size, 3), "7": (size, 3)}, weights
    )
    export_onnx(import_onnx(path), path, tmp_path / "out.onnx")
    session = open_session(tmp_path / "out.onnx")
    assert [value.name for value in session.get_inputs()] == ["1", "2"]
    assert [value.name for value in session.get_outputs()] == ["9", "7"]
    assert session.get_inputs()[0].shape == [size, 4]
    found = session.run(None, {"1": -np.ones((1, 4), np.float32), "2": np.zeros((1, 2), np.float32)})
    assert [value.tolist() for value in found] == [[[0.0] * 3], [[-4.0] * 3]]


def test_nodes_without_a_name_get_one_that_stays(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    parts = [constant("w", np.ones((4, 3))), constant("b", np.ones(3)), constant("v", np.ones((3, 3)))]
    ways = [save(tmp_path / "net.onnx", nodes, {"x": ("N", 2, 4)}, {"y": ("N", 2, 3)}, parts)]
    for index in range(2):
        ways.append(tmp_path / f"{index}.onnx")
        export_onnx(import_onnx(ways[-2]), ways[-2], ways[-1])
    names = [[node.name for node in graph_of(path).node] for path in ways[1:]]
    assert names == [["MatMul_0", "MatMul_0/Add", "Relu_2", "MatMul_3"]] * 2


def test_other_dynamic_sizes_stay_dynamic(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["c", "", "s"], ["r"], "up", mode="nearest"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Sub", ["r", "p"], ["y"], "centred"),
    ]
    parts = [constant("w", np.ones((2, 3, 3, 3))), constant("s", [1, 1, 2, 2])]
    path = save(tmp_path / "net.onnx", nodes, {"x": ("n", 3, "h", "w")}, {"y": ("n", 2, "h2", "w2")}, parts)
    export_onnx(import_onnx(path), path, tmp_path / "out.onnx")
    session = open_session(tmp_path / "out.onnx")
    assert session.get_inputs()[0].shape == ["n", 3, "h", "w"]
    assert session.run(None, {"x": np.ones((2, 3, 5, 7), np.float32)})[0].shape == (2, 2, 10, 14)


def test_a_trace_that_gives_other_numbers_is_refused_with_them(tmp_path):
    class Branching(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            flat = image.flatten(1)[:, :10]
            return flat if image.shape[0] == 2 else flat + 100.0  # a trace keeps the branch of its example

    source = trained("residual").network
    with pytest.raises(ModelError, match=r"not the one in torch: .* at batch 1 \(cosine .* largest 100\)"):
        export_onnx(Branching(), source, tmp_path / "out.onnx")


def test_a_network_that_does_not_fit_the_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"does not run on inputs image: \['batch', 1, 8, 8\]"):
        export_onnx(nn.Linear(3, 3), trained("residual").network, tmp_path / "out.onnx")


def test_what_the_older_exporter_lacks_is_left_to_the_newer(tmp_path, capfd):
    class Rare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.xlog1py(x, x.abs())

    path = save(
        tmp_path / "net.onnx", [helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": ("N", 4)}, {"y": ("N", 4)}
    )
    export_onnx(Rare(), path, tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == 18
    assert capfd.readouterr().out == ""
    session = open_session(tmp_path / "out.onnx")
    assert session.get_inputs()[0].shape == ["N", 4]
    assert session.run(None, {"x": np.ones((3, 4), np.float32)})[0].shape == (3, 4)


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        ("with_example", ["Conv", "BatchNormalization", "Relu", "ReduceMean", "Gemm"]),
        ("two_inputs", ["Mul", "Add"]),
        ("fixed_batch", ["Reshape", "Mul"]),
    ],
)
def test_a_users_network_is_exported_unfolded(tmp_path, function, kinds):
    source = write_torch_file(tmp_path / "nets.py")
    report = export_trainable(f"{source}:{function}", str(tmp_path / "out.onnx"), {}, None)
    assert kinds_of(tmp_path / "out.onnx") == kinds
    assert report["exporter"].startswith("torchscript")
    network = import_onnx(tmp_path / "out.onnx")
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == kinds.count("BatchNormalization")


def test_the_example_keeps_its_batch_normalisations(tmp_path):
    source = shutil.copy(EXAMPLE, tmp_path)
    torch.save(runpy.run_path(source)["DigitNet"]().state_dict(), tmp_path / "digits.pt")
    export_trainable(f"{source}:build", str(tmp_path / "out.onnx"), {}, None)
    kinds = kinds_of(tmp_path / "out.onnx")
    assert (kinds.count("Conv"), kinds.count("BatchNormalization"), kinds[0]) == (10, 10, "Resize")
    network = import_onnx(tmp_path / "out.onnx")
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_a_users_network_that_cannot_be_trained_says_why(tmp_path):
    source = tmp_path / "nets.py"
    source.write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.nonzero(x).float().sum(0, keepdim=True)[:, :1]\n"
        "def make():\n"
        "    return Odd(), torch.ones(1, 4)\n"
    )
    with pytest.raises(ModelError, match="could not be exported for training") as caught:
        export_trainable(f"{source}:make", str(tmp_path / "out.onnx"), {}, None)
    assert "NonZero" in str(caught.value)
    assert "left out" in caught.value.remedy
