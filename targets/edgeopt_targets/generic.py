"""Any computer that no other target knows: what its runtimes can do is left to its own measurements."""

from __future__ import annotations

from typing import ClassVar

from edgeopt_targets.board import Board


class Generic(Board):
    """The target of the profile ``generic``."""

    name: ClassVar[str] = "generic"
