"""A run for several boards on the local page: its kinds lead to their pages, and its own page and report open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.store.rollouts import RolloutStore
from edgeopt.workflow.ui.contents import Contents
from edgeopt.workflow.workspace import Workspace
from support.local_page import keep, serving
from support.records import run_record

KINDS = ("0101-abcd.raspberry-pi-4", "0101-abcd.raspberry-pi-5")


def test_the_run_leads_to_its_kinds_and_has_a_report_of_them_all(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace:
        workspace.ledger.start_run("0101-abcd", "key", "edgeopt deploy net.onnx", started_at=1.0)
        keep(workspace, *(replace(run_record(), run_id=name, group="0101-abcd", started_at=1.0) for name in KINDS))
    with serving(tmp_path) as served:
        pages = [served.ask(path, cookie=served.cookie()) for path in ("/", "/runs/0101-abcd")]
        status, _, report = served.ask("/runs/0101-abcd/report", cookie=served.cookie())
    for code, _, text in pages:
        assert code == 200
        assert 'href="/runs/0101-abcd/report"' in text
        assert "raspberry-pi-4, raspberry-pi-5" in text
        assert all(f'href="/runs/{name}"' in text for name in KINDS)
    assert status == 200
    assert "edgeopt run 0101-abcd: 2 kinds of boards" in report


def test_a_record_that_changes_without_a_step_is_read_again(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace, RolloutStore(workspace.ledger.url) as rollouts:
        contents, record = Contents(workspace, rollouts), replace(run_record(), state="running")
        keep(workspace, replace(record, selection=None))
        assert contents.run(record.run_id)[1] == replace(record, selection=None)
        workspace.ledger.save_run(record)
        assert contents.run(record.run_id)[1] == record
