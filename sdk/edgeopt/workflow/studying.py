"""One worker's part in a study: the next trial to work on, signs of life meanwhile, and what is known so far.

Trials of a worker that fell silent are begun again by whoever comes next, so that a lost host loses none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeopt.core.space import Point, Space, Trial
from edgeopt.core.study import Claim
from edgeopt.errors import EdgeoptError, StoreError
from edgeopt.report.visible import visible
from edgeopt.selection.prediction.points import expects, most_promising
from edgeopt.selection.strategies._base import Strategy
from edgeopt.store.owners import has_ended, this_process
from edgeopt.store.studies import StudyStore

BEAT_SECONDS = 20.0
GRACE_SECONDS = 120.0
"""Silence after which a trial counts as lost; clocks of hosts that share a study have to agree better than this."""

MOST_ATTEMPTS = 3
"""A trial that so often took down its worker, or gave nothing that could be relied on, is not tried again."""


class Asks(Protocol):
    """Says which point to try next (`Strategy.ask`)."""

    def __call__(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        """The next point; ``None`` when all were tried."""
        ...


@dataclass
class Study:
    """A study as one worker sees it.

    Attributes:
        store: Where it is kept.
        key: Its name there.
        now: Seconds since the epoch.
        owner: This worker.
        put_off: Trials of which this worker's board could tell nothing; others, or a later call, try them again.
    """

    store: StudyStore
    key: str
    now: Callable[[], float]
    owner: str = field(default_factory=this_process)
    put_off: list[Trial] = field(default_factory=list)
    _settled: list[Trial] = field(default_factory=list)

    def trials(self) -> tuple[Trial, ...]:
        """All that came to an end, also on other hosts, by number; only those that are new are read."""
        later = self.store.finished(self.key, after=len(self._settled))
        while later and later[0].number == len(self._settled) + 1:
            self._settled.append(later[0])
            later = later[1:]
        return (*self._settled, *later)

    def next(self, ask: Asks, space: Space, *, seed: int, bound: int) -> Claim | None:
        """Claim a trial: one that was lost, else the point that the strategy asks for.

        Points that others work on count for the strategy as tried in vain (a constant liar: Ginsbourger, Le Riche,
        Carraro: Kriging Is Well-Suited to Parallelize Optimization, 2010, §3.2), so that nobody tries them twice.

        Args:
            ask: The strategy.
            space: What may be chosen.
            seed: Of the strategy.
            bound: Most trials of the study, those of all hosts together.

        Returns:
            The claim; ``None`` where nothing is left to begin.
        """
        while True:
            claims, put_off = self.store.claims(self.key), {trial.number for trial in self.put_off}
            for lost in (one for one in claims if one.trial.number not in put_off and self._lost(one)):
                if taken := self._begun_again(lost):
                    return taken
            known = sorted((*self.trials(), *(one.trial for one in claims)), key=lambda trial: trial.number)
            if len(known) >= bound or (point := ask(space, known, seed)) is None:
                return None
            number = known[-1].number + 1 if known else 1
            if claim := self.store.claim(self.key, Trial(number, point), self.owner, now=self.now()):
                return claim

    @contextlib.contextmanager
    def working(self, claim: Claim) -> Iterator[None]:
        """Give signs of life for the length of the block; where it fails, the trial is given back.

        That costs it an attempt only where nobody expected the failure: then the trial may be to blame.
        """
        ended = threading.Event()
        beating = threading.Thread(target=self._beat_until, args=(claim, ended), name="edgeopt-trial", daemon=True)
        beating.start()
        try:
            yield
        except BaseException as error:
            ended.set()
            beating.join()
            with contextlib.suppress(StoreError):
                self.store.give_back(self.key, claim, reason=_fault(error))
            raise
        finally:
            ended.set()

    def finish(self, claim: Claim, trial: Trial) -> None:
        """Keep what a trial gave; of two workers that finish the same one, the first counts."""
        self.store.finish(self.key, claim, trial)

    def leave(self, claim: Claim, trial: Trial) -> None:
        """Leave a trial that the board spoiled or lost to others, or to a later call; a bounded number of times."""
        self.store.give_back(self.key, claim, reason=trial.reason)
        self.put_off.append(trial)

    def _beat_until(self, claim: Claim, ended: threading.Event) -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(StoreError):  # the next one may get through, and GRACE_SECONDS are many
                self.store.beat(self.key, claim, now=self.now())

    def _lost(self, claim: Claim) -> bool:
        return claim.beat_at < self.now() - GRACE_SECONDS or has_ended(claim.owner)

    def _begun_again(self, lost: Claim) -> Claim | None:
        """The trial as ours; ``None`` where somebody else was first, or it has failed often enough."""
        taken = self.store.take_over(self.key, lost, self.owner, now=self.now())
        if taken is None or taken.attempts <= MOST_ATTEMPTS:
            return taken
        reason = taken.trial.reason and f"{taken.trial.reason}; given up after {MOST_ATTEMPTS} attempts"
        reason = reason or f"took down its worker {MOST_ATTEMPTS} times"
        self.finish(taken, dataclasses.replace(taken.trial, excess=UNKNOWN_EXCESS, reason=reason))
        return None


def _fault(error: BaseException) -> str:
    """What a trial may be to blame for; empty for an interruption and for an error of ours, such as a board's."""
    if not isinstance(error, Exception) or isinstance(error, EdgeoptError):
        return ""
    return visible(f"{type(error).__name__}: {error}", 200)


UNKNOWN_EXCESS = 1e6
"""The excess of what did not run, or of which a limited figure is not known; the ledger keeps no infinities."""


_PROPOSALS = 4
_LEFT_TO_CHANCE = 3
"""One in so many trials is the strategy's own, whatever is expected of it: what is never tried cannot correct what is
expected."""


def warmed(strategy: Strategy, kin: Sequence[Sequence[Trial]], most: int) -> Asks:
    """The strategy, after the points that were best on other kinds of boards; of its proposals the most promising.

    Feurer, Springenberg, Hutter: Initializing Bayesian Hyperparameter Optimization via Meta-Learning, 2015: what was
    best on the most similar tasks comes first. The board decides what they are worth on it.

    Args:
        strategy: What is asked then.
        kin: Trials of the same search elsewhere (`StudyStore.kin`).
        most: Points that are taken over.
    """
    points = _best_points(kin, most)

    def ask(space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        tried = [trial.point for trial in trials]
        first = next((point for point in points if point not in tried and point in space), None)
        return first if first is not None else _proposed(strategy, space, trials, seed, kin)

    return ask


def _proposed(
    strategy: Strategy, space: Space, trials: Sequence[Trial], seed: int, kin: Sequence[Sequence[Trial]]
) -> Point | None:
    """The most promising of what the strategy says by several seeds."""
    first = strategy.ask(space, trials, seed)
    if first is None or len(trials) % _LEFT_TO_CHANCE == 0 or not expects(trials, kin):
        return first
    others = (strategy.ask(space, trials, seed + (place << 32)) for place in range(1, _PROPOSALS))
    return most_promising([first, *(point for point in others if point is not None)], trials, kin)


def _best_points(kin: Sequence[Sequence[Trial]], most: int) -> list[Point]:
    """The best of each board, then the second of each, and so on."""
    ordered = [
        sorted((trial for trial in trials if trial.measured), key=lambda one: (one.excess, one.objectives))
        for trials in kin
    ]
    found: list[Point] = []
    for place in range(most):
        for trials in ordered:
            if place < len(trials) and trials[place].point not in found:
                found.append(trials[place].point)
    return found[:most]
