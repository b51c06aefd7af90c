"""A child that crashes, hangs, floods or lies about its end is told as what it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeopt.child import run_child
from edgeopt.errors import ChildError, DataError

CHILDREN = """
import os, subprocess, sys, time
from edgeopt.errors import DataError

def double(number): return {"twice": 2 * number}
def ends_by(number): os.kill(os.getpid(), number); time.sleep(60)
def leaves(code): os._exit(code)
def floods(mebibytes):
    for _ in range(mebibytes): os.write(1, b"noise " * 174763)
    os.write(2, b"\\x1b[2Jlast words\\n")
    os._exit(3)
def counts():
    from edgeopt.child import report_progress
    for step in (1, 2):
        report_progress(f"step {step} of 2", step / 2)
        time.sleep(1.2)
def refuses(): raise DataError("label 12 of 10 classes.", remedy="Count again.")
def breaks(): raise RuntimeError("a tool's own error")
def hangs(pids):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(pids, "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "children.py").write_text(CHILDREN)
    monkeypatch.syspath_prepend(str(tmp_path))


def call(name: str, deadline_seconds: float = 60.0, **arguments: object) -> object:
    return run_child(f"children:{name}", arguments, deadline_seconds=deadline_seconds, what="trying")


def test_a_result_comes_back() -> None:
    assert call("double", number=21) == {"twice": 42}


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("ends_by", {"number": int(signal.SIGSEGV)}, "crash:SIGSEGV"),
        ("ends_by", {"number": int(signal.SIGRTMIN) + 1}, f"crash:signal {signal.SIGRTMIN + 1}"),
        ("leaves", {"code": 0}, "no_result"),
        ("leaves", {"code": 9}, "exit:9"),
        ("breaks", {}, "exit:1"),
    ],
)
def test_every_end_without_a_result_has_its_status(name: str, arguments: dict[str, object], status: str) -> None:
    with pytest.raises(ChildError, match="trying: the child process ended") as caught:
        call(name, **arguments)
    assert caught.value.status == status


def test_what_it_printed_last_is_told_in_printable_text_however_much_it_was() -> None:
    with pytest.raises(ChildError) as caught:
        call("floods", mebibytes=8)
    assert caught.value.status == "exit:3"
    assert caught.value.message.endswith("last words)")
    assert len(caught.value.message) < 3000
    assert caught.value.message.isprintable()


def test_our_own_errors_come_back_as_themselves() -> None:
    with pytest.raises(DataError, match="label 12") as caught:
        call("refuses")
    assert caught.value.remedy == "Count again."


def test_a_deadline_ends_the_child_and_all_it_started(tmp_path: Path) -> None:
    with pytest.raises(ChildError) as caught:
        call("hangs", deadline_seconds=3.0, pids=str(tmp_path / "pids"))
    assert caught.value.status == "timeout"
    for pid in (tmp_path / "pids").read_text().split():
        assert wait_until_gone(int(pid)), f"process {pid} lives on"


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = "import sys; from edgeopt.child import run_child\n" + (
        "run_child('children:hangs', {'pids': sys.argv[1]}, deadline_seconds=60, what='trying')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pids")], env=environment)
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
        time.sleep(0.05)
    child, grandchild = map(int, (tmp_path / "pids").read_text().split())
    parent.kill()
    parent.wait()
    assert wait_until_gone(child)
    os.kill(grandchild, signal.SIGKILL)  # the kernel ends the child only


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_what_a_child_says_of_its_progress_is_heard_once_each() -> None:
    heard: list[tuple[str, float]] = []
    run_child(
        "children:counts",
        {},
        deadline_seconds=60,
        what="counting",
        on_progress=lambda text, share: heard.append((text, share)),
    )
    assert heard == [("step 1 of 2", 0.5), ("step 2 of 2", 1.0)]


def test_a_child_has_our_variables_folder_and_import_path_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in ("1", "2"):
        place = tmp_path / number
        place.mkdir()
        (place / "there.py").write_text(
            "import os\ndef looks(): return [os.getcwd(), os.environ['MINE'], os.path.dirname(__file__)]"
        )
        monkeypatch.chdir(place)
        monkeypatch.setenv("MINE", number)
        monkeypatch.syspath_prepend(str(place))
        found = run_child("there:looks", {}, deadline_seconds=60, what="looking")
        assert found == [str(place), number, str(place)]


def test_a_second_call_finds_loaded_what_the_first_needed_and_a_crash_stays_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_OF_THIS_TEST", "1")  # a nursery of its own, which no other test has used
    (tmp_path / "heavy.py").write_text(
        "import os, sys\n"
        "def needs(crash):\n"
        "    loaded = 'torch' in sys.modules\n"
        "    import torch\n"
        "    if crash: os.abort()\n"
        "    return [loaded, os.getppid(), float(torch.ones(3).sum())]\n"
    )

    def call(crash: bool) -> list[object]:
        found: list[object] = run_child("heavy:needs", {"crash": crash}, deadline_seconds=60, what="trying")
        return found

    first = call(crash=False)
    with pytest.raises(ChildError, match="SIGABRT"):
        call(crash=True)
    assert first == [False, first[1], 3.0]
    assert call(crash=False) == [True, first[1], 3.0]


def test_when_the_nursery_is_killed_its_child_is_told_as_killed_and_the_next_call_works(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(
        "import os, signal, time\ndef ends_nursery(): os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
    )
    with pytest.raises(ChildError) as caught:
        run_child("ends:ends_nursery", {}, deadline_seconds=60, what="trying")
    assert caught.value.status == "crash:SIGKILL"
    assert call("double", number=21) == {"twice": 42}
