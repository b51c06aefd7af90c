"""What boards that pull reported, as `fleet status` takes it: believed, aged, and told where it is wrong."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import paramiko
import pytest
from rich.console import Console

from edgeopt.core.device import Device
from edgeopt.core.fleet import Board
from edgeopt.core.release import BoardRelease
from edgeopt.core.rollout import Rollout
from edgeopt.core.sighting import BoardStatus, Sighting
from edgeopt.errors import ConnectError
from edgeopt.publishing.reports import BoardReport
from edgeopt.remote.known_hosts import KnownHosts
from edgeopt.report.fleet_status import print_status
from edgeopt.store.sightings import Sightings
from edgeopt.workflow.fleet.agents import PullingBoard, remember
from edgeopt.workflow.fleet.drift import after_offers, drift_of, expected_by_board
from edgeopt.workflow.fleet.reported import STALE_POLLS, Reports
from edgeopt.workflow.fleet.status import Answer, fleet_status, sightings_of
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.agent import device_key
from edgeopt_runner.agent.reports import report
from edgeopt_runner.agent.settings import parse
from edgeopt_runner.protocol.hardware import mark
from edgeopt_runner.protocol.offers import Offer
from support.publishing import make_keys
from support.pull_tree import agent_settings
from support.rollout_records import done_rollout

NOW = 1_790_000_000.0
BOARD = Board(Device("cam-1", "ssh", host="10.0.0.1"))
TOLD = PullingBoard("00", "http://store", "http://store/reports", "pi5", {"site": "oslo"}, every_seconds=60)
OFFER = Offer("net", "1.1", "releases/net/1.1.json", "ab" * 8, {"site": "oslo"}, 10000, 0, None, 1.0)
RUNS = BoardRelease("net", "1.0", 1, "ab" * 32, "cd" * 32, 1, verified=True, signed=True)


def reports(offer: Offer | None = None, **changes: Any) -> Reports:
    fields: dict[str, Any] = {"time": int(NOW) - 90, "authentic": True, "apps": (RUNS,), **changes}
    found = BoardReport("cam-1", 7, **fields)
    return Reports({"cam-1": TOLD}, {"cam-1": found}, {"net": offer} if offer else {}, NOW)


def test_a_report_stands_for_an_answer_with_its_age() -> None:
    found = reports().sighting(BOARD)
    assert found == Sighting("cam-1", "pi5", True, NOW, NOW - 90, "", (RUNS,), by_report=True)
    assert reports().problems("cam-1") == ()


@pytest.mark.parametrize(
    ("clock", "stored", "seen"),
    [(NOW - 90, NOW - 10, NOW - 90), (1000.0, NOW - 10, NOW - 10), (NOW + 9e7, NOW - 10, NOW - 10)],
)
def test_its_age_is_by_the_board_s_clock_where_that_is_set(clock: float, stored: float, seen: float) -> None:
    found = reports(time=int(clock), stored_at=stored).sighting(BOARD)
    assert found is not None
    assert found.seen_at == seen


def test_a_board_that_reports_no_more_is_away() -> None:
    at = NOW - STALE_POLLS * TOLD.every_seconds
    fresh, stale = (reports(time=int(moment)).sighting(BOARD) for moment in (at, at - 1))
    assert fresh is not None
    assert stale is not None
    assert (fresh.reachable, stale.reachable, stale.detail) == (True, False, "no report since")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"authentic": False}, "report 7 is not signed by the key of its enrolment"),
        ({"problem": "it is none"}, "report 7 cannot be read: it is none"),
    ],
)
def test_a_report_that_is_not_believed_is_told_and_the_board_asked(changes: dict[str, Any], said: str) -> None:
    assert reports(**changes).sighting(BOARD) is None
    (problem,) = reports(**changes).problems("cam-1")
    assert said in problem


def test_what_went_wrong_there_is_told() -> None:
    ended = {"net": ("rolled_back", "cosine 0.1"), "other": ("committed", "")}
    assert reports(updates=ended).problems("cam-1") == ("net: rolled_back, cosine 0.1",)
    assert reports(trouble="expired").problems("cam-1") == ("it does not follow its store: expired",)


def test_a_disk_in_other_hardware_than_it_was_enrolled_in_is_told() -> None:
    found = reports(moved=True)
    assert "its disk was enrolled in other hardware" in found.problems("cam-1")[0]
    assert reports().problems("cam-1") == ()


def test_an_offer_that_a_board_has_not_taken_yet_is_a_note() -> None:
    assert reports(OFFER).notes("cam-1", reachable=True) == ("net@1.1 is offered",)
    assert reports(OFFER._replace(release="1.0")).notes("cam-1", reachable=True) == ()
    assert reports(OFFER._replace(labels={"site": "moss"})).notes("cam-1", reachable=True) == ()
    unread = Reports({"cam-1": TOLD}, now=NOW)
    assert unread.notes("cam-1", reachable=True) == ()
    assert "--reports URL" in unread.notes("cam-1", reachable=False)[0]


def test_what_is_offered_is_not_held_against_a_rollout_of_before() -> None:
    rollout: Rollout = done_rollout()
    expected = expected_by_board([rollout])["shop-000"]
    other = Sighting("shop-000", "pi5", True, 2.0, 1.0, "", (BoardRelease("detector", "2.0", 9, "ef" * 32, "00" * 32),))
    assert "the last rollout left" in drift_of(other, expected)[0]
    assert all("the last rollout left" not in line for line in drift_of(other, after_offers(expected, ["detector"])))
    assert after_offers(expected, ["another"]) == expected


def refuses(_: Device) -> Answer:
    raise ConnectError("no route to host.")


def test_who_reported_is_not_asked_and_both_are_kept(edgeopt_home: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(device: Device) -> Answer:
        asked.append(device.name)
        return refuses(device)

    settings = parse(dict(agent_settings("http://store"), device_id="cam-1"))
    facts = {"apps": [{"app": "net", "version": "1.0", "verified": True, "signed": True}], "updates": {}}
    (tmp_path / "store/cam-1").mkdir(parents=True)
    (tmp_path / "store/cam-1/3.json").write_bytes(report(str(tmp_path / "board"), settings, 3, facts))
    boards = (BOARD, Board(Device("cam-2", "ssh", host="10.0.0.2")))
    with Workspace.open() as workspace:
        make_keys(workspace)
        remember(workspace, "cam-1", PullingBoard(device_key.public(str(tmp_path / "board"))))
        found = fleet_status(boards, workspace, ask=ask, reports_url=(tmp_path / "store").as_uri())
        assert asked == ["cam-2"]
        assert [(one.sighting.reachable, one.sighting.by_report, one.drift) for one in found] == [
            (True, True, ()),
            (False, False, ()),
        ]
        assert found[0].sighting.releases[0].version == "1.0"
        kept = {one.board: one for one in Sightings(workspace.root / "boards.json").all()}
        assert kept["cam-1"] == found[0].sighting


@pytest.mark.parametrize("damage", ["never made", "damaged"])
def test_without_a_signed_tree_the_status_is_told_with_a_note(edgeopt_home: Path, damage: str) -> None:
    with Workspace.open() as workspace:
        if damage == "damaged":
            make_keys(workspace)
            for path in workspace.root.rglob("*.targets.json"):
                path.write_text("{")
        remember(workspace, "cam-1", TOLD)
        [found, other] = fleet_status(
            (BOARD, Board(Device("cam-2", "ssh", host="10.0.0.2"))), workspace, ask=lambda _: Answer((RUNS,))
        )
    assert found.sighting.releases == (RUNS,)
    assert (found.drift, other.notes) == ((), ())
    assert "what is offered to it is not known" in found.notes[0]


ONE, TWO = ((mark("serial", name),) for name in ("one", "two"))


@pytest.mark.parametrize(
    ("hardware", "earlier", "said"),
    [
        (ONE, ONE, "the same board under two names"),
        (TWO, TWO, "a clone of its disk in other hardware"),
        ((), (), "the same board under two names, or a clone of its disk"),
        (TWO, ONE, "this is another board than the last time"),
    ],
)
def test_clones_and_names_of_one_board_are_told_apart_by_their_hardware(
    edgeopt_home: Path, hardware: tuple[str, ...], earlier: tuple[str, ...], said: str
) -> None:
    boards = (BOARD, Board(Device("cam-2", "ssh", host="10.0.0.2")))
    (edgeopt_home.parent / ".ssh").mkdir(exist_ok=True)
    pins, key = KnownHosts(), paramiko.ECDSAKey.generate()
    for host in ("10.0.0.1", "10.0.0.2"):
        pins.pin(host, key)

    def ask(device: Device) -> Answer:
        return Answer((RUNS,), ONE if device.name == "cam-1" else hardware)

    with Workspace.open() as workspace:
        sightings_of(workspace).remember([Sighting("cam-2", "", True, NOW, NOW, hardware=earlier)])
        [_, found] = fleet_status(boards, workspace, ask=ask)
        assert said in "; ".join(found.notes)
        assert "host key of cam-1" in found.notes[0]
        assert found.drift == ()
        [_, again] = fleet_status(boards, workspace, ask=ask)
        assert len(again.notes) == 1


def test_the_table_says_how_old_a_report_is() -> None:
    sighting = Sighting("cam-1", "pi5", True, NOW, NOW - 200, "", (RUNS,), by_report=True)
    rows = [BoardStatus(sighting, (), ("net@1.1 is offered",)), BoardStatus(sighting, ("it is wrong",), ())]
    stream = io.StringIO()
    print_status(rows, Console(file=stream, width=200), now=NOW)
    assert "reported 3 min 20 s ago; net@1.1 is offered" in stream.getvalue()
    assert "it is wrong" in stream.getvalue()
    assert "2 boards, 1 not as they were left." in stream.getvalue()
