"""The worker on a real model in a process of its own: what it records, what it calls failures, in which order."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from edgeopt.core.profile import Settings
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.worker import SHORT, Board, conv_network

PHASES = ["preflight", "import", "load", "first", "golden", "warmup", "measure", "evaluate", "evidence"]
MIB = 1 << 20
INTERPRETERS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return Board(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def measured(board):
    return board.work(board.job())


def measurement_of(answer):
    return documents.decode(Measurement, answer["result"]["measurement"], where="worker")


def add_samples(board, folder, **arrays):
    path = Path(folder, "samples.npz")
    write_samples(str(path), {name.replace("__", ":"): array for name, array in arrays.items()})
    return board.add(path)


def check_job(board, **fields):
    return board.job(**{"kind": "check", "runs": 20, "max_latency_ns": None, **fields})


def test_the_record_is_a_whole_measurement(board, measured):
    found = measurement_of(measured)
    assert (found.status, found.detail, found.ok) == ("ok", "", True)
    assert found.variant_digest == board.model
    assert (found.settings, found.plan) == (Settings(), SHORT)
    assert set(found.phases_ns) == {"import", "load", "first"}
    assert all(value > 0 for value in found.phases_ns.values())
    assert len(found.device_fingerprint) == 64
    import onnxruntime

    assert found.runtime_version == onnxruntime.__version__
    fields = set(Measurement.__dataclass_fields__)
    assert set(measured["result"]["measurement"]) <= fields  # nothing that the host would not know
    latency = measured["result"]["measurement"]["latency"]
    assert set(latency) == set(type(found.latency).__dataclass_fields__)


def test_phases_are_announced_in_order(measured):
    assert [event["phase"] for event in measured["events"]] == PHASES
    assert {event["event"] for event in measured["events"]} == {"phase"}


def test_latency_is_that_of_the_samples(measured):
    latency = measurement_of(measured).latency
    assert latency.median_ns == int(np.median(latency.samples_ns))
    assert latency.min_ns <= latency.median_ns <= latency.p90_ns <= latency.max_ns
    assert len(latency.samples_ns) >= SHORT.min_samples


def test_memory_is_told_by_phase(measured):
    memory = measurement_of(measured).memory
    assert 10 * MIB < memory.import_bytes < memory.load_bytes * 2
    assert memory.run_bytes > 10 * MIB
    assert 0 < memory.pss_bytes <= memory.peak_bytes
    assert memory.available_drop_bytes is not None


def test_evidence_holds_what_the_flags_were_judged_by(measured):
    evidence = measurement_of(measured).evidence
    assert set(evidence["before"]) == set(evidence["after"])
    assert 0 <= evidence["idle_share"] <= 1
    assert 0 <= evidence["others_share"] <= 1
    assert evidence["monotonic_seconds"] > 0
    assert evidence["wall_seconds"] > 0
    assert evidence["difference"]["major_faults"] >= 0
    assert evidence["cool_down"]["hot"] is False


def test_outputs_are_compared_with_the_source_models(measured):
    correctness = measurement_of(measured).correctness
    assert correctness.passed
    assert correctness.cosine == pytest.approx(1.0, abs=1e-6)
    assert correctness.max_abs < 1e-4


def test_top1_counts_each_sample(board, measured):
    accuracy = measurement_of(measured).accuracy
    assert (accuracy.metric, accuracy.samples) == ("top1", 12)
    assert accuracy.per_sample == (0.0,) * 3 + (1.0,) * 9  # three labels are wrong on purpose
    assert accuracy.value == 0.75


def test_fidelity_compares_with_the_references(board, tmp_path):
    noisy = board.reference + np.float32(0.3)
    evaluation = add_samples(board, tmp_path, input__x=board.inputs, reference__logits=noisy)
    accuracy = measurement_of(board.work(board.job(metric="fidelity", evaluation=evaluation))).accuracy
    expected = [metrics.cosine({"o": n}, {"o": r}) for n, r in zip(noisy, board.reference, strict=True)]
    assert accuracy.per_sample == pytest.approx(expected, abs=1e-5)
    assert accuracy.value == pytest.approx(np.mean(expected), abs=1e-5)
    assert accuracy.extra["top1_agreement"] == 1.0
    sqnr = [metrics.sqnr_db({"o": n}, {"o": r}) for n, r in zip(noisy, board.reference, strict=True)]
    assert accuracy.extra["sqnr_db"] == pytest.approx(np.mean(sqnr), abs=1e-3)


def test_outputs_come_back_as_a_sample_file(board):
    answer = board.work(board.job(metric="outputs"))
    assert measurement_of(answer).accuracy is None
    outputs = answer["result"]["outputs"]
    path = board.root / "objects" / outputs["sha256"]
    assert path.stat().st_size == outputs["size"]
    found = np.stack([sample.reference["logits"] for sample in SampleFile(str(path))])
    np.testing.assert_allclose(found, board.reference, rtol=1e-4, atol=1e-5)
    assert not list((board.root / "jobs" / ("ab" * 16)).iterdir())  # nothing left behind


def test_a_plan_without_evaluation_skips_it(board):
    answer = board.work(board.job(plan=SHORT.without_evaluation()))
    assert "evaluate" not in [event["phase"] for event in answer["events"]]
    assert measurement_of(answer).accuracy is None
    assert measurement_of(answer).correctness.passed


def test_evaluation_takes_one_sample_at_a_time_and_does_not_count_as_memory_of_the_run(tmp_path):
    board = Board(tmp_path, size=256)
    many = np.repeat(board.inputs, 8, axis=0)  # 72 MiB in all
    labels = np.zeros((len(many), 1), np.int64)
    evaluation = add_samples(board, tmp_path, input__x=many, labels=labels)
    answer = board.work(board.job(evaluation=evaluation))
    with_evaluation = measurement_of(answer)
    assert answer["peak_bytes"] < with_evaluation.memory.run_bytes + 24 * MIB
    without = measurement_of(board.work(board.job(evaluation=None)))
    assert with_evaluation.accuracy.samples == len(many)
    assert abs(with_evaluation.memory.run_bytes - without.memory.run_bytes) < 8 * MIB


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (lambda r: r[..., ::-1].copy(), "cosine"),
        (lambda r: r[..., :4].copy(), "has shape [1, 5], not [1, 4]"),
    ],
)
def test_wrong_outputs_do_not_pass(board, tmp_path, reference, reason):
    golden = add_samples(board, tmp_path, input__x=board.inputs[:4], reference__logits=reference(board.reference[:4]))
    found = measurement_of(board.work(board.job(golden=golden)))
    assert found.status == "ok"
    assert not found.ok
    assert reason in found.correctness.reason


@pytest.mark.parametrize(
    ("bias", "gain", "reason"),
    [
        (float("nan"), 1.0, "not finite"),
        (2.0, 0.0, "output logits is constant"),
    ],
)
def test_broken_outputs_are_named_and_never_break_the_record(board, tmp_path, bias, gain, reason):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(conv_network(tmp_path / "broken.onnx", bias=bias)))
    for weight in model.graph.initializer:
        if weight.name == "g":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(gain), "g"))
    onnx.save(model, str(tmp_path / "broken.onnx"))
    answer = board.work(board.job(model=board.add(tmp_path / "broken.onnx")))
    correctness = measurement_of(answer).correctness
    assert not correctness.passed
    assert reason in correctness.reason


def test_outputs_that_do_not_follow_the_inputs_do_not_pass(board, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(conv_network(tmp_path / "deaf.onnx")))
    fixed = {"g": lambda a: a * 0, "b": lambda a: np.arange(len(a), dtype=np.float32)}
    for weight in model.graph.initializer:
        if weight.name in fixed:
            array = fixed[weight.name](numpy_helper.to_array(weight))
            weight.CopyFrom(numpy_helper.from_array(array.astype(np.float32), weight.name))
    onnx.save(model, str(tmp_path / "deaf.onnx"))
    answer = board.work(board.job(model=board.add(tmp_path / "deaf.onnx"), min_cosine=-1.0))
    assert measurement_of(answer).correctness.reason == "the outputs are the same for every input"


def test_a_file_that_is_no_model_fails_to_load_in_one_line(board, tmp_path):
    (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
    answer = board.work(board.job(model=board.add(tmp_path / "garbage")))
    found = measurement_of(answer)
    assert (found.status, answer["result"]["status"]) == ("load_failed", "load_failed")
    assert "ONNXRuntimeError" in found.detail
    assert "\n" not in found.detail
    assert found.latency is None
    assert found.memory.import_bytes > 0  # as far as it got
    assert found.evidence["before"]
    assert answer["events"][-1]["phase"] == "load"


def test_a_runtime_that_got_no_memory_is_told_from_one_that_failed(board, tmp_path):
    wide = helper.make_tensor("shape", TensorProto.INT64, [4], [1 << 37, 3, 16, 16])  # 422 TB
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["y"], axes=[0, 1, 2, 3], keepdims=0),
    ]
    shapes = ("x", [1, 3, 16, 16]), ("y", [])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "greedy", [x], [y], [wide])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, tmp_path / "greedy.onnx")
    found = measurement_of(board.work(board.job(model=board.add(tmp_path / "greedy.onnx"))))
    assert found.status == "oom", found.detail
    assert "llocat" in found.detail


def test_a_missing_runtime_is_told_apart(board):
    found = measurement_of(board.work(board.job(settings=Settings(runtime="tensorrt"))))
    assert found.status == "runtime_missing"
    assert "tensorrt" in found.detail


def test_a_file_that_changed_on_the_device_is_not_measured(board, tmp_path):
    (tmp_path / "model").write_bytes(b"other")
    digest = board.add(tmp_path / "model")
    (board.root / "objects" / digest).write_bytes(b"flipped")
    assert measurement_of(board.work(board.job(model=digest))).status == "digest_mismatch"


@pytest.mark.parametrize("field", ["golden", "evaluation"])
def test_a_missing_object_is_named(board, field):
    found = measurement_of(board.work(board.job(**{field: "0" * 64})))
    assert found.status == "missing_object"
    assert "0" * 64 in found.detail


def test_a_metric_without_what_it_needs_keeps_the_latency(board, tmp_path):
    evaluation = add_samples(board, tmp_path, input__x=board.inputs)
    found = measurement_of(board.work(board.job(evaluation=evaluation)))
    assert found.status == "error"
    assert "labels" in found.detail
    assert found.latency is not None


def test_samples_that_do_not_fit_the_model_are_told_by_the_runtime(board, tmp_path):
    golden = add_samples(board, tmp_path, input__x=board.inputs[..., :8], reference__logits=board.reference)
    found = measurement_of(board.work(board.job(golden=golden)))
    assert found.status == "error"
    assert "\n" not in found.detail
    assert "x" in found.detail


def test_an_input_that_a_pass_removed_is_not_fed(board, tmp_path):
    extra = np.ones((12, 1, 2), np.float32)
    golden = add_samples(board, tmp_path, input__x=board.inputs, input__unused=extra, reference__logits=board.reference)
    assert measurement_of(board.work(board.job(golden=golden))).ok


def test_a_delay_in_the_engine_shows_for_its_own_artifact_only(board):
    delayed = measurement_of(board.work(board.job(), fault=f"engine.run:sleep=0.004@{board.model[:12]}"))
    other = measurement_of(board.work(board.job(), fault="engine.run:sleep=0.004@" + "0" * 12))
    assert delayed.latency.min_ns >= 4_000_000
    assert other.latency.min_ns < 4_000_000


def test_a_fault_while_loading_is_recorded(board):
    found = measurement_of(board.work(board.job(), fault="engine.load:raise=ENOSPC"))
    assert found.status == "disk_full"


def test_outputs_that_change_under_load_do_not_pass(board):
    from edgeopt_runner.correctness import Comparison, judge

    assert judge(Comparison(1.0, 0.1, ""), Comparison(0.9, 0.2, ""))["reason"].startswith("outputs changed under load")
    assert judge(Comparison(1.0, 0.1, ""), Comparison(0.0, None, "output y is constant")) == {
        "passed": False,
        "cosine": 0.0,
        "max_abs": None,
        "reason": "after the load: output y is constant",
    }
    assert judge(Comparison(0.9999, 0.1, ""), Comparison(0.9998, 0.2, ""))["passed"]


def test_paced_load_is_recorded_with_its_misses(board):
    plan = replace(SHORT, name="paced", target_fps=50.0, min_samples=10, min_seconds=0.3)
    found = measurement_of(board.work(board.job(plan=plan, evaluation=None)))
    assert found.evidence["frames"] >= 10
    assert "deadline_misses" in found.evidence
    assert "cpu_seconds" in found.evidence


@pytest.mark.parametrize("python", INTERPRETERS, ids=lambda path: path.parents[1].name)
def test_every_interpreter_gets_as_far_as_its_missing_runtime(board, python):
    found = measurement_of(board.work(board.job(), python=str(python)))
    assert found.status == "runtime_missing" or found.latency  # an interpreter that has the runtime measures
    assert found.evidence["before"]["memory_available_bytes"] > 0


def test_numpy_is_not_loaded_before_the_runtime_is(board):
    answer = board.work(board.job(settings=Settings(runtime="tensorrt")))
    assert (
        "numpy" not in answer["modules"]
    )  # it would not show in the import phase, and boards without it could not say


def test_a_check_passes_a_right_model_with_its_median(board):
    answer = board.work(check_job(board))["result"]
    assert (answer["status"], answer["detail"]) == ("ok", "")
    assert set(answer["check"]) == {
        *("passed", "cosine", "median_ns", "reason", "samples_ns", "memory_bytes", "disturbed"),
    }
    assert len(answer["check"]["samples_ns"]) == 20
    assert answer["check"]["memory_bytes"] > MIB
    assert answer["check"]["passed"]
    assert answer["check"]["median_ns"] > 0


@pytest.mark.parametrize(
    ("fields", "fault", "reason"),
    [
        ({"max_latency_ns": 3_000_000}, "engine.run:sleep=0.004", "more than 3.000 ms"),
        ({"min_cosine": 1.1}, "", "less than 1.1"),
    ],
)
def test_a_check_fails_a_slow_or_wrong_model_with_its_reason(board, fields, fault, reason):
    answer = board.work(check_job(board, **fields), fault=fault)["result"]
    assert answer["status"] == "ok"
    assert not answer["check"]["passed"]
    assert reason in answer["check"]["reason"]


def test_a_check_of_what_is_no_model_says_so(board, tmp_path):
    (tmp_path / "garbage").write_bytes(b"garbage")
    answer = board.work(check_job(board, model=board.add(tmp_path / "garbage")))["result"]
    assert answer["status"] == "load_failed"
    assert not answer["check"]["passed"]
    assert answer["check"]["reason"] == answer["detail"] != ""


def test_the_answer_fits_into_a_frame(measured):
    from edgeopt_runner.protocol import frames

    assert len(frames.encode(measured["result"])) < 1 << 20
    json.dumps(asdict(measurement_of(measured)))
