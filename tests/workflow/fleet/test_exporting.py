"""The exporter over real HTTP: what it answers, what it refuses, and the file for node_exporter."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.core.release import BoardRelease
from edgeopt.core.sighting import Sighting
from edgeopt.errors import UsageError
from edgeopt.workflow.fleet import exporting
from edgeopt.workflow.fleet.rollouts import rollout_store
from edgeopt.workflow.fleet.status import sightings_of
from edgeopt.workflow.workspace import Workspace
from support.rollout_records import figures, halted_rollout


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "edgeopt"))
    with Workspace.open() as opened:
        release = BoardRelease("detector", "1.4.0", 4, "ab" * 32, "cd" * 32, 7, verified=True, figures=figures(12.5))
        sightings_of(opened).remember([Sighting("shop-001", "pi5", True, 2.0, 2.0, "", (release,))])
        with rollout_store(opened) as store:
            store.create(replace(halted_rollout(), gates=()), key="k", now=1.0)
        yield opened


@pytest.fixture
def url(workspace: Workspace) -> Iterator[str]:
    with exporting.Exporter(workspace, "127.0.0.1:0") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_prometheus_gets_its_text(url: str) -> None:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'edgeopt_rollout_state{rollout="00c0ffee00c0ffee",release="detector@1.4.0",state="halted"} 1' in text
    assert 'edgeopt_board_latency_seconds{board="shop-001",profile="pi5",app="detector",stat="median"} 0.0125' in text


@pytest.mark.parametrize(("path", "method", "status"), [("/x", "GET", 404), ("/metrics", "POST", 501)])
def test_nothing_else_is_there(url: str, path: str, method: str, status: int) -> None:
    request = urllib.request.Request(url + path, method=method, data=b"" if method == "POST" else None)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == status


def test_answers_that_cannot_be_read_are_a_503_and_the_exporter_lives_on(url: str, workspace: Workspace) -> None:
    path = sightings_of(workspace).path
    whole = path.read_bytes()
    path.write_text("{")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{url}/metrics", timeout=10)
    assert caught.value.code == 503
    path.write_bytes(whole)
    assert urllib.request.urlopen(f"{url}/metrics", timeout=10).status == 200


def test_the_textfile_is_whole_and_must_be_one(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "edgeopt.prom"
    exporting.write_metrics(workspace, path)
    assert path.read_text() == exporting.metrics(workspace)
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(UsageError, match=r"does not end in \.prom"):
        exporting.write_metrics(workspace, tmp_path / "edgeopt.txt")
    with pytest.raises(UsageError, match="cannot write"):
        exporting.write_metrics(workspace, path / "edgeopt.prom")


@pytest.mark.parametrize("address", ["", "9460", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(workspace: Workspace, address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        exporting.Exporter(workspace, address)


def test_a_taken_address_is_said(url: str, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        exporting.Exporter(workspace, url.removeprefix("http://"))


def test_it_listens_on_ipv6_too(workspace: Workspace) -> None:
    try:
        with exporting.Exporter(workspace, "[::1]:0") as server:
            assert server.server_port > 0
    except UsageError:
        pytest.skip("this machine has no IPv6")


def test_loopback_is_told_from_the_rest() -> None:
    assert exporting.is_loopback("127.0.0.1")
    assert exporting.is_loopback("::1")
    assert exporting.is_loopback("localhost")
    assert not exporting.is_loopback("0.0.0.0")
    assert exporting.parse_address("[::1]:9460") == ("::1", 9460)
