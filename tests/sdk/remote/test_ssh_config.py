from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.errors import DocumentError, UsageError
from edgeopt.remote.ssh_config import config_aliases, parse_address, route


def written(computer: Path, text: str) -> Path:
    path = computer / ".ssh" / "config"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("pi@10.0.0.5", ("pi", "10.0.0.5", None)),
        ("pi@board.local:2222", ("pi", "board.local", 2222)),
        ("board", (None, "board", None)),
        ("pi@[fe80::1]:22", ("pi", "fe80::1", 22)),
        ("fe80::1", (None, "fe80::1", None)),
    ],
)
def test_addresses(address: str, parts: tuple[str | None, str, int | None]) -> None:
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "pi@", "pi@host:0", "pi@host:70000", "pi@host:ssh", "-oProxyCommand=x", "a@:22"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        parse_address(address)


def test_the_config_completes_what_the_inventory_leaves_open(computer: Path) -> None:
    written(computer, "Host board\n HostName 10.0.0.5\n Port 2222\n User pi\n IdentityFile ~/k\n CertificateFile ~/c\n")
    (hop,) = route(Device("x", "ssh", host="board"))
    assert (hop.host, hop.port, hop.user, hop.key_name) == ("10.0.0.5", 2222, "pi", "[10.0.0.5]:2222")
    assert hop.identity_files == (str(computer / "k"),)
    assert hop.certificate_files == (str(computer / "c"),)
    assert not hop.identities_only
    (hop,) = route(Device("x", "ssh", host="board", port=22, user="root", identity_file="~/mine"))
    assert (hop.port, hop.user, hop.key_name) == (22, "root", "10.0.0.5")
    assert hop.identity_files == (str(computer / "mine"),)
    assert hop.identities_only


def test_included_files_count(computer: Path) -> None:
    (computer / ".ssh" / "more.d").mkdir()
    (computer / ".ssh" / "more.d" / "boards").write_text("Host board\n HostName 10.9.9.9\n")
    written(computer, "Include more.d/*\nInclude config\n")
    assert route(Device("x", "ssh", host="board"))[0].host == "10.9.9.9"


def test_a_host_key_alias_names_the_pin(computer: Path) -> None:
    written(computer, "Host 10.0.0.5\n HostKeyAlias shop-7\n")
    assert route(Device("x", "ssh", host="10.0.0.5"))[0].key_name == "shop-7"


def test_a_proxy_command_gets_the_port_that_is_used(computer: Path) -> None:
    written(computer, "Host *\n ProxyCommand relay %h %p %r\n")
    assert route(Device("x", "ssh", host="10.0.0.5", port=2222, user="pi"))[0].proxy_command == "relay 10.0.0.5 2222 pi"


def test_jump_hosts_come_first_and_bring_their_own(computer: Path) -> None:
    written(computer, "Host inner\n ProxyJump outer\nHost board\n ProxyJump inner,last@10.1.1.1:2200\n")
    hops = route(Device("x", "ssh", host="board", user="pi"))
    assert [hop.host for hop in hops] == ["outer", "inner", "10.1.1.1", "board"]
    assert (hops[2].user, hops[2].port) == ("last", 2200)
    assert [hop.host for hop in route(Device("x", "ssh", host="board", jump="none"))] == ["board"]


def test_jumps_in_a_circle_are_refused(computer: Path) -> None:
    written(computer, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageError, match="circles"):
        route(Device("x", "ssh", host="a"))


def test_a_config_that_does_not_parse_is_named(computer: Path) -> None:
    path = written(computer, "Host board\n HostName\n")
    with pytest.raises(DocumentError, match=str(path)):
        route(Device("x", "ssh", host="board"))


def test_aliases_are_names_without_patterns(computer: Path) -> None:
    path = written(computer, "Host board other\nHost *.local !bad\nHost *\n")
    assert config_aliases(path) == {"board", "other"}
    assert config_aliases(computer / "none") == set()


@pytest.mark.parametrize("port", ["many", "0", "65536", "-22"])
def test_a_port_that_is_none_is_named_with_its_file(computer: Path, port: str) -> None:
    path = written(computer, f"Host board\n Port {port}\n")
    with pytest.raises(DocumentError, match=f"{path}: the port of board is '{port}'"):
        route(Device(name="b", transport="ssh", host="board"))
