"""Cutting, fusing and merging of real networks: what comes out gives what went in, and what cannot be is said."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeopt.errors import ModelError, ParityError, UsageError
from edgeopt.graph import stage_files
from edgeopt.graph.cuts import choose_cuts, cut_points, cuts_named
from edgeopt.graph.merge import share_trunk
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.stages import fuse, is_chain, split
from support.networks import constant, matmul_transformer_onnx, mlp_onnx, save, small_cnn_onnx
from support.trained import trained


def run(model: Any, **feed: Any) -> dict[str, Any]:
    return run_feed(open_session(model.SerializeToString()), feed)


def load(path: Path) -> Any:
    return onnx.load(str(path))


def rewritten(path: Path, change: Any) -> Any:
    """A network with some weights changed."""
    model = load(path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(change(tensor.name, onnx.numpy_helper.to_array(tensor)), tensor.name)
        )
    return model


@pytest.mark.parametrize(("name", "parts"), list(itertools.product(["residual", "depthwise", "transformer"], [2, 3])))
def test_stages_of_trained_networks_classify_as_the_whole_does(name: str, parts: int) -> None:
    from edgeopt_runner.protocol.samples import SampleFile

    whole = load(trained(name).network)
    made = split(whole, choose_cuts(cut_points(whole), parts))
    assert len(made) == parts
    sessions = [open_session(stage.SerializeToString()) for stage in made]
    for sample in SampleFile(str(trained(name).evaluation)).read(40):
        values = dict(sample.inputs)
        for session in sessions:
            values |= run_feed(session, {spec.name: values[spec.name] for spec in session.get_inputs()})
        np.testing.assert_allclose(values["logits"], sample.reference["logits"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["residual", "transformer", "recurrent"])
def test_fused_stages_are_the_network_again(name: str) -> None:
    whole = load(trained(name).network)
    fused = fuse(split(whole, choose_cuts(cut_points(whole), 2))).model
    onnx.checker.check_model(fused)
    image = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(fused, image=image)["logits"], run(whole, image=image)["logits"])
    assert [value.name for value in fused.graph.output] == [value.name for value in whole.graph.output]
    assert fused.graph.input[0].type == whole.graph.input[0].type  # the batch is still free
    assert {t.name for t in fused.graph.initializer} <= {t.name for t in whole.graph.initializer}
    assert not [prop for prop in fused.metadata_props if prop.key.startswith("edgeopt")]


def test_every_cut_of_the_residual_network_is_between_its_blocks() -> None:
    cuts = cut_points(load(trained("residual").network))
    names = [cut.tensor for cut in cuts]
    assert "/blocks/blocks.0/Relu_1_output_0" in names
    assert not [name for name in names if "conv1" in name]  # inside a block the shortcut goes past
    shares = [cut.mac_share for cut in cuts]
    assert shares == sorted(shares)
    block = next(cut for cut in cuts if cut.tensor == "/blocks/blocks.0/Relu_1_output_0")
    stem, first = 16 * 9 * 64, (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 16
    second = (2 * 32 * 32 * 9 + 32 * 32) * 16
    assert block.mac_share == pytest.approx((stem + first) / (stem + first + second + 320))
    assert (block.shape, block.size_bytes) == ((None, 32, 4, 4), 32 * 4 * 4 * 4)


@pytest.mark.parametrize(("parts", "most"), [(2, 0.6), (3, 0.5)])
def test_chosen_cuts_balance_the_work(parts: int, most: float) -> None:
    chosen = choose_cuts(cut_points(load(trained("transformer").network)), parts)
    shares = [0.0, *(cut.mac_share for cut in chosen), 1.0]
    assert max(after - before for before, after in itertools.pairwise(shares)) < most


def test_among_equals_the_cut_comes_after_what_the_runtime_fuses(tmp_path: Path) -> None:
    whole = load(small_cnn_onnx(tmp_path / "m.onnx"))
    (cut,) = choose_cuts(cut_points(whole), 2)
    assert cut.tensor in ("r1", "r2", "p", "f")  # never between a convolution and its activation


def test_quantised_networks_are_cut_where_the_bytes_are_few(tmp_path: Path) -> None:
    scale, zero = constant("s", 0.05), constant("z", 0, np.int8)
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Gemm", ["d", "w2"], ["y"]),
    ]
    weights = [constant("w1", np.eye(8)), constant("w2", np.eye(8)), scale, zero]
    whole = load(save(tmp_path / "q.onnx", nodes, {"x": ("N", 8)}, {"y": ("N", 8)}, weights))
    (cut,) = choose_cuts(cut_points(whole), 2)
    assert (cut.tensor, cut.dtype, cut.size_bytes) == ("q", "int8", 8)
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    first, second = split(whole, [cut])
    found = run(second, **run(first, x=x))["y"]
    np.testing.assert_array_equal(found, run(whole, x=x)["y"])


def exits(path: Path) -> Path:
    """A trunk with a head half way, written last in the file, and an input that only the end reads: x, mask."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Mul", ["d", "mask"], ["late"]),
        helper.make_node("Gemm", ["b", "w3"], ["early"]),
    ]
    rng = np.random.default_rng(0)
    weights = [constant(f"w{i}", rng.normal(size=(6, 6))) for i in (1, 2, 3)]
    return save(path, nodes, {"x": ("N", 6), "mask": ("N", 6)}, {"late": ("N", 6), "early": ("N", 6)}, weights)


def test_early_outputs_and_late_inputs_go_with_the_stage_that_has_them(tmp_path: Path) -> None:
    whole = load(exits(tmp_path / "m.onnx"))
    chosen = cuts_named(cut_points(whole), ["c", "b"], whole)
    assert [cut.tensor for cut in chosen] == ["b", "c"]
    stages = split(whole, chosen)
    assert [[value.name for value in stage.graph.input] for stage in stages] == [["x"], ["b"], ["c", "mask"]]
    assert [[value.name for value in stage.graph.output] for stage in stages] == [["b"], ["c", "early"], ["late"]]
    fused = fuse(stages).model
    assert [value.name for value in fused.graph.output] == ["late", "early"]
    assert [value.name for value in fused.graph.input] == ["x", "mask"]
    feed = {name: np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32) for name in ("x", "mask")}
    for name, value in run(whole, **feed).items():
        np.testing.assert_array_equal(run(fused, **feed)[name], value)


def test_a_cut_that_is_an_output_too_stays_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    whole = load(save(tmp_path / "m.onnx", nodes, {"x": (1, 3)}, {"y": (1, 3), "a": (1, 3)}))
    fused = fuse(split(whole, cut_points(whole))).model
    assert [value.name for value in fused.graph.output] == ["y", "a"]


def test_inner_graphs_keep_what_they_take_from_outside(tmp_path: Path) -> None:
    inner = [
        helper.make_graph(
            [helper.make_node(kind, ["a"], [f"i_{kind}"])],
            kind,
            [],
            [helper.make_tensor_value_info(f"i_{kind}", 1, [1, 3])],
        )
        for kind in ("Abs", "Neg")
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("ReduceSum", ["a"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["b"], then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    whole = load(save(tmp_path / "m.onnx", nodes, {"x": (1, 3)}, {"y": (1, 3)}, [constant("zero", 0.0)]))
    assert [cut.tensor for cut in cut_points(whole)] == ["a", "b"]
    first, second = split(whole, cuts_named(cut_points(whole), ["a"], whole))
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(run(second, **run(first, x=x))["y"], run(whole, x=x)["y"])


def test_a_network_without_a_valid_cut_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    nodes.append(helper.make_node("Add", ["a", "b"], ["y"]))
    whole = load(save(tmp_path / "m.onnx", nodes, {"x": (1, 3)}, {"y": (1, 3)}))
    assert cut_points(whole) == ()
    with pytest.raises(ModelError, match="no single tensor separates"):
        choose_cuts(cut_points(whole), 2)
    with pytest.raises(UsageError, match="--at a is no valid cut: b would have to cross too"):
        cuts_named((), ["a"], whole)


def test_wrong_parts_and_tensors_are_named(tmp_path: Path) -> None:
    whole = load(mlp_onnx(tmp_path / "m.onnx"))
    cuts = cut_points(whole)
    with pytest.raises(UsageError, match=r"--parts 9 is more than the 3 stages .*Use at most 3"):
        choose_cuts(cuts, 9)
    for parts in (1, 0, -2):
        with pytest.raises(UsageError, match=f"--parts {parts} cuts nothing"):
            choose_cuts(cuts, parts)
    big = load(trained("residual").network)
    with pytest.raises(UsageError, match=r"no such tensor\. Did you mean .*blocks.0/Relu_1_output_0"):
        cuts_named(cut_points(big), ["/blocks/blocks.0/Relu1_output_0"], big)


def test_cuts_on_branches_beside_each_other_are_no_chain(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"])]
    for head in "pq":
        nodes += [helper.make_node("Neg", ["a"], [f"{head}1"]), helper.make_node("Abs", [f"{head}1"], [head])]
    whole = load(save(tmp_path / "m.onnx", nodes, {"x": (1, 3)}, {"p": (1, 3), "q": (1, 3)}))
    with pytest.raises(UsageError, match="beside each other"):
        cuts_named(cut_points(whole), ["p1", "q1"], whole)
    assert len(split(whole, cuts_named(cut_points(whole), ["a", "q1"], whole))) == 3


def heads(tmp_path: Path) -> tuple[Path, Path]:
    """Two networks on one trunk: everything but the last layer is the same, names and all else differ."""
    first = small_cnn_onnx(tmp_path / "digits.onnx")
    other = rewritten(first, lambda name, array: array[..., ::-1].copy() if name in ("w3", "b3") else array)
    for tensor in other.graph.initializer:
        tensor.name += "_other"
    for node in other.graph.node:
        node.name += "_other"
        own = {tensor.name.removesuffix("_other") for tensor in other.graph.initializer}
        node.input[:] = [name if name == "image" else f"{name}_other" for name in node.input]
        node.output[:] = [name if name == "logits" else f"{name}_other" for name in node.output]
        assert own
    onnx.save(other, str(tmp_path / "parity.onnx"))
    return first, tmp_path / "parity.onnx"


def test_models_that_share_a_trunk_store_it_once_and_give_what_they_gave(tmp_path: Path) -> None:
    first, second = heads(tmp_path)
    merged = share_trunk([load(first), load(second)], ["digits", "parity"])
    assert merged.shared_nodes == 7  # all but the Gemm
    trunk = sum(
        onnx.numpy_helper.to_array(t).nbytes for t in load(first).graph.initializer if t.name not in ("w3", "b3")
    )
    assert merged.shared_bytes == trunk
    assert len(merged.model.graph.node) == 9
    assert [value.name for value in merged.model.graph.output] == ["logits", "logits_parity"]
    assert merged.outputs == ({"logits": "logits"}, {"logits": "logits_parity"})
    image = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    found = run(merged.model, image=image)
    np.testing.assert_array_equal(found["logits"], run(load(first), image=image)["logits"])
    np.testing.assert_array_equal(found["logits_parity"], run(load(second), image=image)["logits"])


def test_one_changed_weight_ends_the_trunk(tmp_path: Path) -> None:
    first, _ = heads(tmp_path)
    changed = rewritten(first, lambda name, array: array * np.float32(1.001) if name == "w2" else array)
    assert share_trunk([load(first), changed], ["a", "b"]).shared_nodes == 3
    with pytest.raises(ModelError, match="nothing in common"):
        share_trunk([load(first), rewritten(first, lambda name, array: array + np.float32(0.01))], ["a", "b"])


def test_other_attributes_end_the_trunk(tmp_path: Path) -> None:
    first, _ = heads(tmp_path)
    other = load(first)
    conv = next(node for node in other.graph.node if node.name == "conv2")
    conv.attribute.append(helper.make_attribute("dilations", [2, 2]))
    assert share_trunk([load(first), other], ["a", "b"]).shared_nodes == 3


def test_inputs_of_other_names_or_forms(tmp_path: Path) -> None:
    first, second = load(mlp_onnx(tmp_path / "a.onnx")), load(mlp_onnx(tmp_path / "b.onnx"))
    second.graph.input[0].name = second.graph.node[0].input[0] = "tokens"
    second.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(np.ones((64, 10), np.float32), "w2"))
    merged = share_trunk([first, second], ["a", "b"])
    assert merged.inputs == ({"x": "x"}, {"tokens": "x"})
    assert "Input tokens of b is x in the whole." in merged.notes
    with pytest.raises(ModelError, match="input x of c is"):
        share_trunk([first, load(mlp_onnx(tmp_path / "c.onnx", features=16))], ["a", "c"])


def test_chains_link_by_name_else_by_place(tmp_path: Path) -> None:
    first = load(matmul_transformer_onnx(tmp_path / "a.onnx"))
    second = load(matmul_transformer_onnx(tmp_path / "b.onnx", seed=1))  # gives `features`, takes `tokens`
    assert is_chain([first, second])
    fused = fuse([first, second], ["a", "b"])
    assert fused.notes[0] == "b takes tokens from features of a."
    tokens = np.random.default_rng(0).normal(size=(2, 8, 32)).astype(np.float32)
    wanted = run(second, tokens=run(first, tokens=tokens)["features"])["features"]
    (name,) = fused.outputs
    np.testing.assert_allclose(run(fused.model, tokens=tokens)[name], wanted, rtol=1e-4, atol=1e-4)


def test_opsets_that_differ_are_brought_together(tmp_path: Path) -> None:
    first = load(mlp_onnx(tmp_path / "a.onnx", width=16, features=10))
    second = load(mlp_onnx(tmp_path / "b.onnx", features=10, seed=3))
    second.opset_import[0].version = 14
    fused = fuse([first, second], ["a", "b"])
    assert fused.model.opset_import[0].version == 17
    assert any("opset 14 to 17" in note for note in fused.notes)


def test_neither_chain_nor_trunk_is_said_with_what_each_takes(tmp_path: Path) -> None:
    a, b = mlp_onnx(tmp_path / "a.onnx"), small_cnn_onnx(tmp_path / "b.onnx")
    with pytest.raises(ModelError, match="a, b have nothing in common"):
        stage_files.merge_files([str(a), str(b)], ["a", "b"], str(tmp_path / "out.onnx"))
    with pytest.raises(ModelError, match="a gives y, of which b takes nothing: its inputs are image"):
        fuse([load(a), load(b)], ["a", "b"])
    assert not (tmp_path / "out.onnx").exists()


def test_no_file_is_written_where_outputs_would_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = heads(tmp_path)
    real = stage_files.merge.share_trunk

    def spoiled(*arguments: Any) -> Any:
        merged = real(*arguments)
        merged.model.graph.initializer[-1].CopyFrom(
            onnx.numpy_helper.from_array(np.zeros(10, np.float32), merged.model.graph.initializer[-1].name)
        )
        return merged

    monkeypatch.setattr(stage_files.merge, "share_trunk", spoiled)
    with pytest.raises(ParityError, match="differ by"):
        stage_files.merge_files([str(first), str(second)], ["a", "b"], str(tmp_path / "out.onnx"))
    assert not (tmp_path / "out.onnx").exists()
