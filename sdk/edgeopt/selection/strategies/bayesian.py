"""Bayesian search: the tree-structured Parzen estimator of Optuna, for several objectives.

Ozaki, Tanigaki, Watanabe, Onishi: Multiobjective Tree-Structured Parzen Estimator for Computationally Expensive
Optimization Problems, 2020 (and of 2022, in the Journal of Artificial Intelligence Research); multivariate as in
Falkner, Klein, Hutter: BOHB, 2018; what is over the budget by the constraint's value. Optuna keeps nothing here: each
time it is told all trials.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgeopt.core.space import Choice, Point, Space, Trial, Value
from edgeopt.errors import UsageError
from edgeopt.selection.strategies._base import Standing, generator, history, opening, untried

if TYPE_CHECKING:
    import optuna

FIRST = 10
"""Points before the estimator is asked."""
_PROPOSALS = 8
_NEVER = 1e9  # excess of what did not run


class Bayesian:
    """Models where good points lie; right for large spaces and costly trials, from about 20 on. Needs Optuna."""

    name: ClassVar[str] = "bayesian"

    def ask(self, space: Space, trials: Sequence[Trial], seed: int) -> Point | None:
        """See `Strategy.ask`."""
        with _silent_optuna() as optuna:
            known, draw = history(space, trials), generator(seed, trials)
            tried = [one.point for one in known]
            if len(known) < FIRST or space.gentlest() not in tried:
                return opening(space, tried, draw)
            study = _study(optuna, space, known, draw.getrandbits(32))
            proposed: Point = {}
            for _ in range(_PROPOSALS):
                proposed = _proposal(space, study)
                if proposed not in tried:
                    return proposed
            near = next((point for point in space.neighbours(proposed) if point not in tried), None)
            return near if near is not None else untried(space, tried, draw)


@contextlib.contextmanager
def _silent_optuna() -> Iterator[Any]:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "the bayesian search needs optuna, which is not installed.",
            remedy="Run: pip install 'edgeopt[search]', or use another strategy.",
        ) from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(before)


def _study(optuna: Any, space: Space, known: Sequence[Standing], seed: int) -> optuna.Study:
    """A study in memory that knows all trials."""
    measured = [one.objectives for one in known if one.objectives]
    worst = tuple(map(max, zip(*measured, strict=True))) if measured else (0.0,)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True, group=True)
    study = optuna.create_study(directions=["minimize"] * len(worst), sampler=sampler)
    for one in known:
        asked = [choice for choice in space.choices if choice.name in one.point]
        study.add_trial(
            optuna.trial.create_trial(
                params={choice.name: choice.values.index(one.point[choice.name]) for choice in asked},
                distributions={choice.name: _distribution(optuna, choice) for choice in asked},
                values=one.objectives or worst,
                constraints={"budget": min(one.excess, _NEVER)},
            )
        )
    return study


def _proposal(space: Space, study: optuna.Study) -> Point:
    """What the estimator would try; a proposal that is not taken makes the next one differ (a constant liar)."""
    trial = study.ask()
    point: dict[str, Value] = {}
    for choice in space.choices:
        if choice.asked(point):
            point[choice.name] = choice.values[_suggested(trial, choice)]
    return point


def _distribution(optuna: Any, choice: Choice) -> Any:
    """Over places among the values: numbers are in order, words are not."""
    places = range(len(choice.values))
    if _of_words(choice):
        return optuna.distributions.CategoricalDistribution(places)
    return optuna.distributions.IntDistribution(0, places[-1])


def _suggested(trial: Any, choice: Choice) -> int:
    places = range(len(choice.values))
    chosen: int = (
        trial.suggest_categorical(choice.name, places)
        if _of_words(choice)
        else trial.suggest_int(choice.name, 0, places[-1])
    )
    return chosen


def _of_words(choice: Choice) -> bool:
    return any(isinstance(value, str) for value in choice.values)
