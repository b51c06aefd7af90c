"""The board's own files (`/proc`, `/sys`, `/etc`) and commands, where everything may be absent.

One small class, so that the parsers can be run on a folder with the captured files of another board.
"""

import glob
import os
import re
import subprocess
from typing import List, Optional, Sequence

_COMMAND_SECONDS = 2
_MORE_PATH = ":/usr/sbin:/sbin:/opt/vc/bin"
"""Where `nvpmodel` and older systems' `vcgencmd` are; a login that is not root's need not look there."""

_READ_BYTES = 1 << 20
_USUAL_BYTES = 1 << 13
"""Nearly every such file is smaller; room for the largest takes longer to get than the file to read."""

_INTEGER = re.compile(r"-?[0-9]{1,18}\Z")
_DEVICE_TREES = ("/sys/firmware/devicetree/base/", "/proc/device-tree/")
"""The first is the only one that can be shown inside a container."""


def integer(text: Optional[str]) -> Optional[int]:
    """A decimal number that fits 64 bits; ``None`` for anything else, where `int` would take more or fail."""
    return int(text) if text is not None and _INTEGER.match(text) else None


class Board:
    """Reads a board's files.

    Args:
        prefix: Put before every path; a folder with captured files, or nothing for the board itself. What a command
            printed there lies in its folder ``commands``, in a file named after the first two words.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix.rstrip("/")

    def read(self, path: str) -> Optional[str]:
        """Text of a file without NULs and outer blanks; ``None`` where it is absent or may not be read."""
        text = self._text(path)
        return None if text is None else text.replace("\0", "").strip()

    def _text(self, path: str) -> Optional[str]:
        try:
            with open(self._prefix + path, "rb") as stream:
                data = stream.read(_USUAL_BYTES)
                if len(data) == _USUAL_BYTES:
                    data += stream.read(_READ_BYTES - _USUAL_BYTES)
                return data.decode("utf-8", "replace")
        except OSError:
            return None

    def tree(self, name: str) -> List[str]:
        """The strings of a property of the device tree's root; none without a device tree."""
        texts = (self._text(folder + name) for folder in _DEVICE_TREES)
        text = next((text for text in texts if text), "")
        return [part.strip() for part in text.split("\0") if part.strip()]

    def number(self, path: str) -> Optional[int]:
        """Integer in a file; ``None`` where it is absent or holds something else."""
        return integer(self.read(path))

    def glob(self, pattern: str) -> List[str]:
        """Paths that match a pattern, sorted."""
        return sorted(path[len(self._prefix) :] for path in glob.glob(self._prefix + pattern))

    def names(self, folder: str) -> List[str]:
        """Names in a folder, sorted; none where it is absent."""
        try:
            return sorted(os.listdir(self._prefix + folder))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(self._prefix + path)

    def command(self, arguments: Sequence[str], whatever: bool = False) -> Optional[str]:
        """Output of a command; ``None`` where it is absent or hangs.

        Args:
            arguments: The command line.
            whatever: Take what it printed though it failed or would never end, with what it printed to stderr.
        """
        if self._prefix:
            return self.read("/commands/" + " ".join(arguments[:2]).replace("/", "|"))
        try:
            done = subprocess.run(
                list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if whatever else subprocess.DEVNULL, timeout=_COMMAND_SECONDS,
                env=dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "/usr/bin:/bin") + _MORE_PATH),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            printed, failed = error.output, True
        except (OSError, subprocess.SubprocessError):
            return None
        else:
            printed, failed = done.stdout, done.returncode != 0
        return None if failed and not whatever else (printed or b"")[:_READ_BYTES].decode("utf-8", "replace").strip()


THIS = Board()
"""The board that this code runs on."""
