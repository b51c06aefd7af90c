"""How far a run is: its stages, what it said last, and what it is at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: For example ``Measuring``.
        total: Its steps; 0 where their number is not known.
        done: How many of them are.
    """

    name: str
    total: int
    done: int = 0


@dataclass(frozen=True)
class Line:
    """Something that was said.

    Attributes:
        at: Seconds since the epoch.
        text: A step that was done, or a note.
    """

    at: float
    text: str


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        stages: In order, since the run was begun or taken up again; the last is at work.
        lines: The newest steps and notes, in order.
        detail: What the current step is at; empty where nothing was said since the last step.
        steps: How many steps were done since then.
        begun: How often the run was begun or taken up again.
    """

    stages: tuple[Stage, ...] = ()
    lines: tuple[Line, ...] = ()
    detail: str = ""
    steps: int = 0
    begun: int = 0
