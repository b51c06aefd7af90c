"""A variant is kept under the code that made it: a change of a pass, or of what passes stand on, makes it anew."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from edgeopt.passes.tools import code_digest, tool_versions

HERE = "plugin_of_the_tests"


def digest_of(folder: Path) -> str:
    code_digest.cache_clear()
    found = code_digest(frozenset({HERE}))
    assert re.fullmatch("[0-9a-f]{12}", found), folder
    return found


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of passes that can be imported, with code, locked versions and something that is neither."""
    folder = tmp_path / HERE
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "inner" / "half.py").write_text("RATIO = 0.5\n")
    (folder / "locked.txt").write_text("tool==1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, HERE, raising=False)
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [("inner/half.py", "RATIO = 0.25\n"), ("locked.txt", "tool==1.1\n"), ("another.py", "")],
    ids=["code", "locked versions", "a new file"],
)
def test_what_the_bytes_depend_on_changes_the_digest(plugin: Path, name: str, text: str) -> None:
    before = digest_of(plugin)
    (plugin / name).write_text(text)
    assert digest_of(plugin) != before


def test_what_they_do_not_depend_on_leaves_it(plugin: Path) -> None:
    before = digest_of(plugin)
    (plugin / "readme.md").write_text("words")
    (plugin / "inner" / "half.pyc").write_bytes(b"compiled")
    assert digest_of(plugin) == before


def test_a_moved_file_is_other_code(plugin: Path) -> None:
    before = digest_of(plugin)
    shutil.move(plugin / "inner" / "half.py", plugin / "half.py")
    assert digest_of(plugin) != before


def test_a_package_that_is_not_there_changes_nothing(plugin: Path) -> None:
    code_digest.cache_clear()
    both = code_digest(frozenset({HERE, "no_such_package.inner"}))
    assert both == digest_of(plugin)


def test_the_version_of_edgeopt_names_its_code() -> None:
    assert re.fullmatch(re.escape(version("edgeopt")) + r"\+[0-9a-f]{12}", tool_versions()["edgeopt"])
