"""A model that does not take equally long for every input: which inputs are timed, and what is told of them."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from edgeopt_runner import measure, varied
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.worker import Board

MS = 1_000_000


@pytest.fixture
def timed(monkeypatch):
    """Calls that take as long as they are told, on a clock that they alone move; and how often each ran."""
    state = SimpleNamespace(now=0, runs=[])
    monkeypatch.setattr(measure, "clock_ns", lambda: state.now)

    def calls(*durations_ns):
        def call(number):
            state.runs.append(number)
            state.now += durations_ns[number]

        return [lambda number=number: call(number) for number in range(len(durations_ns))]

    return SimpleNamespace(calls=calls, state=state)


def test_the_average_is_over_the_inputs_and_the_worst_is_the_slowest_of_them(timed):
    found = varied.each(timed.calls(1 * MS, 1 * MS, 1 * MS, 9 * MS), expected_ns=MS, seconds=1.0)
    assert found == {"average_ns": 3 * MS, "worst_ns": 9 * MS}
    assert timed.state.runs == [0, 1, 2, 3] * varied.MOST_ROUNDS


def test_one_hiccup_is_not_the_worst_case(timed):
    calls = timed.calls(1 * MS, 2 * MS)
    first = calls[0]

    def hiccup():
        first()
        timed.state.now += 500 * MS if len(timed.state.runs) == 1 else 0

    assert varied.each([hiccup, calls[1]], MS, 1.0) == {"average_ns": 3 * MS // 2, "worst_ns": 2 * MS}


def test_slow_models_are_timed_on_fewer_inputs_evenly_spread(timed):
    varied.each(timed.calls(*[100 * MS] * 40), expected_ns=100 * MS, seconds=5.0)
    assert sorted(set(timed.state.runs)) == list(range(0, 40, 4))


def test_inputs_are_evenly_spread_and_bounded(tmp_path, monkeypatch):
    values = np.arange(100, dtype=np.float32).reshape(100, 1, 1)
    write_samples(str(tmp_path / "e.npz"), {"input:x": values})
    session = SimpleNamespace(inputs=["x"])
    assert len(varied.input_buffers(SampleFile(str(tmp_path / "e.npz")), session)) == 100
    monkeypatch.setattr(varied, "MOST_BYTES", 40)
    found = varied.input_buffers(SampleFile(str(tmp_path / "e.npz")), session)
    assert [float(feed["x"][0, 0]) for feed in found] == list(range(0, 100, 10))


def branching(path):
    """Input ``x`` [1, 3, 16, 16], output ``logits`` [1, 5]: much more work where the mean is positive."""
    random = np.random.default_rng(0)
    wide = {"w1": (64, 3, 3, 3), "w2": (64, 64, 3, 3), "w3": (5, 64, 1, 1)}
    weights = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), name) for name, s in wide.items()]
    weights.append(numpy_helper.from_array(random.normal(size=(5, 3)).astype(np.float32), "g"))
    weights.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    make, kind = helper.make_node, TensorProto.FLOAT
    early = [make("GlobalAveragePool", ["x"], ["p"]), make("Flatten", ["p"], ["f"])]
    early.append(make("Gemm", ["f", "g"], ["early"], transB=1))
    late = [make("Conv", ["x", "w1"], ["a"]), make("Conv", ["a", "w2"], ["b"]), make("Conv", ["b", "w3"], ["c"])]
    late += [make("GlobalAveragePool", ["c"], ["d"]), make("Flatten", ["d"], ["late"])]
    then = helper.make_graph(late, "late", [], [helper.make_tensor_value_info("late", kind, [1, 5])])
    other = helper.make_graph(early, "early", [], [helper.make_tensor_value_info("early", kind, [1, 5])])
    nodes = [make("ReduceMean", ["x"], ["m"], keepdims=0), make("Greater", ["m", "zero"], ["hard"])]
    nodes.append(make("If", ["hard"], ["logits"], then_branch=then, else_branch=other))
    inputs = [helper.make_tensor_value_info("x", kind, [1, 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("logits", kind, [1, 5])]
    graph = helper.make_graph(nodes, "branching", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_job_tells_average_and_worst_over_the_evaluation_set(tmp_path):
    board = Board(tmp_path)
    model = board.add(branching(tmp_path / "b.onnx"))
    job = board.job(model=model, min_cosine=-1.0)
    plain = documents.decode(Measurement, board.work(job)["result"]["measurement"], where="worker")
    assert (plain.latency.average_ns, plain.latency.worst_ns) == (None, None)

    found = documents.decode(
        Measurement, board.work({**job, "by_input": True})["result"]["measurement"], where="worker"
    )
    assert found.status == "ok"
    assert 0 < found.latency.average_ns < found.latency.worst_ns
    assert found.latency.worst_ns > 3 * found.latency.min_ns, "inputs of both kinds were timed"


def test_without_an_evaluation_set_the_golden_samples_are_timed(tmp_path):
    board = Board(tmp_path)
    model = board.add(branching(tmp_path / "b.onnx"))
    job = board.job(model=model, min_cosine=-1.0, by_input=True, evaluation=None)
    found = documents.decode(Measurement, board.work(job)["result"]["measurement"], where="worker")
    assert found.latency.average_ns <= found.latency.worst_ns
