"""Who is let in to the local page: asked by a program that sends what it likes to the real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.local_page import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_the_token_is_taken_out_of_the_address_into_a_strict_cookie(served: Served) -> None:
    status, headers, _ = served.ask(f"/devices{served.query[1:]}&x=1")
    assert (status, headers["Location"]) == (303, "/devices?x=1")
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert served.ask("/", cookie=served.cookie())[0] == 200


@pytest.mark.parametrize("path", ["/", "/runs/x/report", "/devices", "/fleet?part=1", "/nowhere"])
def test_without_the_token_nothing_is_told_not_even_what_is_there(served: Served, path: str) -> None:
    status, _, text = served.ask(path)
    assert status == 403
    assert text == "Open the address that edgeopt ui printed: it has the token.\n"


def test_a_wrong_token_is_refused_and_gives_no_cookie(served: Served) -> None:
    for path, cookie in (("/?token=wrong", ""), ("/?token=", ""), ("/", f"edgeopt-{served.port}=wrong")):
        status, headers, _ = served.ask(path, cookie=cookie)
        assert status == 403
        assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "host", ["rebound.test", "rebound.test:{port}", "127.0.0.1", "localhost:1", "", "127.0.0.1:{port}.x"]
)
def test_a_name_that_points_here_is_not_this_page(served: Served, host: str) -> None:
    status, headers, text = served.ask(served.query, cookie=served.cookie(), host=host.format(port=served.port))
    assert status == 421
    assert "Set-Cookie" not in headers
    assert f"http://127.0.0.1:{served.port}/" in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_it_can_only_be_read(served: Served, method: str) -> None:
    status, headers, _ = served.ask("/", method=method, cookie=served.cookie())
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_an_address_with_doubled_slashes_leads_to_no_other_host(served: Served) -> None:
    _, headers, _ = served.ask(f"//evil.test/{served.query[1:]}")
    assert headers["Location"] == "/evil.test/"


def test_nothing_may_frame_it_keep_it_or_read_it_from_elsewhere(served: Served) -> None:
    _, headers, _ = served.ask("/", cookie=served.cookie())
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in headers


def test_other_computers_cannot_reach_it(served: Served, tmp_path: Path) -> None:
    """Every address of this computer but those of the loopback interface refuses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks which address would be used
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((address, served.port), 10):
        pass
