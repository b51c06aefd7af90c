import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.exits.exit_heads import confidence, threshold
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.trained import trained

QUICK = {"epochs": 15}


def apply(name, source, folder, options=None, **context):
    """A pass applied to a file; (path, notes)."""
    torch.set_num_threads(1)
    path = folder / f"{name}.onnx"
    report = load_pass(PassSpec(name, options or {})).apply(source, path, PassContext(work=folder, **context))
    return path, report.notes


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The transformer with one exit, and what the pass said."""
    network = trained("transformer")
    return apply("early_exit", network.network, tmp_path_factory.mktemp("left"), QUICK, training=network.training)


def pictures(count=469, name="transformer"):
    return np.concatenate([one.inputs["image"] for one in SampleFile(str(trained(name).evaluation)).read(count)])


def run(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"image": x})[0]


def one_by_one(path, x):
    session = onnxruntime.InferenceSession(path)
    return np.concatenate([session.run(None, {"image": x[i : i + 1]})[0] for i in range(len(x))])


@pytest.fixture(scope="module")
def answers(left):
    """The pictures, what the network says of them, what the one with the exit says, and which of these came late."""
    x = pictures()
    whole, found = one_by_one(trained("transformer").network, x), one_by_one(left[0], x)
    return x, whole, found, np.abs(whole - found).max(1) < 1e-4


def executed(path, x, folder):
    """How often each kind of node ran for one picture."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(path, options)
    session.run(None, {"image": x})
    events = json.loads(Path(session.end_profiling()).read_text())
    return Counter(e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time"))


def test_most_samples_leave_and_accuracy_stays_within_the_budget(left, answers):
    network = trained("transformer")
    _, notes = left
    assert "leave after /layers/layers.0/Add_1 (51% of the cost)" in notes[0]
    late = answers[3]
    assert 0.6 < 1 - late.mean() < 1
    assert evaluate_onnx(left[0], network.evaluation, "top1").value >= network.top1 - 0.02


def test_the_rest_of_the_network_does_not_run_for_a_sample_that_leaves(left, answers, tmp_path):
    x, _, _, late = answers
    early, slow = np.flatnonzero(~late)[0], np.flatnonzero(late)[0]
    ran_early, ran_late = (executed(left[0], x[i : i + 1], tmp_path) for i in (early, slow))
    assert ran_early["If"] == ran_late["If"] == 1
    assert ran_late["MatMul"] + ran_late["FusedMatMul"] >= 2 * (ran_early["MatMul"] + ran_early["FusedMatMul"]) - 1
    assert ran_early["LayerNormalization"] == 2
    assert ran_late["LayerNormalization"] == 5


def test_a_sample_that_stays_gets_the_answer_of_the_whole_network(answers):
    _, whole, found, late = answers
    assert late.any()
    np.testing.assert_allclose(found[late], whole[late], atol=1e-4)
    assert np.abs(found[~late] - whole[~late]).max() > 0.1, "the others got the exit's"


def test_a_batch_leaves_only_together(left, answers):
    x, whole, found, late = answers
    early = np.flatnonzero(~late)[:3]
    np.testing.assert_allclose(run(left[0], x[early]), found[early], atol=1e-4)
    mixed = [*early, np.flatnonzero(late)[0]]
    np.testing.assert_allclose(run(left[0], x[mixed]), whole[mixed], atol=1e-4)


def test_inputs_and_outputs_are_those_of_the_network(left):
    before, after = onnx.load(trained("transformer").network).graph, onnx.load(left[0]).graph
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)


def test_what_only_the_rest_needs_is_stored_with_the_rest(left):
    graph = onnx.load(left[0]).graph
    rest = next(a.g for node in graph.node if node.op_type == "If" for a in node.attribute if a.name == "else_branch")
    outer, inner = ({tensor.name for tensor in part.initializer} for part in (graph, rest))
    assert "layers.1.mlp.0.weight" in inner
    assert "layers.0.mlp.0.weight" in outer
    assert not outer & inner


def test_simplify_leaves_it_whole(left, answers, tmp_path):
    x, _, found, _ = answers
    slim, _ = apply("simplify", left[0], tmp_path)
    np.testing.assert_allclose(one_by_one(slim, x[:60]), found[:60], atol=1e-3)
    assert sum(node.op_type == "If" for node in onnx.load(slim).graph.node) == 1


def test_a_quantised_network_stays_quantised_on_both_sides(tmp_path):
    network = trained("residual")
    data = {"training": network.training, "calibration": network.calibration}
    quantised, _ = apply("quantise_static", network.network, tmp_path, calibration=network.calibration)
    path, _ = apply("early_exit", quantised, tmp_path, QUICK, **data)
    assert evaluate_onnx(path, network.evaluation, "top1").value >= network.top1 - 0.02

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(path, options)
    graph = onnx.load(tmp_path / "run.onnx").graph
    rest = next(a.g for node in graph.node if node.op_type == "If" for a in node.attribute if a.name == "else_branch")
    before, after = (Counter(node.op_type for node in part.node) for part in (graph, rest))
    assert (before["QLinearConv"], after["QLinearConv"]) == (4, 3)
    assert before["Conv"] == after["Conv"] == 0


def test_two_exits_are_nested_and_both_used(tmp_path):
    network = trained("transformer")
    path, notes = apply("early_exit", network.network, tmp_path, {**QUICK, "exits": 2}, training=network.training)
    assert notes[0].count("leave after") == 2
    onnx.checker.check_model(str(path), full_check=True)
    assert evaluate_onnx(path, network.evaluation, "top1").value >= network.top1 - 0.02


def test_without_labels_the_network_itself_is_the_teacher(tmp_path):
    network = trained("residual")
    path, notes = apply("early_exit", network.network, tmp_path, QUICK, calibration=network.calibration)
    assert "agreement with the network drops by" in notes[0]
    assert evaluate_onnx(path, network.evaluation, "top1").value >= network.top1 - 0.04


def test_entropy_and_a_named_node_serve_as_well(tmp_path):
    network = trained("residual")
    options = {**QUICK, "confidence": "entropy", "after": ["/blocks/blocks.0/Relu"], "grid": 1}
    path, notes = apply("early_exit", network.network, tmp_path, options, training=network.training)
    assert "leave after /blocks/blocks.0/Relu (" in notes[0]
    assert evaluate_onnx(path, network.evaluation, "top1").value >= network.top1 - 0.02


def test_exits_of_a_network_that_gives_shares_give_shares(tmp_path):
    network = trained("residual")
    model = onnx.load(network.network)
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["scores"], ["logits"], "soft", axis=-1))
    onnx.save(model, tmp_path / "soft.onnx")
    path, _ = apply("early_exit", tmp_path / "soft.onnx", tmp_path, QUICK, training=network.training)
    np.testing.assert_allclose(one_by_one(path, pictures(20)).sum(1), 1, atol=1e-4)


def test_an_exit_that_few_may_leave_at_is_an_error_that_says_so(tmp_path):
    network = trained("transformer")
    options = {**QUICK, "epochs": 1, "after": ["/embed/Add"], "max_drop": 0.0, "min_leaving": 0.5}
    with pytest.raises(PassError, match=r"no exit is worth it: within max_drop 0.*of held-out samples could leave"):
        apply("early_exit", network.network, tmp_path, options, training=network.training)


def test_no_samples_is_an_error(tmp_path):
    with pytest.raises(PassError, match="no training samples"):
        apply("early_exit", trained("residual").network, tmp_path)


def test_an_unknown_node_is_named(tmp_path):
    network = trained("residual")
    with pytest.raises(PassError, match="'no_such_node'"):
        apply("early_exit", network.network, tmp_path, {"after": ["no_such_node"]}, training=network.training)


def test_a_tensor_that_no_head_can_read_is_refused_with_its_shape(tmp_path):
    network = trained("recurrent")
    with pytest.raises(PassError, match=r"/lstm/LSTM makes float32\[8, 1, 1, 48\]"):
        apply("early_exit", network.network, tmp_path, {"after": ["/lstm/LSTM"]}, training=network.training)


def test_a_network_that_classifies_nothing_is_refused(tmp_path):
    model = onnx.load(trained("residual").network)
    model.graph.output.append(onnx.helper.make_tensor_value_info("/ReduceMean_output_0", 1, ["batch", 32]))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(PassError, match="exits need one output"):
        apply("early_exit", tmp_path / "two.onnx", tmp_path, training=trained("residual").training)


def test_labels_that_are_no_classes_are_refused(tmp_path):
    x = pictures(20)[:, None]
    write_samples(str(tmp_path / "t.npz"), {"input:image": x, "labels": np.full([20, 1], 17)})
    with pytest.raises(PassError, match="up to 17 are no class numbers for the 10 classes"):
        apply("early_exit", trained("residual").network, tmp_path, training=tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("right", "allowed", "leaving"),
    [
        ([1, 1, 1, 1, 1], 0, 5),
        ([1, 1, 0, 1, 1], 0, 2),
        ([1, 1, 0, 1, 1], 1.9, 2),  # one lost and its standard error are 2
        ([1, 1, 0, 1, 1], 2, 5),
        ([0, 1, 1, 1, 1], 0, 0),
    ],
)
def test_the_threshold_lets_as_many_leave_as_the_budget_allows(right, allowed, leaving):
    sure = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = threshold(sure, np.array(right, bool), np.ones(5, bool), allowed)
    assert (0 if found is None else int((sure > found).sum())) == leaving


def test_samples_that_are_equally_sure_leave_together():
    found = threshold(np.full(4, 0.7), np.array([1, 1, 1, 0], bool), np.ones(4, bool), 0)
    assert found is None


def test_both_confidences_rise_with_the_largest_share():
    scores = np.array([[0, 0, 0], [2, 0, 0], [8, 0, 0]], np.float32)
    for kind in ("probability", "entropy"):
        assert (np.diff(confidence(scores, kind)) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exits": 0}, "exits is 0"),
        ({"max_drop": 1.0}, "max_drop is 1.0"),
        ({"held_out": 0.0}, "held_out is 0.0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_value(options, message):
    with pytest.raises(PassError, match=message):
        load_pass(PassSpec("early_exit", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    network = trained("residual")
    options = {"epochs": 4, "samples": 300}
    check(Case("early_exit", network.network, network.calibration, tmp_path, options, training=network.training))
