import numpy as np
import onnx
import pytest

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import ModelError, PassError
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes.pruning.depth import blocks_of
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.samples import Samples
from support.precision import outputs, top1
from support.recovering import apply, parameters
from support.trained import trained

SMALL = """
import torch
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 10),
    )

def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def misfit():
    return nn.Linear(3, 10)

def fails():
    raise RuntimeError("no such weights")

def number():
    return 5

def frozen():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10).requires_grad_(False))
"""


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(SMALL)
    return str(tmp_path / "nets.py")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    options = {"epochs": 1, "depth": 0.5}
    check(Case("distil_student", files.network, files.calibration, tmp_path, options, training=files.calibration))


def test_a_narrower_and_shallower_student_learns_from_the_teacher(tmp_path):
    files = trained("residual")
    settings = {"width": 0.5, "depth": 0.5, "epochs": 10, "training": files.training}
    report = apply("distil_student", files.network, files, tmp_path / "result.onnx", **settings)
    assert parameters(tmp_path / "result.onnx") < 0.15 * parameters(files.network)
    assert top1(tmp_path / "result.onnx", files) > 0.9
    assert report.notes[0] == "residual blocks 2 -> 1"


def test_a_student_that_begins_anew_has_none_of_the_teachers_weights(tmp_path):
    files = trained("residual")
    anew = {"width": 1.0, "inherit": False, "epochs": 1, "learning_rate": 1e-9}
    apply("distil_student", files.network, files, tmp_path / "anew.onnx", **anew)
    apply("distil_student", files.network, files, tmp_path / "again.onnx", **anew)
    apply("distil_student", files.network, files, tmp_path / "other.onnx", **anew, seed=1)
    assert top1(tmp_path / "anew.onnx", files) < 0.5
    assert (tmp_path / "anew.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert (tmp_path / "anew.onnx").read_bytes() != (tmp_path / "other.onnx").read_bytes()


def test_a_transformer_loses_its_last_blocks(tmp_path):
    files = trained("transformer")
    report = apply("distil_student", files.network, files, tmp_path / "result.onnx", width=1.0, depth=0.5, epochs=1)
    assert report.notes[0] == "residual blocks 4 -> 2"
    names = [node.name for node in onnx.load(tmp_path / "result.onnx").graph.node]
    assert any("layers.0/mlp" in name for name in names)
    assert not any("layers.1" in name for name in names)


def test_the_users_student_learns_and_keeps_names_and_dynamic_batch(nets, tmp_path):
    files = trained("residual")
    settings = {"student": f"{nets}:small", "epochs": 12, "training": files.training, "learning_rate": 5e-3}
    report = apply("distil_student", files.network, files, tmp_path / "result.onnx", **settings)
    assert top1(tmp_path / "result.onnx", files) > 0.9
    assert report.notes[0] == f"the student is {nets}:small"
    for side in ("input", "output"):
        before, after = (getattr(onnx.load(path).graph, side)[0] for path in (files.network, tmp_path / "result.onnx"))
        assert before.name == after.name
        assert before.type.tensor_type.shape.dim[0].dim_param == after.type.tensor_type.shape.dim[0].dim_param
    assert np.isfinite(outputs(tmp_path / "result.onnx", files.calibration)).all()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("seven", PassError, r"different outputs: the teacher float32\[1, 10\], the student float32\[1, 7\]"),
        ("misfit", ModelError, r"running the student .*misfit on inputs \[1, 1, 8, 8\] failed"),
        ("fails", ModelError, "no such weights"),
        ("number", ModelError, "returned 5"),
        ("frozen", PassError, "no weights that could be trained"),
        ("nowhere", ModelError, "has no function nowhere"),
    ],
)
def test_a_student_that_cannot_be_used_is_one_error(function, error, message, nets, tmp_path):
    files = trained("residual")
    with pytest.raises(error, match=message):
        apply("distil_student", files.network, files, tmp_path / "result.onnx", student=f"{nets}:{function}")


def test_a_network_without_blocks_cannot_become_shallower(tmp_path):
    files = trained("depthwise")
    with pytest.raises(PassError, match=r"no residual block can go at depth 0.5: the network has 0"):
        apply("distil_student", files.network, files, tmp_path / "result.onnx", depth=0.5)


def test_blocks_are_what_lies_between_a_sum_and_its_one_source():
    files = trained("residual")
    network = import_onnx(files.network)
    inputs, _ = Samples(files.calibration, ["image"]).batch([0, 1])
    blocks = blocks_of(network, inputs)
    assert [(block.shape, block.whole) for block in blocks] == [((2, 32, 4, 4), False), ((2, 32, 4, 4), True)]
    assert blocks[1].entry.target == "blocks_blocks_0_Relu_1"


@pytest.mark.parametrize("options", [{"width": 0.0}, {"depth": 1.5}, {"round_to": 0}, {"temperature": -1.0}])
def test_nonsense_is_refused_with_the_value(options):
    with pytest.raises(PassError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        load_pass(PassSpec("distil_student", options))
