"""Boards that are one by name or key, and by their hardware two: clones of a disk, and who took another's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeopt.core.sighting import Sighting
from edgeopt.remote.hostkeys import twin_words
from edgeopt_runner.protocol.hardware import same

ANOTHER = "by its hardware this is another board than the last time: replaced, or a clone of its disk under its name"


def clone_notes(
    now: Sequence[Sighting], before: Mapping[str, Sighting], alike: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """What an operator should know of each board's identity.

    Args:
        now: Every board as it was seen now.
        before: By name, as they were seen before that.
        alike: By name, the others with the same host key.
    """
    marks = {one.board: one.hardware for one in now}
    notes = {}
    for one in now:
        earlier = before.get(one.board)
        changed = earlier is not None and same(earlier.hardware, one.hardware) is False
        others = alike.get(one.board, ())
        words = [twin_words(others, _all_same(marks, one.board, others))] if others else []
        notes[one.board] = (*words, *[ANOTHER] * changed)
    return notes


def _all_same(marks: Mapping[str, tuple[str, ...]], name: str, others: Sequence[str]) -> bool | None:
    """Whether a board and its twins have one hardware; one that surely has another decides."""
    found = {same(marks[name], marks.get(other, ())) for other in others}
    return False if False in found else None if None in found else True
