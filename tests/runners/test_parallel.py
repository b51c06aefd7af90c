"""Several sessions of one model: requests at once, batches split over them in order, all of it under real load."""

import itertools
import threading
import time

import numpy as np
import pytest

from edgeopt import documents
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.documents import plain
from edgeopt_runner import engines, group, measure
from edgeopt_runner.engines.onnxruntime import ENGINE
from support.networks import mlp_onnx, small_cnn_onnx
from support.worker import SHORT, Board


class Counting(engines.Session):
    """Gives back its rows times ten, and knows which rows it was given."""

    inputs, outputs = ["x"], ["y"]

    def __init__(self, rows, delay_seconds=0.0):
        self.rows, self.delay_seconds = rows, delay_seconds
        self.seen = []
        self.closed = False

    def run(self, feeds):
        assert not self.rows or len(feeds["x"]) == self.rows
        self.seen.append(feeds["x"].copy())
        time.sleep(self.delay_seconds)
        return {"y": feeds["x"] * 10}

    def close(self):
        self.closed = True


def rows(count):
    return {"x": np.arange(count * 2, dtype=np.float32).reshape(count, 2)}


@pytest.mark.parametrize(
    ("at_once", "sessions", "count", "sizes"),
    [
        (0, 2, 8, [4, 4]),
        (0, 3, 7, [2, 2, 3]),
        (0, 3, 2, [1, 1]),
        (0, 1, 5, [5]),
        (1, 2, 5, [1] * 5),
        (2, 2, 8, [2, 2, 2, 2]),
    ],
)
def test_a_batch_is_split_evenly_and_its_rows_come_back_in_order(at_once, sessions, count, sizes):
    members = [Counting(at_once, delay_seconds=0.001 * number) for number in range(sessions)]
    together = group.Group(members)
    np.testing.assert_array_equal(together.run(rows(count))["y"], rows(count)["x"] * 10)
    assert sorted(len(seen) for member in members for seen in member.seen) == sizes
    together.close()
    assert all(member.closed for member in members)


def test_rows_that_the_model_cannot_take_are_refused():
    with pytest.raises(engines.RunFailed, match="5 rows cannot be split: the model takes 2 at once"):
        group.Group([Counting(2), Counting(2)]).run(rows(5))


def test_requests_of_many_threads_go_to_sessions_that_are_free():
    members = [Counting(0, delay_seconds=0.02) for _ in range(2)]
    together, found = group.Group(members), {}

    def ask(number):
        found[number] = together.run({"x": np.full((1, 2), number, np.float32)})["y"][0, 0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number * 10 for number in range(8)}
    assert [len(member.seen) for member in members] == [4, 4]


def test_a_session_that_fails_is_free_again(tmp_path):
    session = group.load(ENGINE, str(mlp_onnx(tmp_path / "m.onnx")), {"sessions": 2})
    for _ in range(4):
        with pytest.raises(engines.RunFailed):
            session.run({"x": np.zeros((1, 3), np.float32)})
    assert session.run({"x": np.zeros((6, 32), np.float32)})["y"].shape == (6, 10)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_outputs_of_a_batch_equal_those_of_its_samples(tmp_path, dynamic, sessions):
    path = str(small_cnn_onnx(tmp_path / "m.onnx", dynamic))
    images = np.random.default_rng(0).normal(size=(7, 1, 8, 8)).astype(np.float32)
    alone = ENGINE.load(path, {})
    expected = np.concatenate([alone.run({"image": images[i : i + 1]})["logits"] for i in range(7)])
    together = group.load(ENGINE, path, {"sessions": sessions, "batch": 7})
    np.testing.assert_allclose(together.run({"image": images})["logits"], expected, rtol=1e-4, atol=1e-5)
    assert together.rows == (0 if dynamic else 1)


def test_defaults_give_the_plain_session(tmp_path):
    path = str(mlp_onnx(tmp_path / "m.onnx"))
    assert type(group.load(ENGINE, path, {})) is type(ENGINE.load(path, {}))


def test_a_model_without_a_batch_dimension_takes_no_batch(tmp_path):
    from onnx import helper

    from support.networks import save

    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    path = str(save(tmp_path / "m.onnx", nodes, {"x": (1, 4)}, {"y": ()}))
    with pytest.raises(engines.LoadFailed, match="batch is 4"):
        group.load(ENGINE, path, {"batch": 4})
    assert group.load(ENGINE, path, {"sessions": 2}).run({"x": np.ones((1, 4), np.float32)})["y"] == 4


@pytest.mark.parametrize("inter_op", [0, "2"])
def test_inter_op_threads_that_are_none_are_refused(tmp_path, inter_op):
    with pytest.raises(engines.LoadFailed, match="inter_op"):
        ENGINE.load(str(mlp_onnx(tmp_path / "m.onnx")), {"inter_op": inter_op})


def test_inter_op_threads_switch_to_parallel_execution(tmp_path):
    session = ENGINE.load(str(small_cnn_onnx(tmp_path / "m.onnx")), {"inter_op": 2})
    options = session._session.get_session_options()
    assert str(options.execution_mode).endswith("ORT_PARALLEL")
    assert options.inter_op_num_threads == 2
    plain_options = ENGINE.load(str(tmp_path / "m.onnx"), {})._session.get_session_options()
    assert str(plain_options.execution_mode).endswith("ORT_SEQUENTIAL")


def sleepy(seconds, record, name):
    def call():
        record.append(name)
        time.sleep(seconds)

    return [call] * 4


def test_sessions_are_measured_while_all_are_busy():
    record = []
    plan = {**plain(QUICK), "min_seconds": 0.3, "max_seconds": 3.0, "window_seconds": 0.1, "warmup_seconds": 0.1}
    lanes = [sleepy(0.005, record, "a"), sleepy(0.010, record, "b")]
    found = measure.measure(lanes[0], plan, 5_000_000, lanes[1:])
    first, second = found.evidence["session_runs"]
    assert first + second == len(found.latency["samples_ns"]) >= 64
    assert first > second > 0  # each goes at its own pace: neither waits for the other
    turns = [name for name, _ in itertools.groupby(record)]
    assert len(turns) > second  # and they take turns rather than one after the other
    # sleeping never takes less than it was told: no lane can have been faster
    assert found.rate <= 1 / 0.005 + 1 / 0.010
    assert found.rate > 1.0 / 0.010
    assert min(found.latency["samples_ns"]) >= 5_000_000


def test_a_session_that_fails_under_load_ends_the_measurement():
    def broken():
        raise engines.RunFailed("out of order")

    with pytest.raises(engines.RunFailed, match="out of order"):
        measure.measure(sleepy(0.001, [], "a"), plain(QUICK), 1_000_000, [[broken]])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_fast_models_are_timed_in_batches_on_every_session():
    plan = {**plain(QUICK), "min_seconds": 0.2, "max_seconds": 1.0, "window_seconds": 0.05, "warmup_seconds": 0.05}
    found = measure.measure([lambda: None] * 4, plan, 1_000, [[lambda: None] * 4])
    assert found.latency["per_sample"] > 1
    assert sum(found.evidence["session_runs"]) == found.latency["per_sample"] * len(found.latency["samples_ns"])


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return Board(tmp_path_factory.mktemp("board"))


def worked(board, **settings):
    job = board.job(settings=Settings(**settings))
    return documents.decode(Measurement, board.work(job)["result"]["measurement"], where="worker")


def test_the_record_of_several_sessions_tells_throughput_beside_latency(board):
    found = worked(board, sessions=2)
    assert found.ok, found.detail
    assert found.settings == Settings(sessions=2)
    assert len(found.evidence["session_runs"]) == 2
    assert min(found.evidence["session_runs"]) > 0
    assert found.items_per_second > 0
    # two sessions of `latency` each cannot serve more than this
    assert found.items_per_second <= 2 * 1e9 / found.latency.min_ns
    assert found.accuracy.value == 0.75


def test_one_session_tells_its_throughput_too(board):
    found = worked(board)
    assert found.items_per_second == pytest.approx(1e9 / found.latency.mean_ns, rel=0.5)
    assert "session_runs" not in found.evidence


def test_a_batch_counts_its_samples_and_is_checked_against_the_references(board):
    found = worked(board, sessions=2, batch=6)
    assert found.ok, found.detail
    assert found.correctness.cosine > 0.9999
    assert found.items_per_second <= 6e9 / found.latency.min_ns
    assert "session_runs" not in found.evidence  # one request at a time, split over both


def test_rows_that_came_back_in_another_order_do_not_pass(board):
    from edgeopt_runner import correctness
    from edgeopt_runner.protocol.samples import SampleFile

    session = group.load(ENGINE, str(board.root / "objects" / board.model), {"sessions": 2, "batch": 4})
    golden = SampleFile(str(board.root / "objects" / board.golden))
    assert not correctness.compare_batch(session, golden, 4, 0.999).reason
    straight = session.run
    session.run = lambda feeds: {name: value[::-1] for name, value in straight(feeds).items()}
    assert "in a batch cosine" in correctness.compare_batch(session, golden, 4, 0.9999).reason


def test_short_plans_measure_inter_op_threads_too(board):
    assert worked(board, inter_op=2).ok
    assert SHORT.min_samples >= 64
