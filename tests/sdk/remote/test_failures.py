from __future__ import annotations

import inspect
import socket

import paramiko
import pytest
from paramiko import ssh_exception

from edgeopt import errors
from edgeopt.remote.failures import FAILURES, translate

LIBRARY = [
    kind for _, kind in inspect.getmembers(ssh_exception, inspect.isclass) if kind.__module__ == ssh_exception.__name__
]
KEY = paramiko.RSAKey.generate(1024)
ARGUMENTS = {
    "BadAuthenticationType": ("no", ["password"]),
    "PartialAuthentication": (["password"],),
    "ChannelException": (2, "connect failed"),
    "BadHostKeyException": ("host", KEY, KEY),
    "ProxyCommandFailure": ("nc", "1"),
    "NoValidConnectionsError": ({("127.0.0.1", 22): OSError("refused")},),
}
SOCKETS = [
    socket.gaierror(-2, "Name or service not known"),
    socket.herror(1, "unknown host"),
    TimeoutError("timed out"),
    ConnectionRefusedError(111, "refused"),
    ConnectionResetError(104, "reset"),
    ConnectionAbortedError(103, "aborted"),
    BrokenPipeError(32, "broken"),
    OSError(113, "No route to host"),
    EOFError(),
]


def test_the_library_has_the_classes_that_we_think() -> None:
    assert len(LIBRARY) >= 13
    assert ssh_exception.SSHException in LIBRARY


@pytest.mark.parametrize("kind", LIBRARY, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_ssh_library_has_its_own_entry(kind: type[Exception]) -> None:
    assert kind.__name__ in FAILURES
    error = kind(*ARGUMENTS.get(kind.__name__, ("said",)))
    for connected in (False, True):
        ours = translate(error, "board: logging in", connected=connected)
        assert isinstance(ours, errors.EdgeoptError)
        assert ours.message.startswith("board: logging in: ")
        assert ours.remedy


@pytest.mark.parametrize("error", SOCKETS, ids=lambda error: type(error).__name__)
def test_every_exception_of_sockets_is_ours(error: Exception) -> None:
    assert type(error).__name__ in FAILURES
    assert isinstance(translate(error, "board", connected=False), (errors.ConnectError, errors.DeadlineError))
    assert isinstance(translate(error, "board", connected=True), errors.DeviceError)


def test_a_broken_connection_is_unknown_when_connected_and_unreachable_before() -> None:
    error = ssh_exception.SSHException("Error reading SSH protocol banner")
    assert type(translate(error, "board", connected=False)) is errors.ConnectError
    assert type(translate(error, "board", connected=True)) is errors.LinkLostError


def test_a_changed_host_key_and_a_refused_login_are_never_retried() -> None:
    for name in ("BadHostKeyException", "AuthenticationException", "PasswordRequiredException"):
        assert not FAILURES[name].connecting.retryable


def test_errors_that_are_not_of_a_transport_stay_what_they_are() -> None:
    assert translate(KeyError("bug"), "board", connected=True) is None
