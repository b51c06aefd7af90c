from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_channels import Options, PruneChannels
from edgeopt.passes.pruning.channels import Dependencies, Trial, outputs
from edgeopt.passes.pruning.subject import size_of
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from support.networks import constant, save
from support.trained import trained

IMPORTANCES = ("l1", "l2", "fpgm", "bn_scale", "taylor", "hessian", "activation", "entropy", "random")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _context(name: str, work: Path, labels: bool = True) -> PassContext:
    files = trained(name)
    return PassContext(work=work, calibration=files.calibration, training=files.training if labels else None)


def _prune(name: str, work: Path, labels: bool = True, **options: Any) -> tuple[Path, str]:
    made = work / "pruned.onnx"
    report = PruneChannels(Options(**options)).apply(trained(name).network, made, _context(name, work, labels))
    return made, "; ".join(report.notes)


def _images(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    samples = Samples(path, ("image",))
    (images,), labels = samples.batch(range(len(samples)))
    assert labels is not None
    return images, labels


def _top1(network: nn.Module, name: str) -> float:
    images, labels = _images(trained(name).evaluation)
    return float((outputs(network, (images,))[0].argmax(1) == labels).float().mean())


def _run(path: Path, images: Any) -> Any:
    from edgeopt.graph.session import open_session

    return open_session(path).run(None, {"image": np.asarray(images)})[0]


def _macs(path: Path) -> int:
    return size_of(import_onnx(path), (torch.zeros(1, 1, 8, 8),)).macs


def _width(path: Path, node: str) -> int:
    model = onnx.load(path)
    weight = next(item.input[1] for item in model.graph.node if item.name == node)
    return int(next(tensor.dims[0] for tensor in model.graph.initializer if tensor.name == weight))


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_every_importance_takes_the_macs_down_to_the_share_asked(importance: str, tmp_path: Path) -> None:
    made, notes = _prune("residual", tmp_path, macs=0.6, importance=importance)
    share = _macs(made) / _macs(trained("residual").network)
    assert 0.5 < share <= 0.6, notes
    assert f"(x{share:.2f})" in notes


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_gradients_need_no_labels_and_beat_chance(importance: str, tmp_path: Path) -> None:
    chosen, _ = _prune("residual", tmp_path, labels=False, macs=0.7, importance=importance)
    accuracy = _top1(import_onnx(chosen), "residual")
    drawn, _ = _prune("residual", tmp_path, macs=0.7, importance="random")
    assert accuracy > _top1(import_onnx(drawn), "residual") + 0.1


def test_a_pruned_network_recovers_in_two_epochs(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, macs=0.4)
    network = import_onnx(made)
    assert _top1(network, "residual") < 0.9
    samples = Samples(trained("residual").training, ("image",))
    train(network, samples, supervised(), TrainingOptions(epochs=2, learning_rate=3e-3), seed=0)
    assert _top1(network, "residual") > trained("residual").top1 - 0.02


@pytest.mark.parametrize("name", ["residual", "depthwise", "transformer"])
def test_onnxruntime_gives_what_torch_gives_after_pruning(name: str, tmp_path: Path) -> None:
    made, _ = _prune(name, tmp_path, ratio=0.3)
    images, _ = _images(trained(name).evaluation)
    for batch in (1, 5):
        expected = outputs(import_onnx(made), (images[:batch],))[0]
        np.testing.assert_allclose(_run(made, images[:batch]), expected, atol=1e-4)


def test_round_to_leaves_multiples(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, ratio=0.4, round_to=8)
    for node in onnx.load(made).graph.node:
        if node.op_type == "Conv":
            assert _width(made, node.name) % 8 == 0, node.name
    assert _macs(made) < _macs(trained("residual").network)


def test_ranking_by_layer_takes_the_same_share_of_each(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, ratio=0.25, ranking="layer")
    assert _width(made, "/stem/stem.0/Conv") == 12
    assert _width(made, "/blocks/blocks.0/conv1/Conv") == 24
    assert _width(made, "/blocks/blocks.1/conv2/Conv") == 24


def test_widths_are_met_exactly_and_leave_other_layers_alone(tmp_path: Path) -> None:
    widths = {"/blocks/blocks.0/conv1/Conv": 9, "/blocks/blocks.1/conv2/Conv": 20}
    made, _ = _prune("residual", tmp_path, widths=widths)
    assert {name: _width(made, name) for name in widths} == widths
    assert _width(made, "/blocks/blocks.1/shortcut/shortcut.0/Conv") == 20
    assert _width(made, "/stem/stem.0/Conv") == 16


def test_steps_reach_the_same_goal(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, macs=0.5, steps=3, importance="activation")
    assert 0.4 < _macs(made) / _macs(trained("residual").network) <= 0.5
    layered, _ = _prune("residual", tmp_path, widths={"/stem/stem.0/Conv": 5}, steps=3)
    assert _width(layered, "/stem/stem.0/Conv") == 5


STAGED = {
    "residual": {
        "first": {"/stem/stem.0/Conv", "/blocks/blocks.0/conv1/Conv"},
        "middle": {"/blocks/blocks.0/conv2/Conv", "/blocks/blocks.0/shortcut/shortcut.0/Conv"},
        "last": {
            "/blocks/blocks.1/conv1/Conv",
            "/blocks/blocks.1/conv2/Conv",
            "/blocks/blocks.1/shortcut/shortcut.0/Conv",
        },
    },
    "depthwise": {
        "first": {f"/features/features.{index}/Conv" for index in (0, 3, 6)},
        "middle": {"/features/features.9/Conv"},
        "last": {f"/features/features.{index}/Conv" for index in (11, 14, 17)},
    },
}


@pytest.mark.parametrize("part", ["first", "middle", "last"])
@pytest.mark.parametrize("name", list(STAGED))
def test_stages_narrow_their_part_of_the_depth_alone(name: str, part: str, tmp_path: Path) -> None:
    shares = [0.5 if part == one else 1.0 for one in ("first", "middle", "last")]
    made, _ = _prune(name, tmp_path, stages=shares, ranking="layer")
    before = trained(name).network
    for one, layers in STAGED[name].items():
        for layer in layers:
            assert _width(made, layer) == _width(before, layer) * (0.5 if one == part else 1), layer


def test_a_transformers_residual_stream_belongs_to_the_first_part(tmp_path: Path) -> None:
    _, notes = _prune("transformer", tmp_path, stages=(0.5, 1, 1))
    assert "/embed/MatMul 32 -> 16" in notes
    assert "mlp.0" not in notes
    _, notes = _prune("transformer", tmp_path, stages=(1, 1, 0.5))
    assert "channels: /layers/layers.1/mlp/mlp.0/MatMul 64 -> 32" in notes.split("; ")


def test_shares_of_stages_are_met_by_importance_with_rounding_and_in_rounds(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, stages=(0.5, 0.5, 0.25))
    assert _width(made, "/stem/stem.0/Conv") + _width(made, "/blocks/blocks.0/conv1/Conv") == 24
    assert _width(made, "/blocks/blocks.1/conv1/Conv") + _width(made, "/blocks/blocks.1/conv2/Conv") == 16
    rounded, _ = _prune("residual", tmp_path, stages=(0.6, 1.0, 0.4), round_to=8, ranking="layer")
    assert _width(rounded, "/stem/stem.0/Conv") == 8
    assert _width(rounded, "/blocks/blocks.1/conv1/Conv") == 16
    stepped, _ = _prune("residual", tmp_path, stages=(1.0, 1.0, 0.25), steps=3, ranking="layer")
    assert _width(stepped, "/blocks/blocks.1/conv1/Conv") == 8
    assert _width(stepped, "/stem/stem.0/Conv") == 16


def test_stages_without_loss_write_the_network_as_it_was_and_say_so(tmp_path: Path) -> None:
    made, notes = _prune("residual", tmp_path, stages=(1.0, 1, 1.0))
    assert made.read_bytes() == trained("residual").network.read_bytes()
    assert notes == "all parts keep their channels: the network is as it was"


def test_a_part_that_keeps_everything_keeps_odd_widths_too(tmp_path: Path) -> None:
    first, _ = _prune("residual", tmp_path, widths={"/stem/stem.0/Conv": 11})
    source = first.rename(tmp_path / "odd.onnx")
    options = Options(stages=(1, 1, 0.5), round_to=8)
    PruneChannels(options).apply(source, tmp_path / "made.onnx", _context("residual", tmp_path))
    assert _width(tmp_path / "made.onnx", "/stem/stem.0/Conv") == 11


def test_ignored_layers_and_outputs_stay(tmp_path: Path) -> None:
    made, _ = _prune("residual", tmp_path, ratio=0.6, ignore=("/stem/stem.0/Conv",))
    assert _width(made, "/stem/stem.0/Conv") == 16
    assert _width(made, "/head/Gemm") == 10


def test_mlp_neurons_of_a_transformer_go_and_attention_is_named_as_skipped(tmp_path: Path) -> None:
    mlp = "/layers/layers.0/mlp/mlp.0/MatMul"
    made, notes = _prune("transformer", tmp_path, widths={mlp: 24})
    shapes = [tuple(tensor.dims) for tensor in onnx.load(made).graph.initializer]
    assert (24, 32) in shapes or (32, 24) in shapes
    assert "skipped 6 layers" in notes
    assert "/layers/layers.0/attention/query/MatMul" in notes
    assert _top1(import_onnx(made), "transformer") > 0.85


def _concat_network(path: Path, axis: int = 1) -> Path:
    """Two convolutions side by side, joined (by channel, or one under the other), and read by a third."""
    rng = np.random.default_rng(0)
    weights = {
        "left": rng.standard_normal((8, 1, 3, 3)) * 0.4,
        "right": rng.standard_normal((8, 1, 1, 1)),
        "both": rng.standard_normal((6, 16 if axis == 1 else 8, 3, 3)) * 0.2,
        "head": rng.standard_normal((6 * 64 * (1 if axis == 1 else 2), 10)) * 0.1,
    }
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["image", "left"], ["a"], name="left", pads=[1, 1, 1, 1]),
        make("Conv", ["image", "right"], ["b"], name="right"),
        make("Concat", ["a", "b"], ["ab"], name="join", axis=axis),
        make("Relu", ["ab"], ["abr"], name="relu"),
        make("Conv", ["abr", "both"], ["c"], name="both", pads=[1, 1, 1, 1]),
        make("Flatten", ["c"], ["flat"], name="flat"),
        make("MatMul", ["flat", "head"], ["logits"], name="head"),
    ]
    made = {name: constant(name, value) for name, value in weights.items()}
    return save(path, nodes, {"image": ["n", 1, 8, 8]}, {"logits": ["n", 10]}, list(made.values()))


@pytest.mark.parametrize("axis", [1, 2])
def test_branches_behind_a_concatenation_lose_exactly_the_channels_that_were_chosen(axis: int, tmp_path: Path) -> None:
    source = _concat_network(tmp_path / "concat.onnx", axis)
    context = PassContext(work=tmp_path, calibration=trained("residual").calibration)
    silenced = import_onnx(source)
    images, _ = _images(trained("residual").evaluation)
    kept = {"left": 5} if axis == 1 else {"left": 5, "right": 5}
    options = Options(widths={**kept, "both": 3}, importance="l1")
    made = tmp_path / "made.onnx"
    PruneChannels(options).apply(source, made, context)
    whole, small = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (source, made)
    )
    left = next(value for value in small.values() if value.shape == (5, 1, 3, 3))
    gone = [index for index, row in enumerate(whole["left"]) if not any(np.array_equal(row, other) for other in left)]
    assert len(gone) == 3
    last = next(value for value in small.values() if value.shape[0] == 3 and value.ndim == 4)
    ends = [index for index, row in enumerate(whole["both"]) if not any(
        np.isin(other, row).all() for other in last)]  # fmt: skip
    modules = {
        silenced.layer_names[path]: module for path, module in silenced.named_modules() if path in silenced.layer_names
    }
    with torch.no_grad():
        modules["both"].weight[:, gone] = 0
        modules["both"].weight[ends] = 0
    np.testing.assert_allclose(_run(made, images[:3]), outputs(silenced, (images[:3],))[0], atol=1e-4)


class _Shuffled(nn.Module):
    """Splits channels in halves and crosses them, which the dependency graph cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = y.view(len(y), 2, 4, 6, 6).transpose(1, 2).reshape(len(y), 8, 6, 6)
        return self.head(self.last(y).mean((2, 3)))


def test_channels_that_are_mixed_further_on_are_refused_by_the_trial() -> None:
    torch.manual_seed(0)
    network, inputs = _Shuffled().eval(), (torch.rand(2, 1, 8, 8),)
    trial = Trial(network, inputs)
    refusals = {group.root: trial.refusal(group.root) for group in Dependencies(network, inputs).groups()}
    assert refusals["first"]
    assert refusals["last"] is None
    assert refusals["head"] == ""


def test_a_network_of_which_nothing_can_be_pruned_says_so(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="no layer of the network can lose channels"):
        _prune("recurrent", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": {"/nowhere": 4}}, "/nowhere"),
        ({"ignore": ("/nowhere",)}, "/nowhere"),
        ({"widths": {"/stem/stem.0/Conv": 17}}, "17 channels of /stem/stem.0/Conv, which has 16"),
        (
            {"widths": {"/blocks/blocks.1/conv2/Conv": 20, "/blocks/blocks.1/shortcut/shortcut.0/Conv": 19}},
            "equally wide",
        ),
        ({"macs": 0.001}, "cannot fall below"),
        ({"ratio": 0.001}, "nothing was removed"),
    ],
)
def test_goals_that_cannot_be_met_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=message):
        _prune("residual", tmp_path, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 1.0},
        {"ratio": 0.0},
        {"ratio": float("nan")},
        {"macs": 1.0},
        {"round_to": 0},
        {"steps": 0},
        {"min_keep": 1.5},
        {"importance": "beauty"},
        {"widths": {"/a": 0}},
        {"widths": {"/a": 3}, "macs": 0.5},
        {"stages": (0.5, 1.5)},
        {"stages": (0.0,)},
        {"stages": (float("nan"),)},
        {"stages": (0.5,), "macs": 0.5},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PassError, match="bad options"):
        load_pass(PassSpec("prune_channels", options))


def test_a_network_with_a_fixed_batch_is_pruned(tmp_path: Path) -> None:
    model = onnx.load(trained("residual").network)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "fixed.onnx")
    PruneChannels(Options(importance="activation")).apply(
        tmp_path / "fixed.onnx", tmp_path / "made.onnx", _context("residual", tmp_path)
    )
    assert _run(tmp_path / "made.onnx", np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)


def test_grouped_convolutions_stay_in_equal_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10)
    ).eval()
    source, made = tmp_path / "grouped.onnx", tmp_path / "made.onnx"
    axes = {"image": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(
        network, (torch.zeros(2, 1, 8, 8),), source, dynamo=False, input_names=["image"], output_names=["logits"],
        dynamic_axes=axes,
    )  # fmt: skip
    PruneChannels(Options(ratio=0.5, ranking="layer")).apply(source, made, _context("residual", tmp_path))
    convolutions = [module for module in import_onnx(made).modules() if isinstance(module, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.groups) for layer in convolutions] == [(1, 8, 1), (8, 12, 4)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Any, tmp_path: Path) -> None:
    files = trained("depthwise")
    options = {"macs": 0.7, "importance": "taylor"}
    check(Case("prune_channels", files.network, files.calibration, tmp_path, options, training=files.training))
