"""The hardware that this disk was enrolled in: a clone of it, or the disk in another board, is told from the board.

A disk that finds itself elsewhere goes on: whoever changes a broken board for another one wants that. It is told with
every poll and every report, since two boards with one name and one key are one board to everybody else.
"""

import os
from typing import Any, Dict

from edgeopt_runner import hardware, storage
from edgeopt_runner.agent import settings
from edgeopt_runner.protocol import hardware as marks

MOVED = "this disk was enrolled in other hardware: a clone, or moved here; on the host: edgeopt device enrol NAME"
_NAME = "hardware.json"


def note(root: str) -> None:
    """Remember the hardware that this is, as that of the enrolment."""
    storage.write_json(os.path.join(settings.folder(root), _NAME), {"marks": hardware.marks()})


def hardware_here(root: str) -> Dict[str, Any]:
    """For reports: ``marks`` of the hardware and whether the disk was ``moved`` to it."""
    return {"marks": hardware.marks(), "moved": moved(root)}


def moved(root: str) -> bool:
    """Whether this is surely other hardware than at the enrolment; where that was not noted, it is from now on."""
    known = storage.read_json(os.path.join(settings.folder(root), _NAME))
    if not known:
        note(root)
    return marks.same(marks.marks_in(known.get("marks")), hardware.marks()) is False
