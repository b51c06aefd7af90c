from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from edgeopt.core.device import LOCAL, Device
from edgeopt.errors import ChangedHostKeyError, UnknownHostKeyError
from edgeopt.remote import hostkeys
from edgeopt.remote.client import connect
from edgeopt.remote.known_hosts import KnownHosts
from edgeopt.remote.ssh import SshLink
from support.sshd import Sshd, make_key, running_sshd


def openssh_fingerprint(key: Path) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def test_scan_shows_what_openssh_shows_and_offers_nothing(server: Sshd) -> None:
    assert hostkeys.scan(server.device()) == openssh_fingerprint(server.host_key)
    assert "authenticating" not in server.log
    assert "publickey" not in server.log


def test_an_unknown_host_key_is_refused_with_the_command_that_adds_it(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "board") as server:
        with pytest.raises(UnknownHostKeyError) as caught:
            connect(server.device())
        fingerprint = openssh_fingerprint(server.host_key)
        command = f"edgeopt device add board {server.user}@127.0.0.1:{server.port} --fingerprint {fingerprint}"
        assert command in caught.value.remedy
        assert fingerprint in caught.value.message
        assert "publickey" not in server.log


def test_a_changed_host_key_stops_everything_before_any_key_is_offered(server: Sshd) -> None:
    before = openssh_fingerprint(server.host_key)
    server.replace_host_key()
    size = len(server.log)
    with pytest.raises(ChangedHostKeyError) as caught:
        connect(server.device())
    assert not caught.value.retryable
    assert before in caught.value.message
    assert openssh_fingerprint(server.host_key) in caught.value.message
    assert "edgeopt device trust board --replace" in caught.value.remedy
    seen = server.log[size:]
    assert "publickey" not in seen
    assert seen.count("Connection from 127.0.0.1") <= 2  # one is the check that it listens: no retry


def test_trust_pins_only_the_expected_key(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "board") as server:
        device, right = server.device(), openssh_fingerprint(server.host_key)
        wrong = openssh_fingerprint(make_key(tmp_path / "other"))
        with pytest.raises(UnknownHostKeyError, match="Nothing was pinned"):
            hostkeys.trust(device, wrong)
        assert KnownHosts().keys(f"[127.0.0.1]:{server.port}") == ()
        hostkeys.trust(device, right)
        hostkeys.trust(device, right)
        assert KnownHosts().path.read_text().count("ssh-ed25519") == 1
        SshLink(device).close()


def test_a_pinned_key_is_replaced_only_on_demand(server: Sshd) -> None:
    server.replace_host_key()
    shown = hostkeys.scan(server.device())
    with pytest.raises(ChangedHostKeyError):
        hostkeys.trust(server.device(), shown)
    hostkeys.trust(server.device(), shown, replace=True)
    SshLink(server.device()).close()
    assert KnownHosts().path.read_text().count(str(server.port)) == 1


def test_the_users_own_known_hosts_vouches_also_with_hashed_names(computer: Path, tmp_path: Path) -> None:
    with running_sshd(tmp_path / "board") as server:
        assert not hostkeys.known_to_ssh(server.device())
        key = Path(f"{server.host_key}.pub").read_text()
        own = computer / ".ssh" / "known_hosts"
        own.write_text(f"[127.0.0.1]:{server.port} {key}")
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(own)], check=True, capture_output=True)
        assert "127.0.0.1" not in own.read_text()
        assert hostkeys.known_to_ssh(server.device())
        with pytest.raises(UnknownHostKeyError):  # vouching is not pinning
            SshLink(server.device())


def test_lines_that_are_no_pins_vouch_for_nothing_and_break_nothing(computer: Path) -> None:
    import paramiko

    good, revoked, pins = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate(), KnownHosts()
    hashed = paramiko.HostKeys.hash_host("a")
    lines = [
        f"@cert-authority * {revoked.get_name()} {revoked.get_base64()}",
        f"a {revoked.get_name()} {revoked.get_base64()}",
        f"@revoked a {revoked.get_name()} {revoked.get_base64()}",
        "a ssh-ed25519 !!!notbase64",
        "a ssh-rsa AAAAB3NzaC1yc2E",
        "|1|bad|hash ssh-ed25519 AAAA",
        "# a comment",
        "a",
        f"{hashed} {good.get_name()} {good.get_base64()}",
    ]
    pins.path.parent.mkdir(parents=True, exist_ok=True)
    pins.path.write_bytes(b"\xff\xfe a b\n" + "\n".join(lines).encode())
    assert pins.keys("a") == (good,)
    assert pins.keys("b") == ()


def test_pins_of_other_servers_stay(computer: Path) -> None:
    import paramiko

    pins, key, newer = KnownHosts(), paramiko.RSAKey.generate(1024), paramiko.ECDSAKey.generate()
    pins.pin("a", key)
    pins.pin("[a]:2222", key)
    pins.pin("a", newer)
    assert pins.keys("a") == (newer,)
    assert pins.keys("[a]:2222") == (key,)


def test_devices_that_show_one_host_key_are_told_from_those_that_do_not(computer: Path, tmp_path: Path) -> None:
    """Two boards of one disk image, one board under two names, one of its own, one that nobody has pinned yet."""
    (computer / ".ssh/config").write_text("Host press\n  HostName 10.0.0.7\n")
    pins, keys = KnownHosts(), [paramiko.ECDSAKey.generate() for _ in range(3)]
    for name, key in (("10.0.0.5", 0), ("[10.0.0.6]:2222", 0), ("10.0.0.7", 1), ("10.0.0.8", 2)):
        pins.pin(name, keys[key])
    places = [("a", "10.0.0.5", 22), ("b", "10.0.0.6", 2222), ("c", "press", 22), ("d", "10.0.0.7", 22)]
    devices = [Device(name, "ssh", host=host, port=port) for name, host, port in [*places, ("e", "10.0.0.8", 22)]]
    found = hostkeys.twins([*devices, Device("f", "ssh", host="10.0.0.9"), LOCAL])
    assert found == {"a": ("b",), "b": ("a",), "c": ("d",), "d": ("c",)}
    assert hostkeys.twins(devices[:1]) == {}
    assert "host key of b, c, d and 2 more" in hostkeys.twin_words(["b", "c", "d", "e", "f"])
