"""Networks say the same in older versions, and what cannot be said there is refused with its operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt.errors import PassError
from edgeopt.passes import optimise_graph
from edgeopt.passes._base import PassContext, PassReport
from edgeopt.passes.lower_version import LowerVersion, Options
from edgeopt.testing.passes import CHECKS, Case
from support.trained import trained

Node = Any


def network(
    path: Path,
    nodes: list[Node],
    opset: int,
    ir_version: int = 11,
    weights: dict[str, Any] | None = None,
    rank: int = 2,
) -> Path:
    """`x` [N, 4, 8] to `y`, of these nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{axis}" for axis in range(rank)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=ir_version), path)
    return path


def lowered(source: Path, folder: Path, **options: int) -> tuple[Path, PassReport]:
    destination = folder / "lowered.onnx"
    return destination, LowerVersion(Options(**options)).apply(source, destination, PassContext(folder))


def answers(path: Path) -> Any:
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 4, 8)).astype(np.float32)
    return session.run(None, {"x": x})[0]


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_pass_conforms(check: Callable[[Case], None], tmp_path: Path) -> None:
    task = trained("transformer")
    check(Case("lower_version", task.network, task.calibration, tmp_path, {"opset": 15, "ir_version": 8}))


NEW_OPERATORS = [
    helper.make_node("Attention", ["x", "x", "x"], ["a"], q_num_heads=2, kv_num_heads=2),
    helper.make_node("Gelu", ["a"], ["c"]),
    helper.make_node("Swish", ["c"], ["e"]),
    helper.make_node("LayerNormalization", ["e", "scale"], ["d"], axis=-1),
    helper.make_node("ReduceMean", ["d", "axes"], ["y"], keepdims=0),
]
WEIGHTS = {"scale": np.linspace(0.5, 2, 8, dtype=np.float32), "axes": np.array([1])}


@pytest.mark.parametrize(("opset", "ir_version"), [(21, 10), (19, 9), (15, 8), (13, 7)])
def test_operators_of_today_are_written_out_in_those_of_the_past(tmp_path: Path, opset: int, ir_version: int) -> None:
    source = network(tmp_path / "new.onnx", NEW_OPERATORS, 24, weights=WEIGHTS)
    path, report = lowered(source, tmp_path, opset=opset, ir_version=ir_version)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (opset, ir_version)
    assert "Attention" not in kinds(path)
    assert ("LayerNormalization" in kinds(path)) is (opset >= 17)
    np.testing.assert_allclose(answers(path), answers(source), rtol=1e-4, atol=1e-5)
    assert f"opset 24 became {opset}" in report.notes[0]
    assert "Attention" in report.notes[0]
    assert report.notes[1] == f"IR version 11 became {ir_version}"


def test_quantised_and_foreign_nodes_stay_what_they_are(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], output_dtype=TensorProto.UINT8, saturate=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], block_size=0),
        helper.make_node("FusedMatMul", ["d", "w"], ["f"], domain="com.microsoft", alpha=0.5),
        helper.make_node("Gelu", ["f"], ["y"]),
    ]
    w = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
    weights = {"s": np.float32(0.05), "z": np.uint8(128), "w": w}
    source = network(tmp_path / "quantised.onnx", nodes, 23, weights=weights, rank=3)
    path, _ = lowered(source, tmp_path, opset=15, ir_version=8)
    assert {"QuantizeLinear", "DequantizeLinear", "FusedMatMul"} <= kinds(path)
    np.testing.assert_allclose(answers(path), answers(source), rtol=1e-5, atol=1e-6)


def test_what_attributes_and_inputs_said_is_said_as_it_used_to_be(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"], start=0, end=2),
        helper.make_node("Concat", ["sizes", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Split", ["r"], ["left", "right"], axis=-1, num_outputs=2),
        helper.make_node("Reshape", ["left", "flat"], ["l"], allowzero=1),
        helper.make_node("Reshape", ["right", "flat"], ["k"]),
        helper.make_node("Sub", ["l", "k"], ["s"]),
        helper.make_node("ReduceMax", ["s"], ["y"], keepdims=1, noop_with_empty_axes=0),
    ]
    weights = {"rest": np.array([2, 4]), "flat": np.array([-1, 16])}
    source = network(tmp_path / "said.onnx", nodes, 20, weights=weights)
    path, _ = lowered(source, tmp_path, opset=13)
    onnx.checker.check_model(str(path), full_check=True)
    np.testing.assert_array_equal(answers(path), answers(source))


def test_nothing_is_left_behind_that_nothing_uses(tmp_path: Path) -> None:
    path, _ = lowered(network(tmp_path / "new.onnx", NEW_OPERATORS, 24, weights=WEIGHTS), tmp_path, opset=15)
    graph = onnx.load(path).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    assert {name for node in graph.node for name in node.output if name} <= used | {"y"}


def test_operator_sets_that_onnx_runtime_stamps_on_what_it_saves_do_not_reach_the_device(tmp_path: Path) -> None:
    """ONNX Runtime before 1.18 refuses a file that names its newer sets, used or not."""
    saved = tmp_path / "saved.onnx"
    options = optimise_graph.Options(level="extended")
    optimise_graph.OptimiseGraph(options).apply(trained("residual").network, saved, PassContext(tmp_path))
    assert "ai.onnx.ml" in {entry.domain for entry in onnx.load(saved).opset_import}
    path, _ = lowered(saved, tmp_path, opset=15, ir_version=8)
    model = onnx.load(path)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 15, "com.microsoft": 1}
    assert "com.microsoft" in {node.domain for node in model.graph.node}


def test_a_file_that_is_old_enough_stays_as_it_is(tmp_path: Path) -> None:
    source = trained("residual").network
    path, report = lowered(source, tmp_path, opset=22, ir_version=12)
    assert onnx.load(path) == onnx.load(source)
    assert report.notes == ()


@pytest.mark.parametrize(
    ("node", "opset", "words"),
    [
        (helper.make_node("StringConcat", ["x", "x"], ["y"]), 19, "StringConcat is not in opset 19"),
        (helper.make_node("Cast", ["x"], ["y"], name="/c", to=1, round_mode="down"), 21, "Cast '/c' uses round_mode"),
        (helper.make_node("ReduceSumSquare", ["x", "x"], ["y"], name="/r"), 13, "'/r' computes its axes as it runs"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_operator(tmp_path: Path, node: Node, opset: int, words: str) -> None:
    source = network(tmp_path / "new.onnx", [node], 24)
    with pytest.raises(PassError) as refused:
        lowered(source, tmp_path, opset=opset)
    assert words in str(refused.value)


def test_an_element_type_that_an_ir_version_lacks_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT4, name="/c")]
    nodes += [helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT)]
    source = network(tmp_path / "four.onnx", nodes, 21)
    with pytest.raises(PassError, match="Cast '/c' holds INT4, which is in IR version 10 and later; 8 was asked"):
        lowered(source, tmp_path, ir_version=8)


@pytest.mark.parametrize(("name", "value"), [("opset", 12), ("opset", -1), ("ir_version", 6)])
def test_versions_that_nobody_needs_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Options(**{name: value})
