"""Choosing boards by words: `region=north,tier!=canary`, `site in (oslo, bergen)`, `profile=pi5`, `name=press-*`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeopt.core.fleet import Board
from edgeopt.errors import UsageError

_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_TERM = re.compile(
    rf"(?P<key>{_KEY})\s*(?:(?P<sign>!?=)\s*(?P<value>[^=,()!]*)|(?P<word>(?:not\s*)?in)\s*\((?P<list>[^()]*)\))"
)
_OWN: dict[str, Callable[[Board], str]] = {
    "name": lambda board: board.name,
    "profile": lambda board: board.profile,
    "site": lambda board: board.site,
}
_REMEDY = (
    "Write terms like region=north, tier!=canary, site in (oslo,bergen), name=press-* or all, with commas between."
)


@dataclass(frozen=True)
class _Term:
    key: str
    values: tuple[str, ...]
    negated: bool

    def holds(self, board: Board) -> bool:
        found = _values(board, self.key)
        hit = any(fnmatch.fnmatchcase(have, want) for have in found for want in self.values)
        return hit != self.negated


def _values(board: Board, key: str) -> tuple[str, ...]:
    if key in _OWN:
        return (_OWN[key](board),)
    if key in board.device.labels:
        return (board.device.labels[key],)
    if key == "label":  # `label=shop`: boards that bear that word, as a label's name or as its value
        return (*board.device.labels, *board.device.labels.values())
    return ()


def select_boards(boards: Sequence[Board], selector: str) -> tuple[Board, ...]:
    """Boards that fit every term of a selector, in their order.

    Args:
        boards: All there are.
        selector: Terms with commas between (and). Values are patterns with ``*``; a bare word is a name. ``label=WORD``
            fits boards with a label of that name or value.

    Raises:
        UsageError: It is no selector, names a label that no board has, or no board fits.
    """
    terms = _parse(selector)
    for term in terms:
        _check_key(boards, term.key)
    chosen = tuple(board for board in boards if all(term.holds(board) for term in terms))
    if not chosen:
        tail = _there_is(boards, terms) if boards else "The inventory is empty."
        raise UsageError(f"no board fits {selector!r}.", remedy=tail)
    return chosen


def _parse(selector: str) -> tuple[_Term, ...]:
    parts = [part.strip() for part in re.split(r",(?![^()]*\))", selector)]
    if not all(parts):
        raise UsageError(f"{selector!r} is no selector.", remedy=_REMEDY)
    return tuple(_term(part, selector) for part in parts if part != "all")


def _term(text: str, selector: str) -> _Term:
    if re.fullmatch(r"[A-Za-z0-9*?._@-]+", text):
        return _Term("name", (text,), False)
    found = _TERM.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} in the selector {selector!r} is no term.", remedy=_REMEDY)
    if found["sign"]:
        return _Term(found["key"], (found["value"].strip(),), found["sign"] == "!=")
    values = tuple(value.strip() for value in found["list"].split(",") if value.strip())
    if not values:
        raise UsageError(f"{text!r} in the selector {selector!r} names nothing.", remedy=_REMEDY)
    return _Term(found["key"], values, found["word"] != "in")


def _check_key(boards: Sequence[Board], key: str) -> None:
    known = sorted({label for board in boards for label in board.device.labels})
    if boards and key not in _OWN and key not in known and not (key == "label" and known):
        there = ", ".join(known) or "none"
        raise UsageError(f"no board has a label {key!r}.", remedy=f"Labels: {there}; and profile, site, name.")


def _there_is(boards: Sequence[Board], terms: Iterable[_Term]) -> str:
    said = []
    for key in dict.fromkeys(term.key for term in terms):
        values = sorted({value for board in boards for value in _values(board, key) if value})
        shown = ", ".join(values[:12]) + (f" and {len(values) - 12} more" if len(values) > 12 else "")
        said.append(f"{key} is one of: {shown or 'nothing'}.")
    return " ".join(said)
