from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.device import fresh_computer, pin
from support.sshd import Sshd, running_sshd


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's computer: its home folder."""
    return fresh_computer(tmp_path, monkeypatch)


@pytest.fixture
def server(computer: Path, tmp_path: Path) -> Iterator[Sshd]:
    """A healthy board whose host key is pinned."""
    environment = {"EDGEOPT_LOCK": str(tmp_path / "board.lock")}
    with running_sshd(tmp_path / "board", environment=environment) as running:
        pin(running)
        yield running
