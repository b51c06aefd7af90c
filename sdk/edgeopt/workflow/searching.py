"""Search on the device: asks a strategy for a point, makes it, measures it there, and tells the strategy.

Trials are those of a study, which other hosts with boards of the same kind may work on at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt.core.budget import Budget
from edgeopt.core.space import Space, Trial
from edgeopt.core.study import Claim
from edgeopt.core.variant import Rejection, Variant
from edgeopt.errors import UsageError
from edgeopt.passes.space_files import read_space, shipped_spaces
from edgeopt.selection.comparison import Comparison
from edgeopt.selection.pareto import front
from edgeopt.selection.strategies import strategy
from edgeopt.selection.wording import points
from edgeopt.workflow.request import SearchRequest
from edgeopt.workflow.studying import Study, warmed
from edgeopt.workflow.trying import Clock, Field, fitting, making, recipe_of, tried, yardstick

FINALISTS = 6
"""Points of the Pareto front that are made once more by their final recipe, least of the objective first."""

_WARM_SHARE = 4
"""At most one in so many trials takes over a point that was best on another kind of board."""

_ALL_KEPT = 100
"""Up to so many trials each is kept in the run's record at once; then one in a hundred is, as a record grows."""


def space_named(name: str) -> Space:
    """A shipped space, or that of a YAML file.

    Raises:
        UsageError: Neither.
        DocumentError, PassError: The file is not one of a space.
    """
    known = {one.space.name: one.space for one in shipped_spaces()}
    if name in known:
        return known[name]
    if Path(name).is_file():
        return read_space(Path(name))
    listed = ", ".join(known)
    raise UsageError(f"--search {name!r} is no file and no space that ships.", remedy=f"Use a file, or {listed}.")


def require(wanted: SearchRequest) -> None:
    """Refuse a search that could not begin.

    Raises:
        UsageError: No such space or strategy, or the strategy needs something that is not installed.
        DocumentError, PassError: The file is not one of a space.
    """
    strategy(wanted.strategy).ask(space_named(wanted.space), (), 0)  # the first question shows what is missing


def search(
    field: Field,
    wanted: SearchRequest,
    study: Study,
    kin: Sequence[Sequence[Trial]] = (),
    *,
    clock: Clock = time.monotonic,
) -> tuple[tuple[Trial, ...], tuple[Variant | Rejection, ...]]:
    """Search until a bound, or until nothing is left to try.

    Args:
        field: Device, network, data.
        wanted: Space, strategy and bounds; trials and device seconds are those of the whole study.
        study: What is known of it; other hosts may work on it.
        kin: Trials of the same search on other kinds of boards, whose best points come first.
        clock: Seconds; for the bounds on time.

    Returns:
        All trials that ended, and what the final recipes of the best of them gave.

    Raises:
        UsageError: No such space or strategy.
        DeviceError: The device cannot be reached, or somebody else has it; the trials so far are kept.
    """
    space = fitting(space_named(wanted.space), field)
    bound = min(wanted.trials, space.size())
    ask = warmed(strategy(wanted.strategy), kin, wanted.trials // _WARM_SHARE)
    trials = study.trials()
    field.keep(trials)
    field.listener.stage(f"Searching {space.name}", max(0, bound - len(trials)))
    against, began = yardstick(field), clock()

    def next_claim() -> Claim | None:
        if _over(study.trials(), wanted, clock() - began):
            return None
        return study.next(ask, space, seed=field.maker.request.seed, bound=bound)

    with contextlib.closing(_made_ahead(field, space, study, next_claim)) as ahead:
        for claim, made in ahead:
            outcome = tried(field, made(), against, claim.trial, clock=clock, before=trials)
            study.finish(claim, outcome.trial)
            trials = study.trials()
            if outcome.variant and _leads(outcome.trial, trials):
                field.hold(outcome.trial, outcome.variant)
            if len(trials) <= _ALL_KEPT or len(trials) % (len(trials) // _ALL_KEPT) == 0:
                field.keep(trials)
            field.listener.advance(_line(outcome.trial, field.budget))
    trials = study.trials()
    field.keep(trials)
    return trials, tuple(_final(field, space, trial) for trial in _best(trials))


@dataclass(frozen=True)
class _Begun:
    """A trial that is being made, and what keeps it ours meanwhile."""

    claim: Claim
    made: Callable[[], Variant | Rejection]
    ours: contextlib.ExitStack


def _made_ahead(
    field: Field, space: Space, study: Study, next_claim: Callable[[], Claim | None]
) -> Generator[tuple[Claim, Callable[[], Variant | Rejection]], None, None]:
    """Trials in the order in which they were claimed, while as many of the next are being made as the executor bears.

    Where the one that was given fails, all are given back.
    """
    width, begun = field.maker.workspace.executor.width, deque[_Begun]()
    with contextlib.ExitStack() as given_back:
        while True:
            while len(begun) < width and (claim := next_claim()):
                ours = contextlib.ExitStack()
                ours.enter_context(study.working(claim))
                given_back.push(ours)
                recipe = recipe_of(space, claim.trial, f"{space.name}-{claim.trial.number}")
                begun.append(_Begun(claim, making(field, recipe), ours))
            if not begun:
                return
            first = begun.popleft()
            yield first.claim, first.made
            first.ours.close()


def _over(trials: Sequence[Trial], wanted: SearchRequest, seconds: float) -> bool:
    """Whether time or device time is used up."""
    on_devices = math.fsum(trial.device_seconds for trial in trials)
    return seconds >= (wanted.max_seconds or math.inf) or on_devices >= (wanted.max_device_seconds or math.inf)


def _leads(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Whether no other is better: nearer to the budget, or within it and with less of the objective."""
    return all(
        (trial.excess, trial.objectives) <= (other.excess, other.objectives) for other in trials if other.measured
    )


def _best(trials: tuple[Trial, ...]) -> list[Trial]:
    """The front of those within the budget, else the nearest miss."""
    ran = sorted((trial for trial in trials if trial.measured), key=lambda trial: (trial.excess, trial.objectives))
    holding = [trial for trial in ran if trial.excess == 0]
    kept = front([trial.objectives for trial in holding])
    return [trial for trial, keep in zip(holding, kept, strict=True) if keep][:FINALISTS] or ran[:1]


def _final(field: Field, space: Space, trial: Trial) -> Variant | Rejection:
    """A point once more, by its final recipe; from the ledger where that is no other."""
    recipe = recipe_of(space, trial, trial.variant, final=True)
    if recipe != recipe_of(space, trial, trial.variant):
        recipe = dataclasses.replace(recipe, name=f"{trial.variant}-final")
    return making(field, recipe)()


def _line(trial: Trial, budget: Budget) -> str:
    if not trial.measured:
        return f"{trial.number}: {trial.chosen}: {trial.reason}"
    cost, lost = trial.objectives
    return (
        f"{trial.number}: {trial.chosen}: {Comparison(budget.objective, 0.0).told(cost)}, loses {points(lost)} points"
    )
