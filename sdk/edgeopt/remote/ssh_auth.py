"""Logging in: keys named by the user, certificates, the agent, each offered once and in a stated order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import paramiko

from edgeopt.errors import AuthenticationError
from edgeopt.remote.ssh_config import Hop

_AGENT_SECONDS = 5.0
_MOST_KEYS = 5
"""OpenSSH drops a client after 6 failures (MaxAuthTries); one is kept in reserve."""

T = TypeVar("T")


def authenticate(transport: paramiko.Transport, hop: Hop, *, device: str) -> None:
    """Log in with the first key that the server takes.

    Args:
        transport: After key exchange and after the host key was verified.
        hop: Whom to log in as, and with what.
        device: The device's name, for messages.

    Raises:
        AuthenticationError: Every key was refused, or there was none to offer.
    """
    problems: list[str] = []
    for number, (label, key) in enumerate(_keys(hop, problems)):
        if number == _MOST_KEYS:
            problems.append(f"further keys not offered (at most {_MOST_KEYS})")
            break
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType as error:
            raise AuthenticationError(
                f"{device}: {hop} takes only {', '.join(error.allowed_types)}, no keys.",
                remedy=f"Let it take public keys, and copy yours there: ssh-copy-id {hop.user}@{hop.host}",
            ) from error
        except paramiko.AuthenticationException as error:
            problems.append(f"{label}: {_said(error)}")
        else:
            if transport.is_authenticated():
                return
            problems.append(f"{label}: accepted, but the server wants another factor")
    raise AuthenticationError(
        f"{device}: {hop} refused the login ({'; '.join(problems) or 'there was no key to offer'}).",
        remedy=f"Copy your key there: ssh-copy-id {hop.user}@{hop.host}; or name another: --identity-file.",
    )


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "refused" if text in ("", "Authentication failed.") else text


def _keys(hop: Hop, problems: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """Keys to offer, most specific first; what could not be read goes to `problems`."""
    agent_keys = _agent_keys(problems)
    from_agent = {key.asbytes(): key for key in agent_keys}
    used: set[bytes] = set()
    for name in hop.identity_files:
        if not Path(name).is_file():
            if hop.identities_only:
                problems.append(f"{name}: no such file")
            continue
        for key in _file_keys(name, hop.certificate_files, from_agent, problems):
            used.add(key.asbytes())
            yield name, key
    if not hop.identities_only:
        for blob, key in from_agent.items():
            if blob not in used:
                yield f"agent key {key.comment or key.get_name()}", key


def _file_keys(
    name: str, certificates: tuple[str, ...], from_agent: dict[bytes, paramiko.AgentKey], problems: list[str]
) -> Iterator[paramiko.PKey]:
    """The key of a file, with its certificates first; the agent's copy where the file has a passphrase."""
    try:
        key = paramiko.PKey.from_path(name)
    except (paramiko.PasswordRequiredException, TypeError):
        twin = _agent_twin(name, from_agent)
        if twin is not None:
            yield twin
        else:
            problems.append(f"{name} has a passphrase and is not in the agent (ssh-add {name})")
        return
    except (paramiko.SSHException, paramiko.pkey.UnknownKeyType, OSError, ValueError) as error:
        problems.append(f"{name} cannot be read: {_said(error)}")
        return
    for certificate in (*certificates, f"{name}-cert.pub"):
        if Path(certificate).is_file():
            with contextlib.suppress(ValueError, paramiko.SSHException):
                certified = paramiko.PKey.from_path(name)
                certified.load_certificate(certificate)
                yield certified
    key.public_blob = None
    yield key


def _agent_twin(name: str, from_agent: dict[bytes, paramiko.AgentKey]) -> paramiko.AgentKey | None:
    """The agent's key that belongs to a private key file, told by the public half beside it."""
    with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
        blob = paramiko.pkey.PublicBlob.from_file(f"{name}.pub").key_blob
        return from_agent.get(blob)
    return None


def _agent_keys(problems: list[str]) -> tuple[paramiko.AgentKey, ...]:
    try:
        return within(_AGENT_SECONDS, lambda: paramiko.Agent().get_keys()) or ()
    except TimeoutError:
        problems.append(f"the agent did not answer within {_AGENT_SECONDS:g} s")
    except (paramiko.SSHException, OSError) as error:
        problems.append(f"the agent failed: {_said(error)}")
    return ()


def within(seconds: float, call: Callable[[], T]) -> T:
    """Result of a call that cannot be interrupted; left behind in a thread of its own where it hangs.

    Raises:
        TimeoutError: It did not end in time.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="edgeopt-bounded", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"not done after {seconds:g} s")
    return outcome[0]
