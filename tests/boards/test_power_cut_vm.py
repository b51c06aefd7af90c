"""The plug is pulled from a booted machine at every sync of an update; it boots and runs the old or the new model.

Its kernel, its ext4 and its block device are real; what the kernel had not written is gone with the machine. What a
file system may do that ext4 does not is `tests/faults/test_power_cut.py`.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeopt_runner
from support import board_updates
from support.board_vm import Vm, running_vm

pytestmark = [pytest.mark.boards, pytest.mark.long, pytest.mark.timeout(3600)]
_HERE = "cd /root/cut && PYTHONPATH=. python3 support/power_cut_board.py"
_MOST_SYNCS = 60


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    with running_vm(tmp_path_factory.mktemp("vm"), "pi5", cpu="cortex-a76", memory_mib=512) as running:
        running.run("mkdir cut && tar x -C cut && sync", programs())
        yield running


def programs() -> bytes:
    """The runner and the parts of `tests/support` that the machine needs, as an archive."""
    support = Path(board_updates.__file__).parent
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        for path in Path(edgeopt_runner.__file__).parent.rglob("*.py"):
            archive.add(path, Path("edgeopt_runner", path.relative_to(Path(edgeopt_runner.__file__).parent)))
        for name in ("board_updates.py", "releases.py", "power_cut_board.py"):
            archive.add(support / name, f"support/{name}")
    return found.getvalue()


def cut_at(vm: Vm, version: int, number: int) -> dict[str, Any]:
    """Update to a version until just before a sync, pull the plug there; what the machine said last."""
    with subprocess.Popen(vm.words(f"{_HERE} cut /root/board {version} {number}"), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        said: dict[str, Any] = json.loads(running.stdout.readline())
        vm.cut_power()
    return said


def allowed(said: dict[str, Any], old: str, new: str) -> set[str]:
    """What may be active after a cut: the new release when the journal's word of it was synced, or maybe was."""
    if not said["cut"]:
        return {new}
    if said["step"] != f"committed {new}":
        return {old}
    return {old, new} if said["cut"].endswith("journal.jsonl") else {new}


def test_a_power_cut_at_every_sync_leaves_the_old_or_the_new_release(vm: Vm) -> None:
    """Long because every cut is a boot of a machine that is emulated: a quarter of an hour beside other work."""
    assert cut_at(vm, 0, _MOST_SYNCS)["outcome"] == "committed"
    vm.boot()
    seen = []
    for number in range(1, _MOST_SYNCS):
        said = cut_at(vm, number, number)
        vm.boot()
        found = json.loads(vm.run(f"{_HERE} look /root/board {number}"))
        seen.append((said, found))
        new = f"1.{number}.0"
        assert found["version"] in allowed(said, f"1.{number - 1}.0", new), seen
        assert (found["half"], found["then"]) == ([], new), seen
        assert found["again"] in ("committed", "nothing"), seen
        if not said["cut"]:
            break
    print(*seen, sep="\n")
    assert said["outcome"] == "committed", "there are more syncs than were tried"
    assert len(seen) > 12, seen
