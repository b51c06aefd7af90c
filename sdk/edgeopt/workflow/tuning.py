"""The loop on the device: quick launches for all, longer ones for survivors, a race of the finalists (design §6)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeopt.core.device import DeviceFacts
from edgeopt.core.formats import reads
from edgeopt.core.measurement import Accuracy, Measurement
from edgeopt.core.plan import FINALS, FULL, QUICK, STANDARD, Plan
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import BASELINE
from edgeopt.core.selection import Candidate
from edgeopt.core.variant import Rejection, Variant
from edgeopt.core.work import Forecast
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.selection import schedule, statistics
from edgeopt.workflow.bounding import Bounds
from edgeopt.workflow.forecasting import foresight
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.preparing import Prepared, model_facts
from edgeopt_targets import registry

_FALLBACK_LEVEL = "extended"
LEADERS = 2
FINALIST_NOISE = 0.05
"""Assumed while finalists are picked; a constant, so that the same command picks the same ones again."""

_FAR_BEHIND = 1.5
"""A runtime this many times slower than the best at the same threads will not win with others."""

_BLOCKS = 2
"""Blocks of finals at most: the second only where every finalist drifted in the first."""


class Place(Protocol):
    """A device with a task: what decides who reads which file."""

    @property
    def facts(self) -> DeviceFacts:
        """What the device has."""

    @property
    def profile(self) -> Profile:
        """What is known of its kind."""

    @property
    def prepared(self) -> Prepared:
        """Model and samples."""


@dataclass
class Board:
    """Every launch so far, by candidate; the one mutable thing of a run. `reference` as in `Candidate`."""

    reference: Accuracy | None = None
    variants: dict[str, Variant] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    quick: dict[str, list[Measurement]] = field(default_factory=dict)
    finals: dict[str, list[Measurement]] = field(default_factory=dict)

    def add(self, variant: Variant, settings: Settings, measurement: Measurement, *, final: bool) -> str:
        """Keep a launch and return its candidate's key."""
        key = Candidate(variant, settings, ()).key
        self.variants[key], self.settings[key] = variant, settings
        (self.finals if final else self.quick).setdefault(key, []).append(measurement)
        return key

    def candidates(self) -> tuple[Candidate, ...]:
        """Each with its final launches where it has some, else its quick ones."""
        return tuple(
            Candidate(variant, self.settings[key], tuple(self.finals.get(key) or self.quick[key]), self.reference)
            for key, variant in self.variants.items()
        )

    def finalist(self, key: str) -> Candidate:
        """One with its final launches alone."""
        return Candidate(self.variants[key], self.settings[key], tuple(self.finals[key]), self.reference)


@dataclass(frozen=True)
class Measured:
    """What came of measuring.

    Attributes:
        candidates: With their launches.
        noise: Of the device, relative.
        forecast: What was expected of the quick launches.
        rejections: Variants that could not win by the roofline, with the reason.
    """

    candidates: tuple[Candidate, ...]
    noise: float
    forecast: Forecast
    rejections: tuple[Rejection, ...] = ()


def measure_all(
    bench: Bench, variants: Sequence[Variant], settings: Sequence[Settings], *, effort: str, launches: int
) -> Measured:
    """Measure every variant quickly, those first that are expected to be fast, and the finalists well.

    Args:
        bench: The device.
        variants: The original first.
        settings: What to try each with.
        effort: Name of the plan of the finals; before those of ``full`` survivors are measured by the standard plan.
        launches: Process launches of each finalist at most: who cannot win any more gets no others.
    """
    expected = foresight(bench)
    plans = [(variant, readers(bench, settings, variant)) for variant in variants]
    board = Board(None if plans[0][1] else reference(bench, variants[0]))
    bench.listener.stage("Measuring", sum(len(suited) for _, suited in plans))
    bounds = Bounds(bench.budget, expected.machine)
    rejections = []
    for variant, suited in expected.ordered(plans):
        hopeful, reason = _hopeful(bounds, board, variant, suited)
        for _ in range(len(suited) - len(hopeful)):
            bench.listener.advance(f"{variant.name}: not tried, {reason}")
        if reason and not hopeful:
            rejections.append(Rejection(variant.name, "roofline", reason))
        quick_round(bench, board, variant, hopeful)
    forecast = expected.forecast((board.variants[key], first) for key, (first, *_) in board.quick.items())
    if effort != QUICK.name:
        leaders = schedule.finalists(board.candidates(), bench.budget, noise=FINALIST_NOISE, limit=LEADERS)
        _try_variations(bench, board, leaders)
    if effort == FULL.name:
        _standard_round(bench, board)
    _finals(bench, board, FINALS[effort], launches)
    return Measured(board.candidates(), learned_noise(bench, board), forecast, tuple(rejections))


def _hopeful(
    bounds: Bounds, board: Board, variant: Variant, settings: Sequence[Settings]
) -> tuple[list[Settings], str]:
    """The settings with which a variant may win yet, and why it cannot with others; the original always may."""
    seen = [first.latency.median_ns for (first, *_) in board.quick.values() if first.ok and first.latency]
    least = max((bounds.least_ns(variant, one) for one in settings), default=0.0)
    if variant.name == BASELINE.name or least <= min(seen, default=math.inf):
        return list(settings), ""
    best_ns = bounds.best_ns(board.candidates())  # costs more than the bound, and seldom matters
    reasons = {one: bounds.refusal(variant, one, best_ns) for one in settings}
    return [one for one in settings if not reasons[one]], next(filter(None, reasons.values()), "")


def readers(place: Place, settings: Sequence[Settings], variant: Variant) -> list[Settings]:
    """The settings whose runtime reads the variant's file, and to which no rule of the target objects."""
    recipe, model = variant.provenance.recipe, model_facts(place.prepared)
    able = registry.target(place.profile.target).runtimes(place.profile, place.facts, model, recipe)
    return [one for one in settings if one.runtime in able and reads(one.runtime, variant.artifact.format)]


def reference(bench: Bench, original: Variant) -> Accuracy | None:
    """Accuracy of the original here, for a device none of whose runtimes reads it; a fidelity needs none."""
    metric, artifacts = bench.prepared.summary.metric, bench.workspace.artifacts
    if metric == "fidelity":
        return None
    bench.listener.note(f"Nothing on {bench.connection.device.name} reads the original: losses count from it as here.")
    found = evaluate_onnx(artifacts.path(original.artifact), artifacts.path(bench.prepared.evaluation), metric)
    return Accuracy(metric, found.value, found.per_sample, found.extra, len(found.per_sample))


def learned_noise(bench: Bench, board: Board) -> float:
    """The noise of this run where its finals tell it, else the least that this board has ever shown."""
    fingerprint, ledger = bench.facts.fingerprint, bench.workspace.ledger
    before, seen = ledger.device_noise(fingerprint), _noise_of_finals(board)
    if seen is None:
        return FINALIST_NOISE if before is None else before
    ledger.remember_device_noise(fingerprint, seen if before is None else min(seen, before))
    return seen


def quick_round(bench: Bench, board: Board, variant: Variant, settings: Sequence[Settings]) -> None:
    """One launch for each setting; the evaluation set runs until one launch of each runtime has been through it.

    Each runtime after the first begins at the threads that were best so far; one that is far behind there is not tried
    with its other settings.
    """
    best_ns, threads = math.inf, 0
    for _, group in itertools.groupby(settings, key=lambda one: one.runtime):
        evaluated = False
        offered = sorted(group, key=lambda one: threads and one.threads != threads)
        for number, chosen in enumerate(offered):
            measurement = _quick_launch(bench, board, variant, chosen, evaluate=not evaluated)
            evaluated = evaluated or measurement.accuracy is not None
            taken_ns = measurement.latency.median_ns if measurement.ok and measurement.latency else math.inf
            if number == 0 and taken_ns > _FAR_BEHIND * best_ns:
                for other in offered[1:]:
                    bench.listener.advance(f"{variant.name}, {other}: not tried, {chosen} is far behind")
                break
            if taken_ns < best_ns:
                best_ns, threads = taken_ns, chosen.threads


def _quick_launch(bench: Bench, board: Board, variant: Variant, chosen: Settings, *, evaluate: bool) -> Measurement:
    """Measure once; where the runtime's own optimiser may be what failed, once more with a gentler one."""
    plan = QUICK if evaluate else QUICK.without_evaluation()
    measurement = bench.measure(variant, chosen, plan)
    key = board.add(variant, chosen, measurement, final=False)
    bench.listener.advance(line(key, measurement))
    if _may_be_the_optimiser(measurement) and chosen.graph_optimisation == "all":
        others = registry.target(bench.profile.target).variations(bench.profile, chosen)
        for gentler in [one for one in others if one.graph_optimisation == _FALLBACK_LEVEL]:
            board.add(variant, gentler, bench.measure(variant, gentler, plan), final=False)
    return measurement


def _may_be_the_optimiser(measurement: Measurement) -> bool:
    """Whether a gentler graph optimisation could help: it failed, and not by taking too long."""
    return not measurement.ok and not measurement.status.startswith("timeout:")


def line(key: str, measurement: Measurement) -> str:
    """What a launch gave, for the progress display."""
    if measurement.latency is None or not measurement.ok:
        reason = measurement.detail or (measurement.correctness.reason if measurement.correctness else "")
        return f"{key}: {measurement.status} {reason}".rstrip()
    return f"{key}: {measurement.latency.median_ns / 1e6:.3f} ms"


def _noise_of_finals(board: Board) -> float | None:
    """A/A noise of this run: what launches of the very same original differ by, in different processes."""
    for key, launches in board.finals.items():
        if board.variants[key].name == BASELINE.name and sum(launch.valid for launch in launches) > 1:
            return statistics.launch_noise(launches)
    return None


def _try_variations(bench: Bench, board: Board, leaders: Sequence[str]) -> None:
    """Settings that seldom matter, such as graph-optimisation levels: only for those that lead."""
    target = registry.target(bench.profile.target)
    for key in leaders:
        variant = board.variants[key]
        for settings in target.variations(bench.profile, board.settings[key]):
            if Candidate(variant, settings, ()).key not in board.variants:
                board.add(variant, settings, bench.measure(variant, settings, QUICK), final=False)


def _standard_round(bench: Bench, board: Board) -> None:
    """One longer launch of each that may still win, so that the long finals are between the right ones."""
    limit = schedule.survivors(len(board.variants))
    keys = schedule.finalists(board.candidates(), bench.budget, noise=FINALIST_NOISE, limit=limit)
    bench.listener.stage("Measuring survivors", len(keys))
    for key in keys:
        measurement = bench.measure(board.variants[key], board.settings[key], STANDARD.without_evaluation())
        board.add(board.variants[key], board.settings[key], measurement, final=False)
        bench.listener.advance(line(key, measurement))


def _finals(bench: Bench, board: Board, plan: Plan, launches: int) -> None:
    """Interleaved launches, each in a fresh process; once more where the board drifted in the meantime."""
    keys = schedule.finalists(board.candidates(), bench.budget, noise=FINALIST_NOISE)
    for block in range(_BLOCKS):
        board.finals.clear()
        race(bench, board, keys, plan, range(block * launches, (block + 1) * launches))
        drifted = [key for key in keys if _drifted(board.finals[key])]
        if len(drifted) < len(keys):
            return
        bench.listener.note("The board became faster or slower during the finals.")


def race(bench: Bench, board: Board, keys: Sequence[str], plan: Plan, launches: range) -> None:
    """Rounds of launches, to and fro, until one is left that may win; the original runs along for comparison."""
    bench.listener.stage("Finals, interleaved", len(keys) * len(launches))
    hopeful = keys
    for place, launch in enumerate(launches):
        running = [key for key in keys if key in hopeful or board.variants[key].name == BASELINE.name]
        for key in schedule.turn(running, place):
            chosen = plan if place == 0 else plan.without_evaluation()
            measurement = bench.measure(board.variants[key], board.settings[key], chosen, launch)
            board.add(board.variants[key], board.settings[key], measurement, final=True)
            bench.listener.advance(line(key, measurement))
        hopeful = schedule.racing([board.finalist(key) for key in running], bench.budget)
        if len(hopeful) == 1 < len(keys):
            bench.listener.note(f"{hopeful[0]} wins for sure after {place + 1} of {len(launches)} rounds.")
            return
        if schedule.settled([board.finalist(key) for key in hopeful], bench.budget):
            bench.listener.note(f"{' and '.join(hopeful)} differ by less than 1 % for sure after {place + 1} rounds.")
            return


def _drifted(launches: Sequence[Measurement]) -> bool:
    """Whether the last launch of a candidate differs from its first by more than the board's noise."""
    medians = [launch.latency.median_ns for launch in launches if launch.latency is not None]
    return len(medians) > 1 and schedule.drift(medians[0], medians[-1], FINALIST_NOISE)
