"""The one place where exceptions of sockets and of the SSH library become ours.

Keyed by class name, so that `local` does not load the SSH library; a test enumerates that library's classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt import errors

_KEY_REMEDY = "Put your public key on the device (ssh-copy-id), or name the right one: --identity-file."
_REACH_REMEDY = "Is it switched on, in this network, and is the address right? edgeopt device doctor tells more."
_AGAIN_REMEDY = "What runs on the device goes on; the same command collects it."


@dataclass(frozen=True)
class Failure:
    """What becomes of one class of exception.

    Attributes:
        connecting: Our class while no login has succeeded yet.
        connected: Our class afterwards.
        what: What happened, for the message.
        remedy: What to do.
    """

    connecting: type[errors.EdgeoptError]
    connected: type[errors.EdgeoptError]
    what: str
    remedy: str = _REACH_REMEDY


def _both(kind: type[errors.EdgeoptError], what: str, remedy: str = _REACH_REMEDY) -> Failure:
    return Failure(kind, kind, what, remedy)


_SSH_BROKE = Failure(errors.ConnectError, errors.LinkLostError, "the SSH connection broke")
_WENT_AWAY = Failure(errors.ConnectError, errors.LinkLostError, "the link went away")

FAILURES = {
    # paramiko.ssh_exception
    "SSHException": _SSH_BROKE,
    "MessageOrderError": _both(errors.ProtocolError, "the SSH server sends messages out of order", "Do not trust it."),
    "IncompatiblePeer": _both(errors.ConnectError, "no SSH algorithm in common", "Update the device's SSH server."),
    "AuthenticationException": _both(errors.AuthenticationError, "the device refused the login", _KEY_REMEDY),
    "UnableToAuthenticate": _both(errors.AuthenticationError, "the device refused every key", _KEY_REMEDY),
    "BadAuthenticationType": _both(errors.AuthenticationError, "the device takes no keys", _KEY_REMEDY),
    "PartialAuthentication": _both(errors.AuthenticationError, "the device wants a second factor", _KEY_REMEDY),
    "PasswordRequiredException": _both(
        errors.AuthenticationError, "the private key has a passphrase", "Load it into the agent: ssh-add KEY."
    ),
    "BadHostKeyException": _both(
        errors.ChangedHostKeyError, "the host key is not the pinned one", "Ask who changed it before you trust it."
    ),
    "ChannelException": _both(errors.ConnectError, "the SSH server refused the channel"),
    "ProxyCommandFailure": _both(errors.ConnectError, "the ProxyCommand failed", "Try it by hand."),
    "NoValidConnectionsError": _both(errors.ConnectError, "no address of it answers"),
    "CouldNotCanonicalize": _both(errors.ConnectError, "its name cannot be completed", "Check ~/.ssh/config."),
    "ConfigParseError": _both(errors.DocumentError, "~/.ssh/config does not parse", "Correct it."),
    # the socket's
    "gaierror": _both(errors.ConnectError, "its name is not known"),
    "herror": _both(errors.ConnectError, "its name is not known"),
    "timeout": _both(errors.DeadlineError, "no answer in time", _REACH_REMEDY),
    "TimeoutError": _both(errors.DeadlineError, "no answer in time", _REACH_REMEDY),
    "ConnectionRefusedError": _both(errors.ConnectError, "nothing listens there"),
    "ConnectionResetError": _WENT_AWAY,
    "ConnectionAbortedError": _WENT_AWAY,
    "BrokenPipeError": _WENT_AWAY,
    "EOFError": _WENT_AWAY,
    "OSError": _WENT_AWAY,
}


def translate(error: BaseException, where: str, *, connected: bool) -> errors.EdgeoptError | None:
    """Our error for what a transport raised; ``None`` where it is no error of a transport.

    Args:
        error: The exception.
        where: Device and what was being done, for the message.
        connected: Whether the login had succeeded.
    """
    if isinstance(error, errors.EdgeoptError):
        return error
    for kind in type(error).__mro__:
        failure = FAILURES.get(kind.__name__)
        if failure is not None:
            raised = failure.connected if connected else failure.connecting
            remedy = _AGAIN_REMEDY if connected and raised is errors.LinkLostError else failure.remedy
            said = " ".join(str(error).split())[:200]
            return raised(f"{where}: {failure.what}{f' ({said})' if said else ''}.", remedy=remedy)
    return None
