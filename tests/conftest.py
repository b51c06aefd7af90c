"""Every test has its own edgeopt home and its own board lock, so that none sees the user's or another test's."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

LONG_FILES = "tests/workflow"
LONG_SECONDS = 3600


def pytest_configure() -> None:
    """One thread for torch and NumPy, here and in child processes: tests run on every CPU already."""
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker ends long after the other (`--no-loadscope-reorder`).

    Long tests may take an hour: on a slow or busy machine they would else end at the limit that is for the others.
    """
    items.sort(key=lambda item: LONG_FILES not in item.path.as_posix())
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))


@pytest.fixture(autouse=True, scope="module")
def what_stays_is_not_searched_for_garbage() -> None:
    """A measurement collects garbage first, which would take most of a second beside thousands of tests and torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def edgeopt_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("edgeopt-home")
    monkeypatch.setenv("EDGEOPT_HOME", str(folder))
    monkeypatch.setenv("EDGEOPT_LOCK", str(folder / "board.lock"))
    monkeypatch.delenv("EDGEOPT_FAULT", raising=False)
    monkeypatch.delenv("EDGEOPT_LEDGER", raising=False)
    return folder
