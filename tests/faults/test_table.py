"""The table of faults names tests that exist, and no fault is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("README.md")
REPOSITORY = Path(__file__).parents[2]
FAULTS = 54


def rows() -> list[list[str]]:
    """Number, fault, tests and remark of each line."""
    lines = [line for line in TABLE.read_text().splitlines() if re.match(r"\| [0-9]+ \|", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def names_in(path: str) -> frozenset[str]:
    """Names of the tests in a file; none where it is not there."""
    file = REPOSITORY / path
    parsed = ast.parse(file.read_text() if file.is_file() else "")
    found = (node.name for node in parsed.body if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_fault_has_a_line_and_a_test() -> None:
    assert [row[0] for row in rows()] == [str(number) for number in range(1, FAULTS + 1)]
    assert not [row[0] for row in rows() if len(row) != 4 or "::test_" not in row[2]]


def test_every_test_that_is_named_exists() -> None:
    named = {name for row in rows() for name in re.findall(r"`([^`]+)`", row[2])}
    assert len(named) > FAULTS
    assert not sorted(name for name in named if name.partition("::")[2] not in names_in(name.partition("::")[0]))
