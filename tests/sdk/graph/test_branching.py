import onnx
from onnx import TensorProto, helper

from edgeopt.graph.branching import varies_by_input
from support.networks import mlp_onnx


def with_branches(path, *, layer):
    """A file whose `If` holds a layer, or nothing that takes time."""
    inner = helper.make_node("MatMul", ["x", "x"], ["y"]) if layer else helper.make_node("Identity", ["x"], ["y"])
    other = helper.make_node("Identity", ["x"], ["z"])
    value = helper.make_tensor_value_info
    then = helper.make_graph([inner], "then", [], [value("y", TensorProto.FLOAT, [2, 2])])
    rest = helper.make_graph([other], "else", [], [value("z", TensorProto.FLOAT, [2, 2])])
    node = helper.make_node("If", ["c"], ["out"], then_branch=then, else_branch=rest)
    inputs = [value("x", TensorProto.FLOAT, [2, 2]), value("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", inputs, [value("out", TensorProto.FLOAT, [2, 2])])
    onnx.save(helper.make_model(graph), path)
    return path


def test_layers_inside_a_branch_make_the_time_depend_on_the_input(tmp_path):
    assert varies_by_input(with_branches(tmp_path / "n.onnx", layer=True))


def test_a_branch_without_layers_does_not(tmp_path):
    assert not varies_by_input(with_branches(tmp_path / "n.onnx", layer=False))
    assert not varies_by_input(mlp_onnx(tmp_path / "m.onnx"))
