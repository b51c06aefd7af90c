"""The server answers every request and survives every bad one."""

import os
from pathlib import Path

import pytest

from edgeopt_runner.protocol import frames
from support.runner import Runner, job


@pytest.fixture
def runner(tmp_path: Path):
    with Runner(tmp_path / "root") as started:
        started.result_of("hello", protocols=[1])
        yield started


def test_hello_settles_the_protocol_and_lists_the_verbs(runner: Runner) -> None:
    hello = runner.result_of("hello", protocols=[1, 2])
    assert hello["protocol"] == 1
    assert hello["pid"] == runner.pid
    assert {"probe", "have", "lease", "submit", "clean"} <= set(hello["verbs"])


def test_a_host_with_another_protocol_is_told_which_one_we_speak(runner: Runner) -> None:
    error = runner.error_of("hello", protocols=[7])
    assert error["code"] == "bad_request"
    assert "protocol 1" in error["message"]
    assert error["remedy"]


def test_noise_before_and_between_requests_is_skipped(runner: Runner) -> None:
    runner.send_raw(b"Welcome to Ubuntu!\r\n\x1e EDGEOPT1 what\n\x00\xff")
    assert runner.result_of("have", digests=[]) == {"have": [], "partial": {}}


BAD_REQUESTS = [
    ({"id": 1, "verb": "explode"}, "unknown_verb", "'explode'"),
    ({"id": 1}, "unknown_verb", "None"),
    ({"id": 1, "verb": ["status"]}, "unknown_verb", "status"),
    ({"id": 1, "verb": "status", "params": [1]}, "bad_request", "params"),
    ({"id": 1, "verb": "status", "params": {}}, "bad_request", "job_id is None"),
    ({"id": 1, "verb": "status", "params": {"job_id": "../../etc/passwd"}}, "bad_request", "../../etc/passwd"),
    ({"id": 1, "verb": "logs", "params": {"job_id": "a" * 31 + "/", "bytes": 10}}, "bad_request", "job_id"),
    ({"id": 1, "verb": "logs", "params": {"job_id": "a" * 32, "bytes": "all"}}, "bad_request", "bytes is 'all'"),
    ({"id": 1, "verb": "have", "params": {"digests": ["../x"]}}, "bad_request", "../x"),
    ({"id": 1, "verb": "have", "params": {"digests": "abc"}}, "bad_request", "digests"),
    ({"id": 1, "verb": "gc", "params": {"keep": [1]}}, "bad_request", "1"),
    ({"id": 1, "verb": "lease", "params": {"owner": "anna"}}, "bad_request", "host is None"),
    ({"id": 1, "verb": "result", "params": {"job_id": "b" * 32}}, "unknown_job", "b" * 32),
    ({"id": 1, "verb": "submit", "params": {"job": []}}, "bad_request", "job"),
    ({"id": 1, "verb": "submit", "params": {"job": job("dance")}}, "bad_request", "'dance'"),
    ({"id": 1, "verb": "submit", "params": {"job": job(nonce="1")}}, "bad_request", "nonce is '1'"),
    ({"id": 1, "verb": "submit", "params": {"job": job(owner="anna")}}, "bad_request", "owner"),
    ({"id": 1, "verb": "submit", "params": {"job": job(limits=[])}}, "bad_request", "limits"),
    (
        {"id": 1, "verb": "submit", "params": {"job": job(limits={"deadline_seconds": {"load": -1}})}},
        "bad_request",
        "-1",
    ),
    ({"id": 1, "verb": "submit", "params": {"job": job("activate", app="../up")}}, "bad_request", "../up"),
    ({"id": 1, "verb": "submit", "params": {"job": job(artifact={"size": 3})}}, "bad_request", "sha256"),
    ({"id": 1, "verb": "submit", "params": {"job": job("measure", settings={})}}, "bad_request", "artifact"),
    ({"id": 1, "verb": "submit", "params": {"job": job("measure", settings=[])}}, "bad_request", "settings are []"),
    ({"id": 1, "verb": "submit", "params": {"job": job(limits={"memory_bytes": "1"})}}, "bad_request", "'1'"),
    ({"id": 1, "verb": "submit", "params": {"job": job(artifact={"sha256": "c" * 64})}}, "missing_object", "c" * 64),
]


@pytest.mark.parametrize("threads", [0, -1, 100000, 1.5, "2", True, None, [1]])
@pytest.mark.parametrize("kind", ["measure", "activate", "check"])
def test_a_number_of_threads_that_no_board_bears_is_refused(runner: Runner, kind: str, threads: object) -> None:
    order = job(kind, app="digits", artifact={"sha256": "c" * 64}, settings={"threads": threads})
    error = runner.error_of("submit", job=order)
    assert error["code"] == "bad_request"
    assert repr(threads) in error["message"]
    assert f"from 1 to {4 * len(os.sched_getaffinity(0))}" in error["remedy"]


def test_threads_up_to_four_a_cpu_pass(runner: Runner) -> None:
    for settings in ({"threads": 4 * len(os.sched_getaffinity(0))}, {"threads": 1}, {}):
        order = job("measure", artifact={"sha256": "c" * 64}, settings=settings)
        assert runner.error_of("submit", job=order)["code"] == "missing_object"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sessions": 0}, "sessions is 0"),
        ({"inter_op": "2"}, "inter_op is '2'"),
        ({"batch": 5000}, "batch is 5000"),
        ({"sessions": 4 * len(os.sched_getaffinity(0)), "threads": 2}, "sessions and threads make"),
        ({"threads": 1, "warp": 9}, "unknown setting 'warp'"),
    ],
)
def test_settings_that_would_be_ignored_or_not_borne_are_refused(
    runner: Runner, settings: dict[str, object], said: str
) -> None:
    error = runner.error_of("submit", job=job("measure", artifact={"sha256": "c" * 64}, settings=settings))
    assert error["code"] == "bad_request"
    assert said in error["message"]
    assert error["remedy"]


def test_a_pace_is_for_one_session(runner: Runner) -> None:
    order = job("measure", artifact={"sha256": "c" * 64}, settings={"sessions": 2}, plan={"target_fps": 30.0})
    assert "paced plan with 2 sessions" in runner.error_of("submit", job=order)["message"]


def test_every_bad_request_is_named_and_the_server_goes_on(runner: Runner) -> None:
    for request, code, fragment in BAD_REQUESTS:
        runner.send_raw(frames.encode(request))
        answer = runner.answer()
        assert answer is not None, request
        assert answer["ok"] is False
        assert answer["error"]["code"] == code, (request, answer)
        assert fragment in answer["error"]["message"], (request, answer)
    assert runner.result_of("hello", protocols=[1])


def test_corrupt_and_oversized_frames_do_not_end_the_conversation(runner: Runner) -> None:
    runner.send_raw(frames.MARK + b"99999999 00000000\n" + frames.encode({"id": 1}).replace(b'"id"', b'"di"'))
    answers = [runner.answer(), runner.answer()]
    assert [answer["error"]["code"] for answer in answers] == ["bad_request", "bad_request"]
    assert runner.result_of("hello", protocols=[1])


def test_the_server_ends_when_its_stdin_closes(runner: Runner) -> None:
    runner.result_of("hello", protocols=[1])
    assert runner.hang_up() == 0


def test_stdout_carries_frames_only_even_when_code_prints(tmp_path: Path) -> None:
    with Runner(tmp_path / "root", fault="jobs.submitted:print=1") as runner:
        runner.result_of("submit", job=job())
        assert bytes(runner._reader.noise) == b""


def test_a_root_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Runner(tmp_path / "file" / "root") as runner:
        answer = runner.answer()
    assert answer is not None
    assert answer["ok"] is False
    assert "Not a directory" in answer["error"]["message"]


def test_gc_takes_what_nobody_names_and_keeps_the_rest(runner: Runner) -> None:
    objects, apps = runner.root / "objects", runner.root / "apps" / "digits" / "releases" / "1"
    for digit in "abcd":
        (objects / (digit * 64)).write_bytes(b"12345")
    apps.mkdir(parents=True)
    (apps / "manifest.json").write_text('{"files": {"model.onnx": "%s"}}' % ("a" * 64))
    runner.finish(job(artifact={"sha256": "b" * 64}))
    assert runner.result_of("gc", keep=["c" * 64]) == {"removed": 1, "freed_bytes": 5}
    assert sorted(path.name[0] for path in objects.iterdir()) == ["a", "b", "c"]


def test_clean_takes_all_of_ours_and_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "thesis.txt").write_text("years of work")
    with Runner(tmp_path / "root") as runner:
        runner.finish(job())
        assert runner.result_of("clean", force=False) == {"removed": False}
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "root.lock").exists()
    assert not (tmp_path / "root.lock.lease").exists()


def test_clean_in_somebodys_home_keeps_folders_that_are_called_as_ours(tmp_path: Path) -> None:
    home = tmp_path / "home"
    theirs = [
        "apps/shop/current/index.html",
        "apps/shop/releases/1/index.html",
        "env/bin/python",
        "env/torch/pyvenv.cfg",
        "jobs/cv.txt",
        "objects/chair.stl",
        "runner/marathon.txt",
        "runtimes.txt",
    ]
    for name in theirs:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("years of work")
    with Runner(home) as runner:
        runner.finish(job())
        runner.result_of("probe", runtimes=True)
        (home / "objects" / ("a" * 64)).write_bytes(b"1")
        (home / "objects" / ("b" * 64 + ".part")).write_bytes(b"1")
        provisioned = runner.finish(job("provision", key="0123456789abcdef", wheels=[]))
        assert provisioned["status"] == "ok", provisioned
        assert runner.result_of("clean", force=False) == {"removed": False}
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()) == sorted(theirs)


def test_clean_leaves_the_lease_of_somebody_who_goes_on_here(tmp_path: Path) -> None:
    lock = tmp_path / "board"
    with Runner(tmp_path / "bert", lock=lock) as other, Runner(tmp_path / "anna", lock=lock) as runner:
        assert other.result_of("lease", owner="bert", host="tower", seconds=60)["held"]
        assert runner.result_of("clean", force=False) == {"removed": True}
        refused = runner.result_of("lease", owner="anna", host="laptop", seconds=60)
    assert (refused["held"], refused["lease"]["owner"]) == (False, "bert")


def test_clean_leaves_no_root_behind_and_refuses_while_a_job_lives(tmp_path: Path) -> None:
    with Runner(tmp_path / "root", fault="work.start:sleep=60") as runner:
        slow = job()
        runner.result_of("submit", job=slow)
        runner.wait_for(slow["job_id"], "running")
        error = runner.error_of("clean", force=False)
        assert error["code"] == "busy"
        assert slow["job_id"] in error["message"]
        assert runner.result_of("clean", force=True) == {"removed": True}
    assert list(tmp_path.iterdir()) == []
