"""The main job for several boards behind real sshds: kinds that share the work, a board that vanishes, one for all."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import edgeopt
from edgeopt.core.device import Device
from edgeopt.errors import StoreError, UsageError
from edgeopt.report.kinds_terminal import print_kinds
from edgeopt.workflow import trying
from edgeopt.workflow.deciding import find_group, find_run
from edgeopt.workflow.kinds import kind as kinds
from edgeopt.workflow.kinds.deploying import deploy_kinds
from edgeopt.workflow.progress_file import NAME, Followed
from edgeopt.workflow.request import SearchRequest
from support.device import pin
from support.sshd import Sshd, running_sshd
from support.workflow import SHORT, Computer, Heard, Task, known_measurements

SPACE = """
name: forms
choices: {bits: [8, 4], block: [32, 16]}
passes: [{name: quantise_weights, options: {bits: $bits, block_size: $block}}]
"""

FINAL_SAMPLES = 130

KINDS = {"a1": "x86-avx2", "a2": "x86-avx2", "b1": "generic"}
"""Boards by name, and the profiles that the inventory says they have; they are all this machine."""


@pytest.fixture
def boards(computer: Computer, workspace: edgeopt.Workspace, tmp_path: Path) -> Iterator[dict[str, Sshd]]:
    """Three boards of two kinds, each with a home and a lock of its own, in the inventory."""
    with ExitStack() as stack:
        found = {}
        for name, profile in KINDS.items():
            environment = {"EDGEOPT_LOCK": str(tmp_path / f"{name}.lock")}
            server = stack.enter_context(running_sshd(tmp_path / name, environment=environment))
            pin(server)
            workspace.inventory.add(
                server.device(name, profile=profile, python=sys.executable, labels={"shop": "north"})
            )
            found[name] = server
        yield found


class Unplugs(Heard):
    """Takes a board from the network for good as soon as it has told of a measurement."""

    def __init__(self, server: Sshd, name: str, stage: str = "Measuring") -> None:
        super().__init__()
        self._server, self._name, self._told = server, name, stage

    def advance(self, text: str) -> None:
        super().advance(text)
        if text.startswith(f"{self._name}: ") and self._stage.startswith(self._told):
            self._server.unplug()


def jobs(computer: Computer, server: Sshd, kind: str = "measure") -> list[dict[str, Any]]:
    return computer.jobs(kind, server.home / ".edgeopt")


def measured_quickly(computer: Computer, server: Sshd) -> set[str]:
    """Files that a board was asked about before the finals."""
    return {job["artifact"]["sha256"] for job in jobs(computer, server) if job["plan"]["min_samples"] < FINAL_SAMPLES}


def test_kinds_get_their_own_winners_from_boards_that_share_the_work(
    boards: dict[str, Sshd], computer: Computer, workspace: edgeopt.Workspace, task: Task
) -> None:
    heard = Heard()
    record = deploy_kinds(task.request(target="label=shop"), workspace, listener=heard)
    assert record.state == "done"
    runs = {run.profile_name: run for run in record.runs}
    assert [[part.device.name for part in run.boards] for run in record.runs] == [["b1"], ["a1", "a2"]]
    assert all(run.selection and run.selection.winner for run in runs.values())
    made = {one.artifact.digest for one in runs["x86-avx2"].variants}
    dealt = {name: measured_quickly(computer, boards[name]) for name in ("a1", "a2")}
    assert not dealt["a1"] & dealt["a2"], "the boards of one kind did not share the work"
    assert dealt["a1"] | dealt["a2"] == made
    shared, alone = runs["x86-avx2"], runs["generic"]
    assert shared.selection is not None
    assert all(part.ratio is not None for part in shared.boards)
    assert alone.boards[0].ratio is None
    finals = [one for one in shared.selection.assessments if len(one.candidate.measurements) == 2]
    assert finals, "no finalist was measured on both boards"
    for run in record.runs:
        for part in run.boards:
            active = boards[part.device.name].home / ".edgeopt/apps/net/current/model.onnx"
            assert part.deployment is not None
            assert hashlib.sha256(active.read_bytes()).hexdigest() == part.deployment.variant_digest
    page = (workspace.run_folder(record.group) / "report.html").read_text()
    assert all(name in page for name in (*KINDS, *runs))
    for name in ("last", record.group):
        assert find_group(name, workspace) == record
    with pytest.raises(StoreError, match=r"for 2 kinds of boards.*generic"):
        find_run(record.group, workspace)
    shown = Console(file=io.StringIO(), width=100)
    print_kinds(record, shown)
    assert isinstance(shown.file, io.StringIO)
    assert "3 boards of 2 kinds, each with its winner." in shown.file.getvalue()
    for one, boards_of_it in ((record.group, KINDS), (shared.run_id, ("a1", "a2"))):
        followed = Followed(workspace.run_folder(one) / NAME).catch_up()
        assert {"Making variants", "Activating"} <= {stage.name for stage in followed.stages}
        assert {line.text.partition(":")[0] for line in followed.lines} >= set(boards_of_it)
    assert not any(line.text.startswith("b1: ") for line in followed.lines)
    assert "Boards of this kind" in (workspace.run_folder(shared.run_id) / "report.html").read_text()


def test_a_board_that_vanishes_leaves_its_work_to_its_kind_and_the_same_request_goes_on(
    boards: dict[str, Sshd],
    computer: Computer,
    workspace: edgeopt.Workspace,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kinds, "BOARD_PATIENCE_SECONDS", 0.0)
    heard, request = Unplugs(boards["a2"], "a2"), task.request(target="a1,a2")
    record = deploy_kinds(request, workspace, listener=heard)
    assert record.state == "incomplete"
    assert list(record.lost) == ["a2"]
    assert "a2 drops out: " in heard.text
    assert "the others of its kind take over its work" in heard.text
    (run,) = record.runs
    assert run.state == "done"
    assert run.selection is not None
    assert {one.candidate.variant.name for one in run.selection.assessments} == {one.name for one in run.variants}
    assert [part.deployment is not None for part in run.boards] == [True, False]
    before = set(known_measurements(workspace))
    boards["a2"].start()
    again = deploy_kinds(request, workspace)
    assert again.group == record.group
    assert again.state == "done"
    assert all(part.deployment for part in again.runs[0].boards)
    assert before < set(known_measurements(workspace))
    assert [job["state"]["state"] for job in jobs(computer, boards["a1"], "activate")] == ["done"]  # not once more


def test_where_the_last_board_of_a_kind_vanishes_the_other_kind_gets_its_winner_and_keeps_it(
    boards: dict[str, Sshd], workspace: edgeopt.Workspace, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "BOARD_PATIENCE_SECONDS", 0.0)
    request = task.request(target="a1,b1")
    record = deploy_kinds(request, workspace, listener=Unplugs(boards["b1"], "b1"))
    assert record.state == "incomplete"
    assert record.incomplete == ("generic",)
    assert {run.profile_name: run.state for run in record.runs} == {"x86-avx2": "done", "generic": "running"}
    known = record.runs[1]
    assert known.boards[0].deployment is not None
    boards["b1"].start()
    vanished = deploy_kinds(request, workspace, listener=Unplugs(boards["a1"], "a1", "Looking"))
    unreached = deploy_kinds(request, workspace)
    assert [list(vanished.unreached), list(unreached.unreached)] == [[], ["a1"]]
    for later in (vanished, unreached):
        assert later.state == "incomplete"
        assert list(later.lost) == ["a1"]
        assert {run.profile_name: run.state for run in later.runs}["generic"] == "done"
        assert later.runs[1].selection == known.selection
        assert later.runs[1].boards[0].deployment == known.boards[0].deployment
    assert find_group("last", workspace) == unreached


def test_one_for_all_is_one_file_on_every_kind_and_the_command_line_says_so(
    boards: dict[str, Sshd], computer: Computer, task: Task
) -> None:
    done = computer.command(*task.words("--target", "a1,b1", "--one-for-all", "--json"))
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["state"] == "done"
    common = record["runs"][0]["common"]
    assert set(common["ratios"]) == {"x86-avx2", "generic"}
    assert min(common["ratios"].values()) >= 1.0
    digests = {part["deployment"]["variant_digest"] for run in record["runs"] for part in run["boards"]}
    assert digests == {common["digest"]}
    boards["b1"].stop()
    lost = computer.command(*task.words("--target", "a1,b1", "--one-for-all", "--fresh", "--no-activate"))
    assert lost.returncode == 4
    assert "b1" in lost.stderr
    assert "the same command goes on" in lost.stderr
    with computer.workspace() as workspace:
        waiting = find_group("last", workspace)
    assert waiting is not None
    (run,) = waiting.runs
    assert run.selection is not None
    assert (waiting.state, run.state, run.selection.winner) == ("incomplete", "running", None)
    assert any(one.reason.endswith("the one for all kinds waits for generic") for one in run.selection.assessments)


def test_boards_of_one_kind_search_together_and_try_nothing_twice(
    boards: dict[str, Sshd], workspace: edgeopt.Workspace, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "QUICK", SHORT)
    (tmp_path / "space.yaml").write_text(SPACE)
    search = SearchRequest(str(tmp_path / "space.yaml"), "random", 4)
    request = task.request(target="a1,a2", recipes=("none",), search=search, activate=False)
    record = deploy_kinds(request, workspace)
    (run,) = record.runs
    assert [trial.number for trial in run.trials] == [1, 2, 3, 4]
    assert {trial.board for trial in run.trials} == {"a1", "a2"}
    assert len({tuple(trial.point.items()) for trial in run.trials}) == 4
    assert record.state == "done"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a1,", "empty name"),
        ("a1,a1", "names 'a1' twice"),
        ("label=shop,profile=nothing", "no board fits"),
        ("a1,nobody", "'nobody' is no device"),
        ("a1,x86-avx2", "'x86-avx2' is a kind of hardware, and no device"),
        ("a1,raspberry-pi-5", "'raspberry-pi-5' is 'a1', which is named already"),
    ],
)
def test_targets_that_name_no_boards_are_refused(
    workspace: edgeopt.Workspace, task: Task, target: str, message: str
) -> None:
    workspace.inventory.add(Device("a1", "ssh", host="192.0.2.1", profile="raspberry-pi-5", labels={"shop": "north"}))
    with pytest.raises((UsageError, edgeopt.EdgeoptError), match=message):
        deploy_kinds(task.request(target=target), workspace)
