"""Converters' environments are made once for all tests of this computer, by the mechanism that users get."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _environments(monkeypatch: pytest.MonkeyPatch) -> None:
    if "EDGEOPT_ENVIRONMENTS" not in os.environ:
        folder = Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}")
        monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(folder))
