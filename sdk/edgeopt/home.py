"""Where edgeopt keeps things on the user's computer: artifacts, ledger, inventory, pinned host keys, runs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$EDGEOPT_HOME`, else `$XDG_DATA_HOME/edgeopt`, else `~/.local/share/edgeopt`; not created here."""
    explicit = os.environ.get("EDGEOPT_HOME")
    if explicit:
        return Path(explicit).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "edgeopt"
