"""A lent stage over real processes: outputs, the board's lock and lease, hostile and cut requests, nothing left."""

import contextlib
import hashlib
import json
import os
import signal
import time

import numpy as np
import pytest

from edgeopt_runner import door, ends, engines, processes
from edgeopt_runner.protocol import frames, tensors
from edgeopt_runner.refusals import Refusal
from support.pythons import VERSIONS, interpreters
from support.runner import OWNER, Runner
from support.trained import trained

SETTINGS = {"runtime": "onnxruntime", "threads": 1}
IMAGE = {"image": np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)}


@pytest.fixture
def runner(tmp_path):
    with Runner(tmp_path / "root") as made:
        yield made


def put(runner, data):
    digest = hashlib.sha256(data).hexdigest()
    assert runner.receive(digest, len(data), data)[-1] == {"ok": True}
    return digest


class Talk:
    """One action ``stage``, spoken to."""

    def __init__(self, runner, digest, **order):
        order = {"owner": OWNER, "settings": SETTINGS, **order}
        self.process = runner.start("stage", "--sha256", digest, "--order", json.dumps(order))
        self.frames = frames.reader_of(self.process.stdout)
        self.first = self.frames.next()

    def send(self, data):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def ask(self, feeds, number=1):
        self.send(tensors.encode({"number": number}, feeds))
        return tensors.TensorReader(self.frames).next()

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(10)
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def talking(runner, digest, **order):
    talk = Talk(runner, digest, **order)
    try:
        yield talk
    finally:
        if talk.process.poll() is None:
            talk.process.kill()
        talk.end()


def wait_until_gone(pid):
    deadline = time.monotonic() + 10
    while processes.start_ticks(pid) is not None:
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def files_of(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_stage_gives_what_the_model_gives_and_says_how_long_inference_took(runner):
    digest = put(runner, trained("residual").network.read_bytes())
    before = files_of(runner.root)
    wanted = engines.engine("onnxruntime").load(str(trained("residual").network), SETTINGS).run(IMAGE)
    with talking(runner, digest) as talk:
        assert talk.first["ready"]
        assert (talk.first["inputs"], talk.first["outputs"]) == (["image"], ["logits"])
        for number in range(5):
            head, found = talk.ask(IMAGE, number)
            assert head["number"] == number
            assert 0 < head["busy_ns"] < 10**9
            np.testing.assert_array_equal(found["logits"], wanted["logits"])
        assert talk.end() == 0
    wait_until_gone(talk.first["pid"])
    assert files_of(runner.root) == before
    assert runner.result_of("lease", owner="berta", host="x", reason="", seconds=1)["held"], "the lease is given back"


def test_stages_of_one_owner_share_the_board_and_keep_others_away(runner):
    digest = put(runner, trained("residual").network.read_bytes())
    with talking(runner, digest) as one, talking(runner, digest) as two:
        assert one.first["ready"]
        assert two.first["ready"]
        with talking(runner, digest, owner={**OWNER, "owner": "berta"}) as other:
            assert other.first["error"]["code"] == "busy"
            assert "anna@laptop" in other.first["error"]["message"]
        assert one.ask(IMAGE)[0]["number"] == two.ask(IMAGE)[0]["number"] == 1


def test_an_inference_that_fails_is_told_and_the_stage_goes_on(runner):
    digest = put(runner, trained("residual").network.read_bytes())
    with talking(runner, digest) as talk:
        assert "image is missing" in talk.ask({})[0]["error"]["message"]
        wrong = {"image": np.zeros((1, 3, 5, 5), np.float32)}
        assert talk.ask(wrong, 2)[0]["error"]["code"] == "error"
        assert talk.ask(IMAGE, 3)[1]["logits"].shape == (1, 10)


def head_of(*forms):
    return frames.encode({"number": 1, "tensors": list(forms)})


HOSTILE = {
    "a cut tensor": tensors.encode({"number": 1}, IMAGE)[:-10],
    "a cut head": tensors.encode({"number": 1}, IMAGE)[:30],
    "a damaged head": head_of(["image", "<f4", [1]]).replace(b"image", b"imago"),
    "no tensors": frames.encode({"number": 1}),
    "too large": head_of(["image", "<f4", [1 << 27]]),
    "too large together": head_of(["a", "<f4", [1 << 25]], ["b", "<f4", [1 << 25]], ["c", "<f4", [1 << 25]]),
    "a negative size": head_of(["image", "<f4", [-1]]),
    "a size that is none": head_of(["image", "<f4", [True]]),
    "dimensions without end": head_of(["image", "<f4", [1] * 99]),
    "nothing of much": head_of(["image", "<f4", [1 << 28] * 20 + [0]]),
    "objects": head_of(["image", "|O", [1]]),
    "an element of no kind": head_of(["image", "<f3", [1]]),
    "elements without size": head_of(["image", "<f0", [1]]),
    "a name twice": head_of(["image", "<f4", [0]], ["image", "<f4", [0]]),
    "a head without end": frames.MARK + b"9999999999 00000000\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_request_ends_the_stage_cleanly(runner, data):
    digest = put(runner, trained("residual").network.read_bytes())
    before = files_of(runner.root)
    with talking(runner, digest) as talk:
        talk.send(data)
        talk.process.stdin.close()
        answer = talk.frames.next()
        assert answer["error"]["code"] == "bad_request"
        assert talk.process.wait(10) == 1
    wait_until_gone(talk.first["pid"])
    assert files_of(runner.root) == before


def test_a_host_that_falls_silent_is_not_waited_for(runner):
    digest = put(runner, trained("residual").network.read_bytes())
    with talking(runner, digest, limits={"deadline_seconds": {"idle": 0.3}}) as talk:
        assert talk.frames.next()["error"]["code"] == "timeout:idle"
        assert talk.process.wait(10) == 1


def test_a_worker_that_is_killed_is_told(runner):
    digest, kills_before = put(runner, trained("residual").network.read_bytes()), ends.oom_kills()
    with talking(runner, digest) as talk:
        os.kill(talk.first["pid"], signal.SIGKILL)
        answer = talk.frames.next()
        nobody_ran_out_of_memory = ends.oom_kills() == kills_before  # nor did another test meanwhile
        assert answer["error"]["code"] == ("crash" if nobody_ran_out_of_memory else "oom")
        assert "SIGKILL" in answer["error"]["message"]


def test_no_worker_outlives_the_process_of_the_link(runner):
    digest = put(runner, trained("residual").network.read_bytes())
    with talking(runner, digest) as talk:
        talk.process.kill()
        wait_until_gone(talk.first["pid"])


REFUSED = [
    ({"settings": {**SETTINGS, "threads": 10**6}}, "bad_request"),
    ({"settings": {**SETTINGS, "colour": 1}}, "bad_request"),
    ({"owner": {"owner": "anna"}}, "bad_request"),
    ({"limits": {"memory_bytes": -1}}, "bad_request"),
    ({"limits": {"memory_bytes": 1 << 20}}, "memory_guard"),
    ({"settings": {**SETTINGS, "runtime": "tensorrt"}}, "runtime_missing"),
]


@pytest.mark.parametrize(("order", "code"), REFUSED)
def test_an_order_that_cannot_be_done_is_refused(runner, order, code):
    digest = put(runner, trained("residual").network.read_bytes())
    with talking(runner, digest, **order) as talk:
        answer = talk.first if "error" in talk.first else talk.frames.next()
        assert answer["error"]["code"] == code
        assert talk.process.wait(10) == 1


def test_a_file_that_is_no_model_or_not_there_is_told(runner):
    with talking(runner, put(runner, b"no model")) as talk:
        assert talk.first["error"]["code"] == "load_failed"
    with talking(runner, "0" * 64) as talk:
        assert talk.first["error"]["code"] == "missing_object"


def test_the_oldest_python_without_a_runtime_refuses_clearly(tmp_path):
    oldest = next((version for version in VERSIONS if version in interpreters()), None)
    if oldest is None:
        pytest.skip("no other Python on this computer")
    with Runner(tmp_path / "root", python=interpreters()[oldest]) as runner:
        with talking(runner, put(runner, b"anything")) as talk:
            assert talk.first["error"]["code"] == "runtime_missing"
            assert "onnxruntime" in talk.first["error"]["message"]
            assert talk.process.wait(10) == 1
        assert runner.result_of("clean", force=False) == {"removed": True}


@pytest.mark.parametrize("action", ["stage", "stage-work"])
def test_a_key_that_may_only_talk_to_the_runner_borrows_no_stage(action):
    with pytest.raises(Refusal) as caught:
        door.read(f"exec python3 -I bundle {action} --root / --sha256 {'0' * 64} --order '{{}}'")
    assert caught.value.code == "restricted"
