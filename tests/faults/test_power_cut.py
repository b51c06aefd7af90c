"""The power goes at any call that a change of a release makes, and the disk keeps as little as it may: I0 holds.

The calls are those of a real change, recorded; `support.power_cuts` knows what may be left of them. The same with a
booted machine and its own file system is `tests/boards/test_power_cut_vm.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgeopt_runner import releases, runtimes
from edgeopt_runner.release_store import ReleaseStore
from support import board_updates, power_cuts, system_calls
from support.board_updates import APP, assert_sound, bring, install, update_now
from support.power_cuts import Node
from support.releases import whole

TELLS_NOTHING = frozenset({"log", "lock", "runtimes.json"})
"""By these nothing is decided: cuts that differ in them alone are one."""


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find", lambda root, only="": [{"name": "onnxruntime", "version": "1.20.1"}])


class Scenario(NamedTuple):
    """A change that the power interrupts.

    Attributes:
        kind: Of the job.
        check: How launches go: a key of `CHECKS`.
        ran: Versions that the board ran before, in their order.
        ends: What is active when it has ended.
        told: The journal's word by which that is settled.
    """

    kind: str = "update"
    check: str = "healthy"
    ran: tuple[str, ...] = ("1.0.0", "1.1.0")
    ends: str = "1.2.0"
    told: str = "committed"


SCENARIOS = {
    "committed": Scenario(),
    "returned": Scenario(check="sick_after", ends="1.1.0", told="returned"),
    "first": Scenario(ran=(), ends="1.2.0"),
    "back": Scenario(kind="return", ends="1.0.0"),
    "pruned": Scenario(ran=("1.0.0", "1.0.1", "1.0.2", "1.1.0")),
}


def board(folder: Path, ran: tuple[str, ...]) -> Path:
    (folder / "objects").mkdir(parents=True)
    for counter, version in enumerate(ran, 1):
        assert install(folder, version.encode(), version, counter)["outcome"] == "committed"
    return folder


def order(root: Path) -> dict[str, Any]:
    return bring(root, b"model three", "1.2.0", 9, job={"fence": 5})


def recorded(root: Path, scenario: Scenario) -> tuple[Node, list[system_calls.Call]]:
    """The board as it is on the disk, and what the change does to it."""
    job = order(root)
    top = power_cuts.read(root)
    command = [sys.executable, board_updates.__file__, scenario.kind, str(root), json.dumps(job), scenario.check]
    places = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    return top, system_calls.record(root, command, {"PYTHONPATH": places})


def left(top: Node, calls: list[system_calls.Call], told: str) -> Iterator[tuple[str, Node, power_cuts.Cut]]:
    """Every disk that the power may leave, once; with whether the change was settled ``before`` it, ``after`` or now.

    Settled is what the journal says on the disk.
    """
    seen: set[bytes] = set()
    words = f'"step": "{told}"'.encode()
    settled = max(number for number, call in enumerate(calls) if words in call.data and "journal" in call.path)
    durable = next(number for number, call in enumerate(calls) if number > settled and call.deed == "sync")
    for number, call in enumerate(calls):
        power_cuts.replay(top, call)
        when = "before" if number < settled else "now" if number < durable else "after"
        for cut in power_cuts.cuts(top):
            mark = power_cuts.fingerprint(top, cut, TELLS_NOTHING) + when.encode()
            if mark not in seen:
                seen.add(mark)
                yield when, top, cut


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_a_power_cut_leaves_the_board_runs_the_old_or_the_new_release(
    name: str, tmp_path: Path, workshop: Path
) -> None:
    scenario = SCENARIOS[name]
    top, calls = recorded(board(tmp_path / "board", scenario.ran), scenario)
    root, count = workshop / name, 0
    before = scenario.ran[-1] if scenario.ran else ""
    allowed = {"before": {before}, "now": {before, scenario.ends}, "after": {scenario.ends}}
    for when, disk, cut in left(top, calls, scenario.told):
        power_cuts.write(disk, cut, root)
        count += 1
        try:
            assert sound_version(root) in allowed[when]
            assert update_now(root, order(root))["outcome"] in ("committed", "nothing")
            assert assert_sound(root)["version"] == "1.2.0"
        except Exception as error:
            raise AssertionError(f"power cut {count}, {when} it was settled, left {cut.what}") from error
        shutil.rmtree(root)
    assert count >= 15
    everything = power_cuts.Cut(lambda node: node.names, lambda node: node.data, "")
    recorded_now = power_cuts.fingerprint(power_cuts.read(tmp_path / "board"), everything)
    assert power_cuts.fingerprint(top, everything) == recorded_now, "the record is not what was done"


def sound_version(root: Path) -> str:
    """Version of what is active; empty where nothing is, as before the first release."""
    current = root / "apps" / APP / "current"
    if os.path.lexists(current):
        whole(current)  # before anything had a chance to repair it
    releases.recover_all(str(root))
    store = ReleaseStore(str(root), APP)
    for number in store.numbers():
        assert store.fit(number), f"release {number} bears its number and is not whole"
    return str(assert_sound(root)["version"]) if store.pointer("current") is not None else ""
