"""Every test has its own edgeopt home and its own board lock, so that none sees the user's or another test's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def edgeopt_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("edgeopt-home")
    monkeypatch.setenv("EDGEOPT_HOME", str(folder))
    monkeypatch.setenv("EDGEOPT_LOCK", str(folder / "board.lock"))
    monkeypatch.delenv("EDGEOPT_FAULT", raising=False)
    monkeypatch.delenv("EDGEOPT_LEDGER", raising=False)
    return folder
