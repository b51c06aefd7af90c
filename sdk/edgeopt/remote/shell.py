"""Runs a script in the login's shell of a device: for the little that is done there outside the runner's root."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgeopt.errors import ProtocolError
from edgeopt.remote.link import Link
from edgeopt.remote.untrusted import clean_text, one_line

_MOST_BYTES = 64 << 10
_MARK = "@@edgeopt ended "
_END = re.compile(re.escape(_MARK) + r"(\d{1,3})\s*\Z")


@dataclass(frozen=True)
class Said:
    """What a script did.

    Attributes:
        status: Its exit status.
        text: What it printed, control characters away.
        errors: The last of what it printed on stderr, on one line.
    """

    status: int
    text: str
    errors: str


def run(link: Link, script: str, deadline_seconds: float) -> Said:
    """Run a POSIX shell script on a device.

    Args:
        link: The device.
        script: Statements of sh; ends with the status of the last.
        deadline_seconds: Time allowed.

    Raises:
        ProtocolError: The login runs no commands, or prints too much.
        LinkLostError: The link went away or fell silent.
    """
    whole = f"( {script}\n) </dev/null; echo; echo '{_MARK}'$?"
    said = b""
    with link.guard("running a command", deadline_seconds):
        channel = link.open(f"exec /bin/sh -c {shlex.quote(whole)}")
        try:
            while chunk := channel.read(4096):
                said += chunk
                if len(said) > _MOST_BYTES:
                    raise ProtocolError(f"{link.name}: a command printed more than {_MOST_BYTES} bytes.")
            errors = channel.stderr_tail
        finally:
            channel.close()
    text = said.decode("utf-8", "replace")
    end = _END.search(text)
    if end is None:
        raise ProtocolError(
            f"{link.name}: the login does not run commands; it said {one_line(text) or one_line(errors)!r}.",
            remedy="Is it restricted to the runner? Then log in with another key for this.",
        )
    return Said(int(end[1]), clean_text(text[: end.start()]).strip(), one_line(errors))
