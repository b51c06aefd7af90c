"""Environments on the board from wheels alone: what they hold, what is refused, what a crash leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt_runner import environment, faults, protocol
from support.runner import Runner
from support.runner import job as runner_job
from support.wheels import make_wheel, record_line

RUNTIME = {"ncnn/__init__.py": b"__version__ = '7.1'\n"}
SOURCE = Path(environment.__file__).parents[1]
INTERPRETERS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))


def job(root: Path, key: str, *wheels: Path, **more: Any) -> dict[str, Any]:
    """A ``provision`` job for these wheels, put among the objects."""
    entries = []
    (root / "objects").mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (root / "objects" / digest).write_bytes(wheel.read_bytes())
        entries.append({"name": wheel.name, "sha256": digest})
    return {"kind": "provision", "key": key, "wheels": entries, "system_site_packages": False, **more}


def install(root: Path, key: str, *wheels: Path, **more: Any) -> dict[str, Any]:
    return environment.install(str(root), job(root, key, *wheels, **more))


def test_environment_runs_what_the_wheels_hold(tmp_path: Path) -> None:
    result = install(tmp_path, "one", make_wheel(tmp_path, "ncnn", RUNTIME))
    assert result["status"] == protocol.OK, result["detail"]
    found = result["environment"]
    assert found["key"] == "one"
    assert found["runtimes"] == [{"name": "ncnn", "version": "7.1"}]
    assert os.readlink(tmp_path / "env/current") == "one"
    python = tmp_path / "env/current/bin/python"
    command = [python, "-I", "-c", "import ncnn, sys; print(ncnn.__file__, sys.prefix)"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed[0].startswith(str(tmp_path / "env"))
    assert ".tmp" not in "".join(printed)


def test_purelib_and_platlib_are_importable_and_scripts_stay_out(tmp_path: Path) -> None:
    files = {
        "ncnn-1.0.data/purelib/ncnn/__init__.py": b"from ncnn.deep import __version__\n",
        "ncnn-1.0.data/platlib/ncnn/deep.py": b"__version__ = '2'\n",
        "ncnn-1.0.data/scripts/python": b"#!python\n",
    }
    result = install(tmp_path, "one", make_wheel(tmp_path, "ncnn", files))
    assert result["environment"]["runtimes"] == [{"name": "ncnn", "version": "2"}]
    assert (tmp_path / "env/one/bin/python").resolve() == Path(sys.executable).resolve()


def test_same_key_again_is_not_made_again(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "ncnn", RUNTIME)
    first = install(tmp_path, "one", wheel)
    made = (tmp_path / "env/one").stat().st_ino
    assert install(tmp_path, "one", wheel) == first
    assert (tmp_path / "env/one").stat().st_ino == made


def test_environment_that_works_no_more_is_made_again(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "ncnn", RUNTIME)
    install(tmp_path, "one", wheel)
    (tmp_path / "env/one/bin/python").unlink()
    assert install(tmp_path, "one", wheel)["status"] == protocol.OK
    assert sorted(os.listdir(tmp_path / "env")) == ["current", "one"]


def test_system_packages_are_seen_only_when_asked_for(tmp_path: Path) -> None:
    install(tmp_path, "closed")
    install(tmp_path, "open", system_site_packages=True)
    assert "false" in (tmp_path / "env/closed/pyvenv.cfg").read_text()
    assert "include-system-site-packages = true" in (tmp_path / "env/open/pyvenv.cfg").read_text()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"import os, signal; os.kill(os.getpid(), signal.SIGILL)", protocol.ILLEGAL_INSTRUCTION, "ends with SIGILL"),
        (b"import ctypes; ctypes.string_at(0)", protocol.CRASH, "ends with SIGSEGV"),
        (b"import no_such_module", protocol.RUNTIME_MISSING, "No module named 'no_such_module'"),
    ],
)
def test_runtime_that_fails_to_import_leaves_the_current_environment(
    tmp_path: Path, body: bytes, status: str, words: str
) -> None:
    install(tmp_path, "good")
    result = install(tmp_path, "bad", make_wheel(tmp_path, "ncnn", {"ncnn.py": body}))
    assert (result["status"], result["environment"]) == (status, None)
    assert words in result["detail"]
    assert os.readlink(tmp_path / "env/current") == "good"
    assert sorted(os.listdir(tmp_path / "env")) == ["current", "good"]


@pytest.mark.parametrize("name", ["../outside.py", "/outside.py", "a/../../outside.py", "a\\..\\outside.py", "a//b.py"])
def test_members_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    result = install(tmp_path, "bad", make_wheel(tmp_path, "evil", {name: b"x"}))
    assert result["status"] == protocol.BAD_REQUEST
    assert "leads outside" in result["detail"]
    assert not list(tmp_path.rglob("outside.py"))
    assert os.listdir(tmp_path / "env") == []


def test_links_in_a_wheel_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "evil", {"evil": b"/etc"}, links=("evil",))
    assert install(tmp_path, "bad", wheel)["status"] == protocol.BAD_REQUEST


def test_files_that_record_does_not_vouch_for_are_refused(tmp_path: Path) -> None:
    missing = make_wheel(tmp_path / "a", "evil", {"evil.py": b"x"}, record="evil-1.0.dist-info/RECORD,,")
    differs = make_wheel(tmp_path / "b", "evil", {"evil.py": b"x"}, record=record_line("evil.py", b"y"))
    for wheel, words in ((missing, "has no digest of evil.py"), (differs, "evil.py is damaged")):
        result = install(tmp_path, "bad", wheel)
        assert result["status"] == protocol.DIGEST_MISMATCH
        assert words in result["detail"]


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"not a zip")
    assert install(tmp_path, "bad", tmp_path / "broken-1.0-py3-none-any.whl")["status"] == protocol.BAD_REQUEST


@pytest.mark.parametrize(
    "change", [{"key": "../up"}, {"key": "current"}, {"key": None}, {"wheels": [{"name": "a/b.whl"}]}]
)
def test_bad_jobs_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    assert environment.install(str(tmp_path), {**job(tmp_path, "one"), **change})["status"] == protocol.BAD_REQUEST


def test_wheels_that_were_not_sent_are_named(tmp_path: Path) -> None:
    wheels = [{"name": "ncnn-1.0-py3-none-any.whl", "sha256": "0" * 64}]
    result = environment.install(str(tmp_path), {"key": "one", "wheels": wheels})
    assert result["status"] == protocol.MISSING_OBJECT
    assert "ncnn-1.0" in result["detail"]


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_SPARE_BYTES", 1 << 60)
    result = install(tmp_path, "one", make_wheel(tmp_path, "ncnn", RUNTIME))
    assert result["status"] == protocol.DISK_FULL
    assert "the device has" in result["detail"]


@pytest.mark.parametrize("point", [name for name in faults.POINTS if name.startswith("environment.")])
def test_kill_in_the_middle_leaves_the_old_environment_and_a_rerun_finishes(tmp_path: Path, point: str) -> None:
    install(tmp_path, "old")
    again = job(tmp_path, "new", make_wheel(tmp_path, "ncnn", RUNTIME))
    code = (
        "import sys, json; from edgeopt_runner import environment as e; e.install(sys.argv[1], json.loads(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(again)]
    killed = subprocess.run(command, env={**os.environ, "EDGEOPT_FAULT": point + ":kill9"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert os.readlink(tmp_path / "env/current") == "old"
    assert environment.install(str(tmp_path), again)["status"] == protocol.OK
    assert sorted(os.listdir(tmp_path / "env")) == ["current", "new", "old"]


def test_provision_is_a_job_of_the_bundle(tmp_path: Path) -> None:
    root = tmp_path / "root"
    order = job(root, "one", make_wheel(tmp_path, "ncnn", RUNTIME))
    with Runner(root) as runner:
        done = runner.finish(runner_job("provision", **{key: order[key] for key in order if key != "kind"}))
    assert done["status"] == protocol.OK, done["detail"]
    assert done["environment"]["runtimes"] == [{"name": "ncnn", "version": "7.1"}]
    assert os.readlink(root / "env/current") == "one"


@pytest.mark.parametrize("interpreter", INTERPRETERS, ids=lambda path: path.parents[1].name)
def test_every_interpreter_makes_an_environment_that_survives_its_renaming(tmp_path: Path, interpreter: Path) -> None:
    wanted = job(tmp_path, "one", make_wheel(tmp_path, "ncnn", RUNTIME))
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from edgeopt_runner import environment as e;"
        "print(json.dumps(e.install(sys.argv[2], json.loads(sys.argv[3]))))"
    )
    command = [interpreter, "-I", "-c", code, SOURCE, tmp_path, json.dumps(wanted)]
    result = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert result["status"] == protocol.OK, result["detail"]
    check = [tmp_path / "env/current/bin/python", "-I", "-c", "import ncnn, sys; print(ncnn.__version__, sys.prefix)"]
    printed = subprocess.run(check, capture_output=True, text=True, check=True).stdout.split()
    assert printed[0] == "7.1"
    assert Path(printed[1]).resolve() == (tmp_path / "env/one").resolve()
