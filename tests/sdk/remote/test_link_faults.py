from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.errors import ConnectError, DeadlineError, LinkLostError
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.ssh import SshLink
from support.chaos import ChaosProxy, chaos_proxy
from support.device import pin, random_file
from support.sshd import Sshd

STALL_SECONDS = 2.0
MIB = 1 << 20


@pytest.fixture
def proxy(server: Sshd) -> Iterator[ChaosProxy]:
    with chaos_proxy(server.port) as running:
        pin(server, running.port)
        yield running


def link_through(proxy: ChaosProxy, server: Sshd) -> SshLink:
    return SshLink(server.device(port=proxy.port), stall_seconds=STALL_SECONDS)


def connection_through(proxy: ChaosProxy, server: Sshd) -> Connection:
    return connect(server.device(port=proxy.port), stall_seconds=STALL_SECONDS)


def test_a_port_where_nothing_listens_says_so(server: Sshd) -> None:
    server.stop()
    with pytest.raises(ConnectError, match="nothing listens there"):
        SshLink(server.device())


def test_a_name_that_is_not_known_says_so(computer: Path, server: Sshd) -> None:
    with pytest.raises(ConnectError, match="name is not known"):
        SshLink(server.device(host="no-such-board.invalid"))


def test_a_host_that_accepts_and_says_nothing_ends_by_the_stall_deadline(proxy: ChaosProxy, server: Sshd) -> None:
    proxy.silent = True
    with pytest.raises(DeadlineError, match=r"connecting to 127.0.0.1 port .*: no byte came through for 2 s"):
        link_through(proxy, server)


@pytest.mark.parametrize("after_bytes", [1, 1500, 2500, 3500])
def test_a_link_that_falls_silent_while_connecting_ends_by_the_stall_deadline(
    proxy: ChaosProxy, server: Sshd, after_bytes: int
) -> None:
    proxy.stall_after = after_bytes
    with pytest.raises(DeadlineError, match="no byte came through"):
        connection_through(proxy, server).close()


def test_a_link_that_falls_silent_before_a_command_ends_by_the_stall_deadline(proxy: ChaosProxy, server: Sshd) -> None:
    link = link_through(proxy, server)
    proxy.stall_after = 0
    with pytest.raises(DeadlineError), link.guard("running true", 60):  # noqa: PT012
        channel = link.open("true")
        channel.read(1)
    link.close()


def test_a_link_that_falls_silent_in_a_write_larger_than_all_buffers_ends(proxy: ChaosProxy, server: Sshd) -> None:
    link = link_through(proxy, server)
    with pytest.raises(DeadlineError, match="no byte came through"), link.guard("writing", 60):  # noqa: PT012
        channel = link.open("cat > /dev/null")
        proxy.stall_after = MIB
        for _ in range(64):
            channel.write(bytes(MIB))
        channel.read(1)
    link.close()


def test_a_quiet_command_on_a_living_link_is_not_taken_for_dead(proxy: ChaosProxy, server: Sshd) -> None:
    link = link_through(proxy, server)
    with link.guard("sleeping", 60):
        channel = link.open("sleep 4.5; echo awake")
        assert channel.read(100) == b"awake\n"
        assert channel.read(100) == b""
    link.close()


def test_a_command_that_never_ends_is_ended_by_the_total_deadline(server: Sshd) -> None:
    link = SshLink(server.device())
    with pytest.raises(DeadlineError, match="not done after 1 s"), link.guard("dripping", 1.0):  # noqa: PT012
        channel = link.open("while true; do echo drip; sleep 0.1; done")
        while channel.read(100):
            pass
    link.close()


def test_a_cut_link_is_lost_and_not_the_end_of_the_output(proxy: ChaosProxy, server: Sshd) -> None:
    link = link_through(proxy, server)
    with pytest.raises(LinkLostError), link.guard("reading", 60):  # noqa: PT012
        channel = link.open("echo one; sleep 60")
        assert channel.read(100) == b"one\n"
        proxy.cut_all()
        channel.read(100)
    link.close()


def test_a_push_that_is_cut_goes_on_where_it_stopped(proxy: ChaosProxy, server: Sshd, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "model", 24 * MIB)
    with connection_through(proxy, server) as connection:
        proxy.cut_after = 12 * MIB
        report = connection.push(path, digest)
        again = connection.push(path, digest)
    assert proxy.connections == 2
    assert report.total_bytes == 24 * MIB
    assert 24 * MIB <= report.sent_bytes < 24 * MIB + 8 * MIB  # what was in flight, no more
    assert again.sent_bytes == 0
    assert (server.home / ".edgeopt" / "objects" / digest).read_bytes() == path.read_bytes()


def test_a_push_over_a_link_that_stalls_goes_on_over_a_new_one(proxy: ChaosProxy, server: Sshd, tmp_path: Path) -> None:
    path, digest = random_file(tmp_path / "model", 24 * MIB)

    def stall_the_first_link(done_bytes: int, total_bytes: int) -> None:
        if done_bytes >= 8 * MIB and proxy.connections == 1:
            proxy.stall_after = 0
            while not proxy.stalled:
                time.sleep(0.01)
            proxy.stall_after = None  # for the next connection

    with connection_through(proxy, server) as connection:
        report = connection.push(path, digest, stall_the_first_link)
    assert (proxy.connections, proxy.stalled) == (2, 1)
    assert (server.home / ".edgeopt" / "objects" / digest).read_bytes() == path.read_bytes()
    assert 24 * MIB <= report.sent_bytes < 40 * MIB


def test_a_request_over_a_cut_link_is_asked_again(proxy: ChaosProxy, server: Sshd) -> None:
    with connection_through(proxy, server) as connection:
        proxy.cut_all()
        assert connection.have(["0" * 64]) == frozenset()
    assert proxy.connections == 2


def test_a_board_that_stays_away_is_reported_as_unreachable(proxy: ChaosProxy, server: Sshd) -> None:
    with connection_through(proxy, server) as connection:
        server.stop()
        proxy.cut_all()
        with pytest.raises((ConnectError, LinkLostError)):
            connection.have(["0" * 64])
