"""Accuracy under a budget: give the layers that lose most back to float until the budget holds.

The loop is that of Wu et al.: Integer Quantization for Deep Learning Inference, 2020, §6.1, with a bound on steps and
time, the best so far always kept, and the cost said in one sentence. Passes that quantise while they convert have their
layers ranked by one that does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.formats import ONNX
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import EdgeoptError, PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes._base import EXACT, format_of
from edgeopt.passes._files import file_digest
from edgeopt.passes.make import Made, MakeContext, digest_of, make_variant
from edgeopt.passes.registry import load_pass


@dataclass(frozen=True)
class Goal:
    """What accuracy is asked.

    Attributes:
        samples: Evaluation sample file.
        metric: ``top1``, ``fidelity`` or the user's function; higher is better.
        reference: The source model's metric on these samples.
        max_drop: Largest loss, absolute; the search aims at 0.8 of it, as the device judges at the pessimistic end.
        limit: Samples used for each step; all by default. `reference` must be over the same.
        max_steps: Largest number of variants made and evaluated.
        max_seconds: No step starts after this, nor one that would end after it if it took as long as those before.
    """

    samples: Path
    metric: str
    reference: float
    max_drop: float
    limit: int | None = None
    max_steps: int = 8
    max_seconds: float = 120.0


@dataclass(frozen=True)
class Recovery:
    """What came of it.

    Attributes:
        made: The variant that loses least, or, where the budget holds, the one that holds it with fewest float layers.
        value: Its metric.
        drop: Its loss against the reference.
        met: Whether the budget holds.
        kept_float: The layers given back, worst first.
        layers: How many layers there were to choose from.
        steps: Variants made.
        summary: What was lost, what was kept, what is lost now, in one sentence.
    """

    made: Made
    value: float
    drop: float
    met: bool
    kept_float: tuple[str, ...]
    layers: int
    steps: int
    summary: str


def recover(
    source: Path,
    recipe: Recipe,
    context: MakeContext,
    goal: Goal,
    *,
    quantised: tuple[Made, float] | None,
    clock: Callable[[], float] = time.monotonic,
) -> Recovery:
    """Keep the worst layers in float, twice as many each time until the budget holds, then refine by halving.

    Args:
        source: ONNX file of the unmodified network.
        recipe: A recipe whose last pass quantises.
        context: As for `make_variant`; `calibration` is needed.
        goal: The budget and its bounds.
        quantised: The recipe's result, and its metric on the goal's samples; ``None`` where `make_variant` dropped it
            for wrong outputs, which a few layers in float may put right.
        clock: Monotonic seconds.

    Raises:
        PassError: The recipe has no quantising pass, there are no calibration samples, ranking failed, or `quantised`
            is ``None`` and no variant with right outputs was found.
    """
    started = clock()
    original = None if quantised is None else _Trial(*quantised, goal.reference - quantised[1])
    if original is not None and original.drop <= goal.max_drop:
        return _recovery(recipe, goal, original, original, [], 0)
    if original is not None and _lost_before(source, recipe, context, goal):
        return _recovery(recipe, goal, original, original, [], 0)
    ranking = rank(source, recipe, context, max_seconds=goal.max_seconds / 2)
    best, steps, missed, met, aim = original, 0, 0, 0, _AIM * goal.max_drop
    count = _first_count(ranking, aim / original.drop) if original and aim > 0 else min(1, len(ranking))
    longest = 0.0
    while count and steps < goal.max_steps and clock() - started + longest < goal.max_seconds:
        begun = clock()
        trial = _attempt(source, recipe, context, goal, tuple(name for name, _ in ranking[:count]))
        steps, longest = steps + 1, max(longest, clock() - begun)
        if trial is not None:
            best = _better(best, trial, aim)
        if trial is not None and trial.drop <= aim:
            met = count
        else:
            missed = count
        count = _next_count(missed, met, len(ranking))
    if best is None:
        tried = f"{steps} tries with up to {missed} of {len(ranking)} layers in float all failed"
        raise PassError(
            f"{recipe.name}: its outputs are wrong; {tried if ranking else 'it has no layer to give back to float'}."
        )
    found = _recovery(recipe, goal, original, best, ranking, steps)
    if not count or steps == goal.max_steps:
        return found
    return replace(found, summary=f"{found.summary}; the {goal.max_seconds:g} s for this were up after try {steps}")


@dataclass(frozen=True)
class _Trial:
    """A variant with some layers in float, evaluated."""

    made: Made
    value: float
    drop: float
    kept: tuple[str, ...] = ()


_AIM = 0.8
"""The search aims at this share of the budget: the device judges the loss at the pessimistic end of its interval."""

_FINENESS = 20
"""The search ends when it knows the number of layers to 1 in this many: a step costs seconds, a layer little."""


def _first_count(ranking: list[tuple[str, float]], bearable: float) -> int:
    """How many of the worst layers to keep so that the others' share of the error is bearable, were shares to add."""
    left, count = 1.0, 0
    while count < len(ranking) - 1 and left > bearable:
        left -= ranking[count][1]
        count += 1
    return min(max(1, count), len(ranking))


def _next_count(missed: int, met: int, layers: int) -> int:
    """How many layers to keep next: twice as many until that holds, then half-way; 0 when nothing is left to try."""
    if met:
        return 0 if met - missed <= max(1, layers // _FINENESS) else (missed + met) // 2
    return min(missed * 2, layers - 1) if missed < layers - 1 else 0


def _better(best: _Trial | None, trial: _Trial, aim: float) -> _Trial:
    """Within `aim` the one with fewer float layers, else the one that loses less."""
    if best is None:
        return trial
    if best.drop <= aim and trial.drop <= aim:
        return min(best, trial, key=lambda one: len(one.kept))
    return min(best, trial, key=lambda one: one.drop)


def _attempt(source: Path, recipe: Recipe, context: MakeContext, goal: Goal, kept: tuple[str, ...]) -> _Trial | None:
    """Make and evaluate; ``None`` where that failed, which costs a step and not the run."""
    try:
        made = make_variant(source, recipe, replace(context, keep_float=(*context.keep_float, *kept)))
        value = evaluate_onnx(
            made.path, goal.samples, goal.metric, goal.limit, deadline_seconds=context.deadline_seconds
        ).value
    except EdgeoptError:
        return None
    return _Trial(made, value, goal.reference - value, kept)


def _lost_before(source: Path, recipe: Recipe, context: MakeContext, goal: Goal) -> bool:
    """Whether the passes before the last lossy one lose more than the budget: layers in float cannot mend that."""
    prefix, _ = _split(recipe)
    if all(load_pass(spec).min_cosine >= EXACT for spec in prefix.passes):
        return False
    before = make_variant(source, prefix, context).path
    value = evaluate_onnx(
        before, goal.samples, goal.metric, goal.limit, deadline_seconds=context.deadline_seconds
    ).value
    return goal.reference - value > goal.max_drop


_RANKED_ALIKE = frozenset({"calibrator", "percentile", "weights", "reduce_range"})

_STAND_IN = PassSpec("quantise_static")
"""Ranks for passes that convert, which would take half a minute for every layer; the same layers lead."""

_ANY_BOARD = {"machine": "x86_64", "isa": []}
"""What layers are ranked for, whatever the board: a CPU that saturates gets weights of 7 bits, which no host computes
wrongly. Passes ask a board's CPU for nothing but this, and how many bits the weights have does not change who leads."""


def rank(source: Path, recipe: Recipe, context: MakeContext, *, max_seconds: float = 60.0) -> list[tuple[str, float]]:
    """Layers with their share of the quantisation error (0 to 1), worst first; kept in the cache.

    The ranking is made with min-max ranges and the pass's own type of weights whatever the recipe says on these, and
    for `_ANY_BOARD`, so that it is made once for all such recipes on all boards: the same layers lead.

    Raises:
        PassError: The recipe has no quantising pass, there are no calibration samples, or ranking failed.
    """
    place = _place(source, recipe, context)
    if (known := place.known()) is not None:
        return known
    ranking = _shares(_ranked(place.start, place.name, place.options, context, max_seconds))
    place.keep(ranking)
    return ranking


def keep_ranking(source: Path, recipe: Recipe, context: MakeContext, ranking: Sequence[tuple[str, float]]) -> None:
    """Put a ranking that was made elsewhere into the cache, where none is known; nothing where it is empty.

    Raises:
        PassError: The recipe has no quantising pass, or the passes before it fail here.
    """
    if ranking and (place := _place(source, recipe, context)).known() is None:
        place.keep(ranking)


def known_ranking(source: Path, recipe: Recipe, context: MakeContext) -> list[tuple[str, float]] | None:
    """What `rank` found before; ``None`` where that recipe's layers were never ranked.

    Raises:
        PassError: As for `rank`.
    """
    return _place(source, recipe, context).known()


@dataclass(frozen=True)
class _Ranking:
    """What is ranked, and the file that keeps the result."""

    start: Path
    name: str
    options: Mapping[str, Any]
    kept: Path

    def known(self) -> list[tuple[str, float]] | None:
        with contextlib.suppress(OSError, ValueError):
            return [(name, share) for name, share in json.loads(self.kept.read_text())]
        return None

    def keep(self, ranking: Sequence[tuple[str, float]]) -> None:
        partial = self.kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        partial.write_text(json.dumps(ranking))
        partial.replace(self.kept)


def _place(source: Path, recipe: Recipe, context: MakeContext) -> _Ranking:
    prefix, spec = _split(recipe)
    if context.calibration is None:
        raise PassError(f"{recipe.name}: ranking layers needs calibration samples.", remedy="Give --data.")
    start = make_variant(source, prefix, context).path
    if format_of(load_pass(spec)) != ONNX:
        spec = _STAND_IN
    options = {name: value for name, value in spec.options.items() if name not in _RANKED_ALIKE}
    inputs = [file_digest(start), file_digest(context.calibration), context.seed]
    return _Ranking(start, spec.name, options, context.cache / f"ranking-{digest_of(spec.name, options, inputs)}.json")


def _ranked(
    start: Path, name: str, options: Mapping[str, Any], context: MakeContext, seconds: float
) -> list[tuple[str, float]]:
    with tempfile.TemporaryDirectory(dir=context.cache, prefix="work-") as work:
        arguments = {
            "name": name,
            "options": dict(options),
            "source": str(start),
            "context": {
                "work": work,
                "cache": str(context.cache),
                "calibration": str(context.calibration),
                "seed": context.seed,
                **_ANY_BOARD,
            },
            "seconds": seconds,
        }
        try:
            rows = run_child(
                "edgeopt.passes.quantising.rank:rank_layers",
                arguments,
                deadline_seconds=seconds + context.deadline_seconds,
                what="ranking the layers",
            )
        except EdgeoptError as error:
            raise PassError(f"ranking the layers failed: {error.message}", remedy=error.remedy) from None
    return [(name, error) for name, error in rows]


def _shares(errors: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """None where no layer makes a difference: the pass refuses the network, as one whose weights are recurrent."""
    total = sum(error for _, error in errors)
    return [(name, error / total) for name, error in errors] if total else []


def _split(recipe: Recipe) -> tuple[Recipe, PassSpec]:
    """The passes before the last lossy one, and that one."""
    for index in range(len(recipe.passes) - 1, -1, -1):
        spec = recipe.passes[index]
        if load_pass(spec).min_cosine < EXACT:
            return replace(recipe, passes=recipe.passes[:index]), spec
    raise PassError(f"recipe {recipe.name!r} has no pass that loses accuracy, so there is nothing to give back.")


def _recovery(
    recipe: Recipe, goal: Goal, original: _Trial | None, best: _Trial, ranking: list[tuple[str, float]], steps: int
) -> Recovery:
    return Recovery(
        made=best.made,
        value=best.value,
        drop=best.drop,
        met=best.drop <= goal.max_drop,
        kept_float=best.kept,
        layers=len(ranking),
        steps=steps,
        summary=_summary(recipe.name, goal.max_drop, original, best, ranking),
    )


def _summary(
    name: str, max_drop: float, original: _Trial | None, best: _Trial, ranking: list[tuple[str, float]]
) -> str:
    """One sentence, losses in points (hundredths of the metric)."""
    lost = f"lost {100 * original.drop:.1f} points" if original else "had wrong outputs"
    text = f"{name} {lost} (budget {100 * max_drop:.1f})"
    if not ranking:
        return text
    worst, share = ranking[0]
    text += f"; {share:.0%} of the error comes from {worst}"
    if not best.kept:
        return f"{text}; keeping layers in float did not help"
    layers = f"{len(best.kept)} of {len(ranking)} layers"
    end = "" if best.drop <= max_drop else ", still over the budget"
    return f"{text}; kept {layers} in float: lost {100 * best.drop:.1f}{end}"
