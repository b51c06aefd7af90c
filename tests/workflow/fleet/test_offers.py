"""Offers on the host: to whom one may be made, what is offered now, and how one is taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.errors import UsageError
from edgeopt.publishing.offers import Terms
from edgeopt.workflow.fleet.agents import PullingBoard, remember
from edgeopt.workflow.fleet.auditing import audit_log
from edgeopt.workflow.fleet.composing import ReleaseRequest
from edgeopt.workflow.fleet.offering import offer, standing_offers, withdraw
from edgeopt.workflow.fleet.publishing import publish
from edgeopt.workflow.fleet.tree import repository_of
from edgeopt.workflow.workspace import Workspace
from support.command import Command
from support.publishing import keep_run, make_keys

OSLO = Terms({"site": "oslo"})


@pytest.fixture
def workspace(edgeopt_home: Path, tmp_path: Path) -> Iterator[Workspace]:
    """Two published releases, and three boards that pull."""
    with Workspace.open() as opened:
        make_keys(opened)
        keep_run(opened, tmp_path / "runs", "run-1")
        for version in ("1.0", "1.1"):
            publish(ReleaseRequest("net", version, runs=("run-1",)), opened)
        for number, site in enumerate(("oslo", "oslo", "bergen")):
            remember(opened, f"cam-{number}", PullingBoard("00", "http://store", "", "pi5", {"site": site}))
        yield opened


def offered(workspace: Workspace) -> list[str]:
    return [f"{one.offer.app}@{one.offer.release}" for one in standing_offers(workspace)]


@pytest.mark.parametrize("labels", [{"site": "nowhere"}, {"name": "cam-9"}, {"profile": "pi4"}, {"sight": "oslo"}])
def test_an_offer_that_no_board_would_take_is_refused_unless_others_enrolled_some(
    workspace: Workspace, labels: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match=r"for no board that was enrolled here \(3 pull: its \w+ is") as caught:
        offer("net@1.0", Terms(labels), workspace)
    assert "--elsewhere" in caught.value.remedy
    assert offered(workspace) == []
    offer("net@1.0", Terms(labels), workspace, elsewhere=True)
    assert offered(workspace) == ["net@1.0"]


def test_before_any_board_pulls_an_offer_says_how_one_is_made_to(edgeopt_home: Path, tmp_path: Path) -> None:
    with Workspace.open() as workspace:
        make_keys(workspace)
        keep_run(workspace, tmp_path / "runs", "run-1")
        publish(ReleaseRequest("net", "1.0", runs=("run-1",)), workspace)
        with pytest.raises(UsageError, match="none was told to pull: edgeopt device enrol NAME --url URL"):
            offer("net@1.0", Terms(), workspace)


def test_a_board_that_does_not_want_the_app_does_not_count(workspace: Workspace) -> None:
    remember(workspace, "cam-7", PullingBoard("00", "http://store", "", "pi5", {"site": "moss"}, ("other",)))
    with pytest.raises(UsageError, match="for no board"):
        offer("net@1.0", Terms({"site": "moss"}), workspace)


def test_what_is_offered_is_listed_with_the_boards_that_take_it(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    offer("net@1.0", Terms({"site": "oslo"}, 1, rollout_id="ab" * 8), workspace)
    [one] = standing_offers(workspace)
    assert (one.fitting, one.boards) == (2, ())
    offer("net@1.0", OSLO, workspace)
    [one] = standing_offers(workspace)
    assert (one.boards, one.offer.rollout_id) == (("cam-0", "cam-1"), "ab" * 8)
    shown = Command(capsys)("fleet", "offers").stdout
    assert all(word in shown for word in ("net@1.0", "site=oslo", "100 %", "2 of 2", "always"))
    [row] = json.loads(Command(capsys)("fleet", "offers", "--json").stdout)["offers"]
    assert (row["release"], row["boards"]) == ("1.0", ["cam-0", "cam-1"])


def test_an_offer_that_is_taken_back_is_no_signed_target_any_more(workspace: Workspace, tmp_path: Path) -> None:
    offer("net@1.0", OSLO, workspace)
    with pytest.raises(UsageError, match=r"net@1.1 is not offered \(offered: net@1.0\)"):
        withdraw("net@1.1", workspace)
    found, pushed = withdraw("net", workspace, to=str(tmp_path / "store"))
    assert (found.release, offered(workspace)) == ("1.0", [])
    assert pushed is not None
    assert pushed.sent_files > 0
    current = repository_of(workspace).current()
    assert not current.rollouts.signed.targets
    assert current.timestamp.signed.expires.timestamp() > time.time()
    assert [entry.what for entry in audit_log(workspace).entries()][-2:] == ["offer", "offer.withdraw"]
    with pytest.raises(UsageError, match=r"net is not offered \(offered: nothing\)"):
        withdraw("net", workspace)
    offer("net@1.1", OSLO, workspace)
    assert offered(workspace) == ["net@1.1"]


def test_the_commands_words(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    assert "Nothing is offered." in command("fleet", "offers").stdout
    unsaid = command("fleet", "offer", "net@1.0")
    assert (unsaid.code, "needs --to" in unsaid.stderr) == (2, True)
    assert command("fleet", "offer", "net@1.0", "--to", "site=nowhere").code == 2
    assert command("fleet", "offer", "net@1.0", "--to", "site=oslo").code == 0
    gone = command("fleet", "offer", "net", "--withdraw")
    assert gone.code == 0
    assert "net@1.0 is offered no more" in gone.stdout
    assert command("fleet", "offer", "net", "--withdraw").code == 2
