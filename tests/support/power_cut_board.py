"""What a board does in `tests/boards/test_power_cut_vm.py`: an update that stops at one of its syncs, and a look after.

    power_cut_board.py cut ROOT VERSION N     update to 1.VERSION.0 and wait for ever just before sync number N
    power_cut_board.py look ROOT VERSION      what is active, and how the same order ends now

Each prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from edgeopt_runner import runtimes
from edgeopt_runner.release_store import ReleaseStore
from support.board_updates import APP, assert_sound, bring, update_now


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def order(root: Path, version: int) -> dict[str, Any]:
    return bring(root, b"model %d" % version * 4096, f"1.{version}.0", version + 1)


def cut(root: Path, version: int, number: int) -> None:
    """Update; at the sync before which the power is to go, say what the journal holds and wait for it."""
    job, sync, calls = order(root, version), os.fsync, 0

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            last = ReleaseStore(str(root), APP).journal.last()
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            tell(cut=place, step=f"{last['step']} {last['version']}" if last else "")
            time.sleep(3600)
        sync(descriptor)

    os.sync()  # what was brought before is not what is tested
    os.fsync = counted
    tell(cut="", outcome=update_now(root, job)["outcome"], syncs=calls)
    time.sleep(3600)


def look(root: Path, version: int) -> None:
    """I0, and what it takes to converge."""
    found = assert_sound(root)
    store = ReleaseStore(str(root), APP)
    half = [number for number in store.numbers() if not store.fit(number)]
    again = update_now(root, order(root, version))["outcome"]
    tell(version=found["version"], half=half, again=again, then=assert_sound(root)["version"])


if __name__ == "__main__":
    runtimes.find = lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}]
    folder = Path(sys.argv[2])
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "cut":
        cut(folder, int(sys.argv[3]), int(sys.argv[4]))
    else:
        look(folder, int(sys.argv[3]))
