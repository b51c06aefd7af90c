"""The command line in this process, as a user meets it: exit code, what is on stdout, what is on stderr."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from edgeopt.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and its words with the lines of a wrapped message joined."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON document of a command that failed under `--json`."""
        found: dict[str, Any] = json.loads(self.stdout)["error"]
        return found


class Command:
    """Runs `edgeopt WORDS...` in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: str) -> Outcome:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(words))
        found = self._capture.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Outcome(code, found.out, found.err)
