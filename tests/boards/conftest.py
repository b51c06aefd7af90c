from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import board_models, workflow
from support.board_commands import COMMAND
from support.workflow import Computer, make_computer

_PIP_CACHE = Path.home() / ".cache" / "pip"


@pytest.fixture(scope="session")
def laptop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One computer has all boards, so that it makes every variant once."""
    return tmp_path_factory.mktemp("laptop")


@pytest.fixture(scope="module")
def laptop(laptop_folder: Path) -> Iterator[Computer]:
    environments = Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEOPT_ENVIRONMENTS", os.environ.get("EDGEOPT_ENVIRONMENTS", str(environments)))
        patch.setenv("PIP_CACHE_DIR", os.environ.get("PIP_CACHE_DIR", str(_PIP_CACHE)))
        yield make_computer(laptop_folder, patch)


@pytest.fixture
def edgeopt(laptop: Computer, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """The laptop, again in front of what every test sets by itself."""
    monkeypatch.setenv("EDGEOPT_HOME", str(laptop.edgeopt_home))
    monkeypatch.setattr(workflow, "COMMAND", COMMAND)
    return laptop


@pytest.fixture(scope="session")
def digits_words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words of a deployment of a network that was trained on digits, with samples that it never saw."""
    return board_models.digits_words(tmp_path_factory.mktemp("digits"))
