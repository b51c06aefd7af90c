"""What a network has to compute, counted from files of which every figure is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgeopt.core.recipe import Recipe
from edgeopt.graph.work import work_of
from edgeopt.passes.make import Made
from edgeopt.workflow.counting import counted

FLOATS = TensorProto.FLOAT


def write(
    path: Path, nodes: list[Any], shape: tuple[Any, ...], weights: dict[str, tuple[int, ...]], **types: int
) -> Path:
    """A network from `x` to `y` whose weights are ones."""
    made = []
    for name, sizes in weights.items():
        count = 1
        for size in sizes:
            count *= size
        made.append(helper.make_tensor(name, types.get(name, FLOATS), sizes, [1] * count))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "net", [value("x", FLOATS, shape)], [value("y", FLOATS, None)], made)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def conv(given: str, weight: str, out: str, **attributes: Any) -> Any:
    return helper.make_node("Conv", [given, weight], [out], **attributes)


def convolutions(path: Path) -> Path:
    nodes = [
        conv("x", "w1", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        conv("b", "w2", "y", kernel_shape=[1, 1], strides=[2, 2]),
    ]
    return write(path, nodes, ("N", 3, 8, 8), {"w1": (16, 3, 3, 3), "w2": (4, 16, 1, 1)})


def test_convolutions_of_one_sample_are_counted_with_what_winograd_may_spare(tmp_path: Path) -> None:
    found = work_of(convolutions(tmp_path / "net.onnx"))
    assert found is not None
    first, second = 64 * 16 * 27, 16 * 4 * 16
    assert (found.macs, found.narrow_macs, found.spared_macs) == (first + second, 0, first)
    assert found.weight_bytes == 4 * (16 * 27 + 64)
    assert found.activation_bytes == 4 * (2 * 64 * 16 + 16 * 4)
    assert found.operators == {"Conv": 2, "Relu": 1}
    assert found.uncounted == 0


@pytest.mark.parametrize(("weight_pair", "input_pair"), [(True, True), (True, False)])
def test_a_product_is_narrow_where_both_sides_come_from_eight_bits(
    tmp_path: Path, weight_pair: bool, input_pair: bool
) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("MatMul", ["xd" if input_pair else "x", "wd" if weight_pair else "w"], ["y"]),
    ]
    weights = {"s": (), "z": (), "w": (32, 10)}
    found = work_of(write(tmp_path / "net.onnx", nodes, (1, 32), weights, z=TensorProto.INT8, w=TensorProto.INT8))
    assert found is not None
    assert (found.macs, found.narrow_macs) == ((0, 320) if input_pair else (320, 0))
    assert found.weight_bytes < 4 * 320


@pytest.mark.parametrize("quantised", [False, True])
def test_a_table_of_which_rows_are_looked_up_is_told_from_weights_that_are_read_whole(
    tmp_path: Path, quantised: bool
) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["t", "s"], ["rows"])] if quantised else []
    nodes += [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["rows" if quantised else "t", "i"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"]),
    ]
    weights = {"t": (5000, 8), "w": (8, 4)} | ({"s": ()} if quantised else {})
    kind = TensorProto.INT8 if quantised else FLOATS
    found = work_of(write(tmp_path / "net.onnx", nodes, (1, 3), weights, t=kind))
    assert found is not None
    assert found.table_bytes == 5000 * 8 * (1 if quantised else 4)
    assert found.weight_bytes == found.table_bytes + 4 * (32 + quantised)


def test_a_table_that_is_a_product_s_weights_too_is_read_whole(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["t"], ["turned"], perm=[1, 0]),
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["t", "i"], ["e"]),
        helper.make_node("MatMul", ["e", "turned"], ["y"]),
    ]
    found = work_of(write(tmp_path / "net.onnx", nodes, (1, 3), {"t": (5000, 8)}))
    assert found is not None
    assert (found.table_bytes, found.weight_bytes) == (0, 5000 * 8 * 4)


def test_values_of_weights_do_not_matter_but_those_that_say_sizes_do(tmp_path: Path) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 2048])
    nodes = [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
    ]
    nodes.append(helper.make_node("MatMul", ["r", "w"], ["y"]))
    found = work_of(write(tmp_path / "net.onnx", nodes, (1, 32, 64), {"w": (2048, 8)}))
    assert found is not None
    assert found.macs == 2048 * 8
    assert "Constant" not in found.operators


def test_what_is_no_network_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\xff" * 100)
    assert work_of(path) is None
    assert work_of(tmp_path / "absent.onnx") is None


def test_a_file_with_operators_of_a_runtime_counts_as_what_it_was_made_of(tmp_path: Path) -> None:
    """Otherwise a graph that a runtime's optimiser wrote would look as if it had nothing to do."""
    nodes = [helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")]
    fused = write(tmp_path / "fused.onnx", nodes, (1, 32), {"w": (32, 10)})
    plain = write(tmp_path / "plain.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 32), {"w": (32, 10)})
    bare = work_of(fused)
    assert bare is not None
    assert bare.uncounted == 1
    made = Made(fused, stages=(plain, fused))
    found = counted(Recipe("optimised"), made, convolutions(tmp_path / "source.onnx"))
    assert found is not None
    assert (found.macs, found.operators) == (320, {"FusedMatMul": 1})


def test_a_converted_file_counts_as_its_last_network_in_its_own_precision(tmp_path: Path) -> None:
    source = convolutions(tmp_path / "source.onnx")
    converted = tmp_path / "net.tflite"
    converted.write_bytes(bytes(500))
    whole = work_of(source)
    assert whole is not None
    found = counted(Recipe("litert-int8", precision="int8"), Made(converted), source)
    assert found == replace(whole, macs=0, narrow_macs=whole.macs, weight_bytes=500)
    assert counted(Recipe("litert"), Made(converted), source) == replace(whole, weight_bytes=500)
