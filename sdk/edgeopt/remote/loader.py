"""Puts the runner on a device and starts it in one round trip: a shell line finds Python, `device_loader` goes on.

Needs of the device: a POSIX shell and Python >= 3.6. No sftp, no scp, no executable files, nothing in /tmp.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import lzma
import shlex
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.device import Device
from edgeopt.documents import write_atomically
from edgeopt.errors import DeadlineError, ProtocolError, ProvisionError, RemoteDiskError
from edgeopt.remote import device_loader
from edgeopt.remote.bundle import Bundle
from edgeopt.remote.link import Channel, Link
from edgeopt.remote.session import next_frame
from edgeopt.remote.untrusted import checked, field, one_line
from edgeopt_runner.protocol import frames

FIRST_FRAME_SECONDS = 20.0
_START_SECONDS = 60.0
_NEWEST_MINOR, _OLDEST_MINOR = 15, 6
_MARK = "@@edgeopt"
_Change = Callable[[bytes], bytes]
_PACKERS: Mapping[str, tuple[_Change, _Change]] = {
    "zlib": (functools.partial(zlib.compress, level=9), zlib.decompress),
    "lzma": (functools.partial(lzma.compress, preset=9), lzma.decompress),
}
_ONE_PACKER = threading.Lock()
"""Threads that connect at once would each compress it, for half a second: a cache alone does not make them wait."""


# The login shell may be any; `exec /bin/sh -c` with one quoted word is the same in all of them. An interpreter that
# is too old or does not work ends with a failure, one that took over with success or by a signal (above 128).
_FIND_PYTHON = (
    "code=$1; root=$2; digest=$3; size=$4; small=$5; shift 5; "
    'for name in "$@"; do path=$(command -v "$name") || continue; '
    '"$path" -I -c "import base64,sys;sys.version_info<(3,6)and sys.exit(1);exec(base64.b64decode(sys.argv[1]))" '
    '"$code" "$root" "$digest" "$size" "$small" && exit; [ $? -le 127 ] || exit; '
    'version=$("$path" -E -s -c "import sys;print(list(sys.version_info[:3]))" 2>&1); '
    f'echo "{_MARK} found $path $version"; done; '
    f'echo "{_MARK} nothing on $(uname -s -m)"; exit 127'
)


@dataclass(frozen=True)
class Placed:
    """The runner on a device.

    Attributes:
        python: The interpreter that runs it.
        version: Of the interpreter, for example ``3.8.10``.
        bundle: Path of the bundle there.
        root: The runner's root there, absolute.
        noise: What the login printed before the runner spoke.
        clock_skew_seconds: The device's wall clock minus ours.
    """

    python: str
    version: str
    bundle: str
    root: str
    noise: str
    clock_skew_seconds: float

    def command(self, *arguments: str) -> str:
        """A command line that runs the bundle there."""
        return "exec " + shlex.join([self.python, "-I", self.bundle, *arguments])


def start(link: Link, device: Device, bundle: Bundle) -> tuple[Placed, Channel, frames.FrameReader]:
    """Place the runner on the device if it is not there, and start `serve`.

    Returns:
        What was placed where, and the channel of `serve` with its reader.

    Raises:
        ProvisionError: No Python >= 3.6 there.
        RemoteDiskError: The root cannot be written, or the disk is full.
        ProtocolError: The login prints things but never starts the runner.
        LinkLostError: The link went away.
    """
    where = f"{device.name}: starting the runner"
    with link.guard("starting a command", _START_SECONDS):
        channel = link.open(_command(device, bundle))
    reader = frames.FrameReader(channel.read)
    first = _first_frame(link, channel, reader, where)
    skew_seconds = field(_sound(first, where), "time", float, where) - time.time()
    with link.guard("placing the runner", _START_SECONDS):
        if not field(first, "have", bool, where):
            channel.write(packed(bundle)["lzma" if first.get("packing") == "lzma" else "zlib"])
        _sound(next_frame(reader, channel, where), where)
    return _placed(first, reader, skew_seconds, where), channel, reader


def failure_of(document: dict[str, Any], where: str) -> RemoteDiskError:
    """Our error for what the loader could not do."""
    code, message = str(document.get("error")), one_line(str(document.get("message")))
    remedy = "Choose a folder that the login may write, with room: edgeopt device add ... --root FOLDER."
    return RemoteDiskError(f"{where}: {message}{f' ({code})' if code else ''}.", remedy=remedy)


def _sound(document: dict[str, Any], where: str) -> dict[str, Any]:
    if "error" in document:
        raise failure_of(document, where)
    return document


def packed(bundle: Bundle) -> dict[str, bytes]:
    """The bundle as it travels, by the device's library for it: in one piece, which is a quarter of it or less."""
    with _ONE_PACKER:
        return _packed(bundle)


@functools.lru_cache(maxsize=4)
def _packed(bundle: Bundle) -> dict[str, bytes]:
    data = bundle.path.read_bytes()
    return {name: _kept(bundle.path.with_suffix(f".{name}"), data, *ways) for name, ways in _PACKERS.items()}


def _kept(path: Path, data: bytes, pack: _Change, unpack: _Change) -> bytes:
    """The bundle packed, from beside it where an earlier process left it whole."""
    with contextlib.suppress(OSError, zlib.error, lzma.LZMAError):
        kept = path.read_bytes()
        if unpack(kept) == data:
            return kept
    made = pack(data)
    with contextlib.suppress(OSError):
        write_atomically(path, made)
    return made


def _command(device: Device, bundle: Bundle) -> str:
    code = base64.b64encode(Path(device_loader.__file__).read_bytes()).decode()
    arguments = [
        code,
        device.root,
        bundle.digest,
        *(str(len(data)) for data in packed(bundle).values()),
        *_candidates(device),
    ]
    return f"exec /bin/sh -c {shlex.quote(_FIND_PYTHON)} edgeopt {shlex.join(arguments)}"


def _candidates(device: Device) -> Sequence[str]:
    """Interpreters to try: the device's own `python3` first, since the vendor's packages belong to it."""
    if device.python:
        return (device.python,)
    if device.transport == "local":
        return (sys.executable,)
    minors = range(_NEWEST_MINOR, _OLDEST_MINOR - 1, -1)
    return ("python3", *(f"python3.{minor}" for minor in minors), "python")


def _first_frame(link: Link, channel: Channel, reader: frames.FrameReader, where: str) -> dict[str, Any]:
    started, document = time.monotonic(), None
    try:
        with link.guard("waiting for the runner", FIRST_FRAME_SECONDS):
            document = reader.next()
    except frames.FrameError as error:
        raise ProtocolError(f"{where}: {error}.") from None
    except DeadlineError:
        if time.monotonic() - started < FIRST_FRAME_SECONDS or not reader.noise.strip():
            raise  # the link is silent, not the login
    if document is not None:
        first: dict[str, Any] = checked(document, where)
        return first
    noise = reader.noise.decode("utf-8", "replace")
    if _MARK in noise:
        raise _no_python(noise, where)
    said = one_line(noise) or one_line(channel.stderr_tail) or "nothing"
    raise ProtocolError(
        f"{where}: the login printed {said!r} and did not start the runner.",
        remedy="Does the account have a normal shell, and no forced command?",
    )


def _no_python(noise: str, where: str) -> ProvisionError:
    lines = [one_line(line).removeprefix(_MARK).strip() for line in noise.splitlines() if line.startswith(_MARK)]
    found = "; ".join(line.removeprefix("found ") for line in lines if line.startswith("found ")) or "none"
    system = next((line.removeprefix("nothing on ") for line in lines if line.startswith("nothing on ")), "it")
    return ProvisionError(
        f"{where}: no Python 3.6 or newer on {system} (found: {found}).",
        remedy="Install python3 there, or name an interpreter: edgeopt device add ... --python PATH.",
    )


def _placed(first: dict[str, Any], reader: frames.FrameReader, skew_seconds: float, where: str) -> Placed:
    version = field(first, "version", list, where)
    return Placed(
        python=field(first, "python", str, where),
        version=".".join(str(part) for part in version[:3]),
        bundle=field(first, "bundle", str, where),
        root=field(first, "root", str, where),
        noise=one_line(reader.noise.decode("utf-8", "replace"), 2000),
        clock_skew_seconds=skew_seconds,
    )
