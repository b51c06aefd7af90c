"""Carries out orders in this process: the default, and the only one for what needs the user's own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.child import Progress
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.passes.recover import Goal, known_ranking, recover
from edgeopt.workflow.executors._base import Answer, Closing, Order, Repair


class Here(Closing):
    """This process, one order after the other, each when its answer is asked for."""

    width = 1

    def submit(self, order: Order, on_progress: Progress | None = None) -> Later:
        """Remember an order."""
        return Later(order, on_progress)


@dataclass(frozen=True)
class Later:
    """An order that is carried out when its answer is asked for."""

    order: Order
    on_progress: Progress | None = None

    def result(self) -> Answer:
        """Carry it out."""
        return carry_out(self.order, self.on_progress)


def carry_out(order: Order, on_progress: Progress | None = None) -> Answer:
    """Make and judge a recipe, each pass in a child process.

    Raises:
        PassError, ParityError, ChildError: The recipe gives nothing of use.
        DataError, ModelError: The metric cannot be computed.
    """
    context = context_of(order, on_progress)
    if order.repair is not None:
        return _mended(order, order.repair, context)
    made = make_variant(order.files["source"], order.recipe, context)
    return Answer(made, evaluate_onnx(made.path, order.files["evaluation"], order.metric).value)


def context_of(order: Order, on_progress: Progress | None = None) -> MakeContext:
    """What the passes of an order need."""
    files = order.files
    return MakeContext(
        golden=files["golden"],
        cache=order.cache,
        calibration=files.get("calibration"),
        machine=order.machine,
        isa=order.isa,
        seed=order.seed,
        trainable=files.get("trainable"),
        training=files.get("training"),
        loss=order.loss,
        on_progress=on_progress,
    )


def _mended(order: Order, repair: Repair, context: MakeContext) -> Answer:
    source = order.files["source"]
    goal = Goal(order.files["evaluation"], order.metric, repair.reference, repair.max_drop)
    before = None if repair.made is None else (repair.made, -math.inf if repair.value is None else repair.value)
    found = recover(source, order.recipe, context, goal, quantised=before)
    ranking = known_ranking(source, order.recipe, context) or ()
    return Answer(found.made, found.value, (found.summary,), tuple(ranking))


def moved(order: Order, files: Mapping[str, Path], cache: Path) -> Order:
    """The same order where its files lie elsewhere; the variant to be mended has the role ``made``."""
    repair = order.repair
    if repair is not None and repair.made is not None:
        repair = replace(repair, made=replace(repair.made, path=files["made"]))
    roles = {role: files[role] for role in order.files}
    return replace(order, files=roles, cache=cache, repair=repair)
