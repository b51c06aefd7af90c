"""A study: one search that several hosts and several boards of one kind may work on, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.budget import Budget
from edgeopt.core.space import Trial


@dataclass(frozen=True)
class Subject:
    """What a study is about; trials of equal subjects may be told to the same strategy.

    Attributes:
        model: Name of the network.
        model_digest: Its file.
        data_digest: Samples, split and preprocessing; training samples and loss where there are some.
        space: Digest of the choices and passes.
        budget: Limits and objective.
        board: What makes boards of one kind: profile, CPU, cores, power mode and runtimes, by name.
        mark: Keeps studies apart that would else be the same.
    """

    model: str
    model_digest: str
    data_digest: str
    space: str
    budget: Budget
    board: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""

    def differs(self, other: Subject) -> tuple[str, ...]:
        """In what it is another one, in words."""
        pairs = {
            "the network": (self.model_digest, other.model_digest),
            "the samples": (self.data_digest, other.data_digest),
            "the space": (self.space, other.space),
            "the budget": (self.budget, other.budget),
            "the kind of board": (self.board, other.board),
        }
        return tuple(what for what, (mine, others) in pairs.items() if mine != others)


@dataclass(frozen=True)
class Claim:
    """A trial that somebody works on.

    Attributes:
        trial: Its number and point.
        owner: Who, ``host:pid``.
        beat_at: Last sign of life, seconds since the epoch; 0 where it was given back.
        attempts: How often it was begun, but for those that were given back through no fault of its own.
    """

    trial: Trial
    owner: str
    beat_at: float
    attempts: int = 1
