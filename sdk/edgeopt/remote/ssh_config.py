"""How a device is reached over SSH: its inventory entry, completed by the user's `~/.ssh/config`, as a list of hops.

The SSH library parses the file but applies nothing, and knows no `Include`; both are done here.
"""

from __future__ import annotations

import getpass
import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.device import Device
from edgeopt.errors import DocumentError, UsageError

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_MOST_HOPS = 8
_MOST_INCLUDES = 16


@dataclass(frozen=True)
class Hop:
    """One SSH server on the way.

    Attributes:
        host, port, user: Where, and as whom.
        key_name: Name of its host key in known_hosts.
        identity_files: Private keys to try, in order.
        certificate_files: Certificates for them.
        identities_only: Whether the agent may only help with `identity_files`.
        proxy_command: Command whose stdin and stdout reach it, or ``None``.
    """

    host: str
    port: int
    user: str
    key_name: str
    identity_files: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    proxy_command: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def known_hosts_name(host: str, port: int) -> str:
    """A server's name in known_hosts: the host, in brackets with its port unless that is 22."""
    return host if port == 22 else f"[{host}]:{port}"


def parse_address(address: str) -> tuple[str | None, str, int | None]:
    """User, host and port of ``[user@]host[:port]``; an IPv6 address with a port goes in brackets.

    Raises:
        UsageError: No host, or a port that is no port.
    """
    user, _, rest = address.strip().rpartition("@")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port_text = tail.removeprefix(":")
    elif rest.count(":") > 1:
        host, port_text = rest, ""
    else:
        host, _, port_text = rest.partition(":")
    if not host or host.startswith("-") or (port_text and not 0 < _number(port_text) < 65536):
        raise UsageError(f"{address!r} is not an address.", remedy="Write user@host or user@host:port.")
    return user or None, host, int(port_text) if port_text else None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1


def read_config(path: Path, before: str = "") -> Any:
    """The user's ssh_config with its includes, as `paramiko.SSHConfig`; an empty one where there is no file.

    Args:
        path: The file.
        before: Lines that go before it and so win over it, as the options of a command line do.

    Raises:
        DocumentError: It does not parse.
    """
    import paramiko

    try:
        return paramiko.SSHConfig.from_text("\n".join([before, *_lines(path, [])]))
    except (paramiko.SSHException, OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be used: {error}.", remedy="Correct it.") from None


def _lines(path: Path, seen: list[Path]) -> list[str]:
    if not path.is_file() or path in seen or len(seen) >= _MOST_INCLUDES:
        return []
    seen.append(path)
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.lower() != "include":
            lines.append(line)
            continue
        for pattern in rest.split():
            for name in sorted(glob.glob(str(path.parent / Path(pattern.strip('"')).expanduser()))):
                lines += _lines(Path(name), seen)
    return lines


def config_aliases(path: Path) -> set[str]:
    """Names that `Host` lines of the user's ssh_config give, without patterns."""
    return {name for name in read_config(path).get_hostnames() if not set("*?!").intersection(name)}


def user_config() -> Path:
    """The user's ssh_config."""
    return Path.home() / ".ssh" / "config"


def route(device: Device, config_path: Path | None = None) -> tuple[Hop, ...]:
    """The hops to a device, nearest first; the last is the device.

    Raises:
        DocumentError: ssh_config does not parse.
        UsageError: A jump host is no address, or the hops go round in circles.
    """
    path = config_path or user_config()
    hop, jump = _hop(path, (device.user, device.host, device.port), device.identity_file)
    return (*_jumps(path, jump if device.jump is None else device.jump, 1), hop)


def _jumps(path: Path, jump: str | None, depth: int) -> tuple[Hop, ...]:
    """The hops of a ProxyJump value, with what ssh_config says about reaching the first of them."""
    if not jump or jump.lower() == "none":
        return ()
    if depth > _MOST_HOPS:
        raise UsageError(f"more than {_MOST_HOPS} jump hosts: {jump!r}.", remedy="Does ProxyJump go round in circles?")
    first, *others = [_hop(path, parse_address(address), None) for address in jump.split(",")]
    return (*_jumps(path, first[1], depth + 1), first[0], *(hop for hop, _ in others))


def _hop(path: Path, address: tuple[str | None, str, int | None], identity_file: str | None) -> tuple[Hop, str | None]:
    """A server as ssh_config completes it, and its ProxyJump value."""
    user, alias, port = address
    given = [f"Host {alias}", *([f"Port {port}"] if port else []), *([f"User {user}"] if user else []), "Host *"]
    found = read_config(path, "\n".join(given)).lookup(alias)
    host = found.get("hostname", alias)
    number = _number(found.get("port", "22"))
    if not 0 < number < 65536:
        raise DocumentError(f"{path}: the port of {alias} is {found['port']!r}.", remedy="Correct it.")
    alias_name = found.get("hostkeyalias")
    command = found.get("proxycommand")
    hop = Hop(
        host=host,
        port=number,
        user=found.get("user") or getpass.getuser(),
        key_name=alias_name or known_hosts_name(host, number),
        identity_files=_identities(found, identity_file),
        certificate_files=_certificates(found.get("certificatefile", [])),
        identities_only=identity_file is not None or found.get("identitiesonly", "no").lower() == "yes",
        proxy_command=None if command in (None, "none") else command,
    )
    return hop, found.get("proxyjump")


def _certificates(value: str | list[str]) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value  # the library keeps the first of several
    return tuple(str(Path(name).expanduser()) for name in names)


def _identities(found: Any, identity_file: str | None) -> tuple[str, ...]:
    if identity_file is not None:
        return (str(Path(identity_file).expanduser()),)
    configured = [str(Path(name).expanduser()) for name in found.get("identityfile", ())]
    return tuple(configured or [str(Path.home() / ".ssh" / name) for name in _DEFAULT_KEYS])
