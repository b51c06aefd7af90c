"""Stages over real processes: order, bounded edges, errors of every kind, nothing left behind, and the whole job."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeopt.graph.cuts import choose_cuts, cut_points
from edgeopt.graph.stage_files import plan_edges
from edgeopt.graph.stages import split
from edgeopt_runner import engines, processes
from edgeopt_runner.edges import SLOTS, Edge, EdgeClosed, Message
from edgeopt_runner.pipeline import Pipeline, Stage, fork
from edgeopt_runner.protocol.samples import write_samples
from support.runner import Runner, job
from support.trained import trained

SETTINGS = {"runtime": "onnxruntime", "threads": 1}


def stages_of(folder, parts=2, name="residual"):
    whole = onnx.load(str(trained(name).network))
    paths = []
    for number, stage in enumerate(split(whole, choose_cuts(cut_points(whole), parts)), 1):
        paths.append(folder / f"stage-{number}.onnx")
        onnx.save(stage, str(paths[-1]))
    plan = plan_edges([str(path) for path in paths], ["logits"], str(trained(name).evaluation))
    return paths, plan


def pipeline_of(folder, parts=2, name="residual"):
    paths, plan = stages_of(folder, parts, name)
    stages = [Stage(str(path), SETTINGS, gives) for path, gives in zip(paths, plan["gives"], strict=True)]
    return Pipeline(stages, plan["slot_bytes"])


def images(count):
    return [{"image": np.random.default_rng(i).normal(size=(1, 1, 8, 8)).astype(np.float32)} for i in range(count)]


def alone(feeds, name="residual"):
    session = engines.engine("onnxruntime").load(str(trained(name).network), SETTINGS)
    return [session.run(feed)["logits"] for feed in feeds]


@pytest.mark.parametrize(("name", "parts"), [("residual", 2), ("residual", 3), ("transformer", 2)])
def test_outputs_of_a_pipeline_are_the_models_in_the_order_of_the_requests(tmp_path, name, parts):
    feeds = images(25)
    with pipeline_of(tmp_path, parts, name) as pipeline:
        found = pipeline.run(feeds)
        assert len(pipeline.pids) == parts
        assert len(found) == len(feeds)
    for one, wanted in zip(found, alone(feeds, name), strict=True):
        np.testing.assert_allclose(one["logits"], wanted, rtol=1e-4, atol=1e-4)


def test_no_process_is_left_and_the_runtime_was_never_loaded_here(tmp_path):
    with pipeline_of(tmp_path) as pipeline:
        pipeline.run(images(1))
        pids = list(pipeline.pids)
        assert all(processes.start_ticks(pid) for pid in pids)
    assert not any(processes.start_ticks(pid) for pid in pids)


def test_requests_on_their_way_are_bounded(tmp_path):
    on_their_way, most = [0], [0]
    feeds = images(4)

    def requests():
        for number in range(60):
            on_their_way[0] += 1
            most[0] = max(most[0], on_their_way[0])
            yield feeds[number % 4]

    with pipeline_of(tmp_path) as pipeline:
        pipeline.flow(requests(), lambda message, latency_ns: on_their_way.__setitem__(0, on_their_way[0] - 1))
        assert 2 <= most[0] <= pipeline.depth + 1  # and the one that waits for room


def test_a_stage_that_cannot_load_says_which_and_why(tmp_path):
    paths, plan = stages_of(tmp_path)
    paths[1].write_bytes(b"no model")
    stages = [Stage(str(path), SETTINGS, gives) for path, gives in zip(paths, plan["gives"], strict=True)]
    with (
        Pipeline(stages, plan["slot_bytes"]) as pipeline,
        pytest.raises(engines.RunFailed, match=r"stage 2: .*rotobuf"),
    ):
        pipeline.run(images(3))


def test_a_request_that_a_stage_refuses_fails_alone(tmp_path):
    with pipeline_of(tmp_path) as pipeline:
        wrong = {"image": np.zeros((1, 1, 8, 3), np.float64)}
        with pytest.raises(engines.RunFailed, match=r"stage 1: .*double"):
            pipeline.run([*images(3), wrong, *images(3)])
        assert len(pipeline.run(images(5))) == 5


def test_a_message_larger_than_its_slot_is_refused(tmp_path):
    edge = Edge(64)
    with pytest.raises(ValueError, match="larger than the"):
        edge.put(Message(0, {"x": np.zeros(1 << 20, np.float32)}))
    edge.close()


@pytest.mark.parametrize("stage", [0, 1])
def test_a_stage_that_is_killed_is_named(tmp_path, stage):
    with pipeline_of(tmp_path) as pipeline:
        pipeline.run(images(1))
        os.kill(pipeline.pids[stage], signal.SIGKILL)
        with pytest.raises(engines.RunFailed, match=rf"stage {stage + 1} ended with SIGKILL|closed its pipes"):
            pipeline.run(images(50))


def test_an_edge_keeps_dtypes_shapes_and_scalars():
    edge = Edge(4096)
    sent = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "flags": np.array([True, False]),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "strided": np.arange(12, dtype=np.int8).reshape(3, 4)[:, ::2],
    }
    edge.put(Message(5, sent, [1, 2]))
    found = edge.get()
    assert (found.number, found.busy_ns) == (5, [1, 2])
    for name, array in sent.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    edge.close()


def test_an_edge_holds_its_slots_and_makes_the_next_wait():
    edge, done = Edge(64), []
    for number in range(SLOTS):
        edge.put(Message(number, {"x": np.full(4, number)}))
    assert not edge.has_room()
    writer = threading.Thread(target=lambda: done.append(edge.put(Message(SLOTS, {"x": np.full(4, SLOTS)}))))
    writer.start()
    time.sleep(0.05)
    assert not done
    for number in range(SLOTS + 1):
        message = edge.get()
        assert message.number == number
        assert set(message.arrays["x"]) == {number}  # not overwritten while it is read
        edge.release(message)
    writer.join(5)
    assert done
    edge.close()


def test_the_end_of_one_side_is_seen_by_the_other():
    edge = Edge(64)
    reader_pid = fork(lambda: edge.keep_reader())
    edge.keep_writer()
    os.waitpid(reader_pid, 0)
    with pytest.raises(EdgeClosed):
        edge.put(Message(0, {}))
    edge.close()


def job_of(runner, folder, **fields):
    """A job document of kind ``pipeline``, its objects pushed."""
    paths, plan = stages_of(folder)
    digests = [put(runner, path) for path in [trained("residual").network, *paths]]
    arrays = {"input:image": np.stack([feed["image"] for feed in images(4)])}
    arrays["reference:logits"] = np.stack(alone(images(4)))
    write_samples(str(folder / "golden.npz"), arrays)
    files = [{"sha256": digest, "size": 1, "format": "onnx"} for digest in digests]
    stages = [{**file, "gives": gives} for file, gives in zip(files[1:], plan["gives"], strict=True)]
    values = {
        "artifact": files[0],
        "stages": stages,
        "slot_bytes": plan["slot_bytes"],
        "settings": SETTINGS,
        "golden": put(runner, folder / "golden.npz"),
        "inputs": ["image"],
        "min_cosine": 0.999,
        "seconds": 0.2,
        "rounds": 2,
    }
    return job("pipeline", **{**values, **fields})


def put(runner, path):
    import hashlib

    data = Path(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert runner.receive(digest, len(data), data)[-1].get("ok", True)
    return digest


def test_the_whole_job_compares_three_ways_in_turns(tmp_path):
    with Runner(tmp_path / "root") as runner:
        result = runner.finish(job_of(runner, tmp_path))
    assert result["status"] == "ok", result["detail"]
    found = result["pipeline"]
    assert [mode["name"] for mode in found["modes"]] == ["one session", "sessions", "pipeline"]
    for mode in found["modes"]:
        assert len(mode["latency_ns"]) == len(mode["items_per_second"]) == 2
        assert all(rate > 0 for rate in mode["items_per_second"])
        assert mode["pss_bytes"] is None or mode["pss_bytes"] > 10 << 20
    assert [len(mode["alone_ns"]) for mode in found["modes"]] == [0, 0, 2]
    assert [len(times) for times in found["stage_ns"]] == [2, 2]
    assert found["cosine"] > 0.9999
    assert found["sessions"] == 2


def test_outputs_that_are_not_the_references_end_the_job(tmp_path):
    with Runner(tmp_path / "root") as runner:
        order = job_of(runner, tmp_path)
        wrong = {"input:image": np.stack([f["image"] for f in images(4)]), "reference:logits": np.ones((4, 1, 10))}
        write_samples(str(tmp_path / "wrong.npz"), wrong)
        result = runner.finish({**order, "golden": put(runner, tmp_path / "wrong.npz")})
    assert result["status"] == "error"
    assert "outputs have cosine" in result["detail"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stages": "two"}, "stages are 'two'"),
        ({"slot_bytes": [64]}, "slot_bytes is [64]"),
        ({"slot_bytes": [64, -1, 64]}, "slot_bytes is"),
        ({"settings": {"threads": 3 * len(os.sched_getaffinity(0))}}, "2 stages of"),
        ({"settings": {"sessions": 0}}, "sessions is 0"),
    ],
)
def test_orders_that_cannot_be_done_are_refused(tmp_path, fields, said):
    with Runner(tmp_path / "root") as runner:
        error = runner.error_of("submit", job=job_of(runner, tmp_path, **fields))
    assert error["code"] == "bad_request"
    assert said in error["message"]


def test_a_stage_that_is_not_on_the_device_is_asked_for(tmp_path):
    with Runner(tmp_path / "root") as runner:
        order = job_of(runner, tmp_path)
        order["stages"][1]["sha256"] = "c" * 64
        assert runner.error_of("submit", job=order)["code"] == "missing_object"
