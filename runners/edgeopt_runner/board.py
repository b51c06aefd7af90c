"""The board's own files (`/proc`, `/sys`, `/etc`) and commands, where everything may be absent.

One small class, so that the parsers can be run on a folder with the captured files of another board.
"""

import glob
import os
import subprocess
from typing import List, Optional, Sequence

_COMMAND_SECONDS = 2


class Board:
    """Reads a board's files.

    Args:
        prefix: Put before every path; a folder with captured files, or nothing for the board itself.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix.rstrip("/")

    def read(self, path: str) -> Optional[str]:
        """Text of a file without NULs and outer blanks; ``None`` where it is absent or may not be read."""
        try:
            with open(self._prefix + path, "rb") as stream:
                return stream.read().decode("utf-8", "replace").replace("\0", "").strip()
        except OSError:
            return None

    def number(self, path: str, base: int = 10) -> Optional[int]:
        """Integer in a file; ``None`` where it is absent or holds something else."""
        text = self.read(path)
        try:
            return int(text, base) if text else None
        except ValueError:
            return None

    def glob(self, pattern: str) -> List[str]:
        """Paths that match a pattern, sorted."""
        return sorted(path[len(self._prefix) :] for path in glob.glob(self._prefix + pattern))

    def names(self, folder: str) -> List[str]:
        """Names in a folder, sorted; none where it is absent."""
        try:
            return sorted(os.listdir(self._prefix + folder))
        except OSError:
            return []

    def command(self, arguments: Sequence[str]) -> Optional[str]:
        """Output of a command; ``None`` where it is absent, fails or hangs, and for captured files."""
        if self._prefix:
            return None
        try:
            done = subprocess.run(
                list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                timeout=_COMMAND_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


THIS = Board()
"""The board that this code runs on."""
