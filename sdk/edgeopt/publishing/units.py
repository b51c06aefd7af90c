"""Text of what starts the pull agent on a board: a systemd service with its timer, or a line for cron. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgeopt.errors import UsageError

NAME = "edgeopt-agent"
_SPAN = re.compile(r"(\d{1,6})\s*(s|m|h|d|sec|min)?")
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, None: 60, "h": 3600, "d": 86400}
_LEAST_SECONDS, _MOST_SECONDS = 60, 7 * 86400


@dataclass(frozen=True)
class Start:
    """How the agent is started on a board.

    Attributes:
        python: Interpreter there.
        bundle: The runner's bundle there, by a path that stays.
        root: The runner's root there.
        every_seconds: Between polls.
    """

    python: str
    bundle: str
    root: str
    every_seconds: int

    @property
    def words(self) -> tuple[str, ...]:
        """The command."""
        return (self.python, "-I", self.bundle, "pull", "--root", self.root, "--once")


def span_of(text: str) -> int:
    """Seconds of ``30m``, ``90s``, ``6h``; a bare number is minutes.

    Raises:
        UsageError: It is none, or not from a minute to a week.
    """
    match = _SPAN.fullmatch(text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        raise UsageError(f"--every {text!r} cannot be used.", remedy="Give a time from 1m to 7d: --every 30m.")
    return seconds


def service(start: Start) -> str:
    """The service unit: one poll, at low priority, ended when it takes longer than six hours."""
    return f"""[Unit]
Description=edgeopt: look for model releases
Documentation=https://pypi.org/project/edgeopt/
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={" ".join(_quoted(word) for word in start.words)}
# an update goes on by itself when the poll ends or is ended
KillMode=process
TimeoutStartSec=6h
SuccessExitStatus=4
Nice=10
NoNewPrivileges=yes
PrivateTmp=yes
"""


def timer(start: Start) -> str:
    """The timer unit: spread over a tenth of the time between polls, and soon after boot."""
    return f"""[Unit]
Description=edgeopt: look for model releases every {start.every_seconds} s

[Timer]
OnBootSec=2min
OnUnitInactiveSec={start.every_seconds}s
RandomizedDelaySec={max(1, start.every_seconds // 10)}s
AccuracySec=10s

[Install]
WantedBy=timers.target
"""


def cron_line(start: Start) -> str:
    """A line for crontab, at the nearest whole number of minutes or hours that cron can say."""
    minutes = max(1, start.every_seconds // 60)
    when = f"*/{minutes} * * * *" if minutes < 60 else f"0 */{min(23, minutes // 60)} * * *"
    command = shlex.join(start.words).replace("%", r"\%")
    return f"{when} {command} >/dev/null 2>&1"


def _quoted(word: str) -> str:
    """A word for ExecStart, in which ``%``, ``$`` and quotes mean something."""
    if any(character < " " or character == "\x7f" for character in word):
        raise UsageError(f"{word!r} cannot stand in a systemd unit.", remedy="Choose another root on the board.")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[^A-Za-z0-9_@%+=:,./$-]", word) else escaped
