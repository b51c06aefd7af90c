from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.device import Device
from edgeopt.errors import AuthenticationError, ChangedHostKeyError, UnknownHostKeyError
from edgeopt.remote import ssh_auth
from edgeopt.remote.ssh import SshLink
from support.device import pin
from support.sshd import Sshd, make_key, running_sshd


def whoami(device: Device) -> str:
    link = SshLink(device)
    try:
        with link.guard("asking", 30):
            return link.open("id -un").read(100).decode().strip()
    finally:
        link.close()


def test_stderr_is_drained_while_stdout_is_read(server: Sshd) -> None:
    link = SshLink(server.device())
    with link.guard("flooding", 60):
        channel = link.open("head -c 30000000 /dev/zero | tr '\\0' e >&2; echo done")
        assert channel.read(100) == b"done\n"
        assert channel.read(100) == b""
        assert channel.stderr_tail.endswith("eee")
        assert len(channel.stderr_tail) <= 65536
    link.close()


def test_a_link_leaves_no_thread_and_no_socket_behind(server: Sshd) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        whoami(server.device())
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(30)  # the watchdog, and what was still on its way out
    assert not [thread.name for thread in left if thread.is_alive()]


def test_a_wrong_key_is_refused_by_name(server: Sshd, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    with pytest.raises(AuthenticationError, match=r"wrong: refused") as caught:
        SshLink(server.device(identity_file=str(wrong)))
    assert "ssh-copy-id" in caught.value.remedy


def test_no_key_at_all_says_so(server: Sshd) -> None:
    with pytest.raises(AuthenticationError, match="there was no key to offer"):
        SshLink(server.device(identity_file=None))
    with pytest.raises(AuthenticationError, match="/no/such/key: no such file"):
        SshLink(server.device(identity_file="/no/such/key"))


def test_the_usual_key_files_are_tried(server: Sshd, computer: Path) -> None:
    for suffix in ("", ".pub"):
        Path(f"{server.client_key}{suffix}").rename(computer / ".ssh" / f"id_ed25519{suffix}")
    assert whoami(server.device(identity_file=None)) == server.user


def test_a_key_with_a_passphrase_needs_the_agent(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(server.client_key)], check=True, capture_output=True
    )
    with pytest.raises(AuthenticationError, match="has a passphrase and is not in the agent"):
        SshLink(server.device())


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    while not path.exists():
        pass
    yield
    process.terminate()
    process.wait()


def test_the_agent_logs_in_and_stands_in_for_a_key_with_a_passphrase(server: Sshd, agent: None) -> None:
    subprocess.run(["ssh-add", "-q", str(server.client_key)], check=True)
    assert whoami(server.device(identity_file=None)) == server.user
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(server.client_key)], check=True, capture_output=True
    )
    assert whoami(server.device()) == server.user


def test_a_named_key_comes_before_those_of_the_agent(server: Sshd, agent: None, tmp_path: Path) -> None:
    for number in range(7):  # more than a server bears
        subprocess.run(["ssh-add", "-q", str(make_key(tmp_path / f"other{number}"))], check=True)
    assert whoami(server.device()) == server.user
    with pytest.raises(AuthenticationError, match="further keys not offered"):
        SshLink(server.device(identity_file=None))


def test_an_agent_that_hangs_is_given_up(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_auth, "_AGENT_SECONDS", 0.5)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "agent"))
        silent.listen()
        assert whoami(server.device()) == server.user
        with pytest.raises(AuthenticationError, match=r"the agent did not answer within 0\.5 s"):
            SshLink(server.device(identity_file=None))


def test_a_certificate_logs_in(computer: Path, tmp_path: Path) -> None:
    authority = make_key(tmp_path / "authority")
    options = (f"TrustedUserCAKeys {authority}.pub",)
    with running_sshd(tmp_path / "board", options=options) as server:
        pin(server)
        key = make_key(tmp_path / "mine")
        with pytest.raises(AuthenticationError):
            SshLink(server.device(identity_file=str(key)))
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", server.user, f"{key}.pub"]
        subprocess.run(sign, check=True, capture_output=True)
        assert whoami(server.device(identity_file=str(key))) == server.user


def test_a_server_that_takes_only_passwords_says_so(computer: Path, tmp_path: Path) -> None:
    options = ("PubkeyAuthentication no",)
    with running_sshd(tmp_path / "board", options=(*options,)) as server:
        pin(server)
        with pytest.raises(AuthenticationError):
            SshLink(server.device())


@pytest.fixture
def bastion(computer: Path, tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "bastion") as running:
        running.authorize(running.client_key)
        yield running


def write_config(computer: Path, text: str) -> None:
    (computer / ".ssh" / "config").write_text(text)


def jump_config(bastion: Sshd) -> str:
    return f"Host bastion\n HostName 127.0.0.1\n Port {bastion.port}\n IdentityFile {bastion.client_key}\n"


def test_a_jump_host_is_gone_through_with_a_pinned_key_for_every_hop(
    server: Sshd, bastion: Sshd, computer: Path
) -> None:
    write_config(computer, jump_config(bastion))
    device = server.device(jump="bastion")
    with pytest.raises(UnknownHostKeyError, match=str(bastion.port)):
        SshLink(device)
    pin(bastion)
    assert whoami(device) == server.user
    assert "Accepted publickey" in bastion.log
    server.replace_host_key()
    with pytest.raises(ChangedHostKeyError, match=str(server.port)):
        SshLink(device)


def test_an_alias_of_ssh_config_is_enough(server: Sshd, bastion: Sshd, computer: Path) -> None:
    pin(bastion)
    board = f"Host board\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.client_key}\n"
    write_config(computer, jump_config(bastion) + board + " ProxyJump bastion\n")
    assert whoami(Device(name="board", transport="ssh", host="board")) == server.user
    assert "Accepted publickey" in bastion.log


def test_a_proxy_command_carries_the_connection(server: Sshd, computer: Path, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while True:\n"
        "        data = os.read(0, 65536)\n"
        "        if not data: os._exit(0)\n"
        "        s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while True:\n"
        "    data = s.recv(65536)\n"
        "    if not data: break\n"
        "    os.write(1, data)\n"
    )
    write_config(computer, f"Host 127.0.0.1\n ProxyCommand python3 {relay} %h %p\n")
    assert whoami(server.device()) == server.user
