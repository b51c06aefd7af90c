"""For one winner on all kinds: every kind measures the files of all, and the same ones get into every kind's finals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from edgeopt.core.variant import Variant
from edgeopt.selection.budget import misses
from edgeopt.selection.comparison import Comparison
from edgeopt.selection.figures import figures_of
from edgeopt.workflow.kinds.kind import Kind
from edgeopt.workflow.tuning import FINALIST_NOISE

_COMMON = 3
"""Files that may become the one for all and therefore are in the finals of every kind."""


def share_variants(kinds: Sequence[Kind]) -> None:
    """Add the files that were made for other kinds to each, under names that tell whose they are."""
    own = {kind.profile.name: kind.record.variants for kind in kinds}
    for kind in kinds:
        variants = list(own[kind.profile.name])
        for profile, others in own.items():
            variants += [_named(one, profile, variants) for one in others if _is_new(one, variants)]
        kind.save(variants=tuple(variants))


def _is_new(variant: Variant, known: Sequence[Variant]) -> bool:
    return all(variant.artifact.digest != one.artifact.digest for one in known)


def _named(variant: Variant, profile: str, known: Sequence[Variant]) -> Variant:
    if all(variant.name != one.name for one in known):
        return variant
    return dataclasses.replace(variant, name=f"{variant.name}-of-{profile}")


def common_finalists(kinds: Sequence[Kind]) -> dict[str, tuple[str, ...]]:
    """Keys of the finals of each kind, by its profile: its own finalists, and those of the best files for all."""
    tables = {kind.profile.name: _objectives(kind) for kind in kinds if kind.failed is None}
    if not tables:
        return {}
    files = set.intersection(*(set(table) for table in tables.values()))
    best = {name: min((value for _, value in table.values()), default=1.0) for name, table in tables.items()}
    worst = {one: max(tables[name][one][1] / max(1e-9, best[name]) for name in tables) for one in files}
    chosen = sorted(files, key=lambda one: (worst[one], one))[:_COMMON]
    return {
        kind.profile.name: tuple(
            dict.fromkeys((*kind.heats.finalists(), *(tables[kind.profile.name][one][0] for one in chosen)))
        )
        for kind in kinds
        if kind.failed is None
    }


def _objectives(kind: Kind) -> Mapping[str, tuple[str, float]]:
    """By file: the key of the candidate with least of the objective that may still meet the budget, and that."""
    budget = kind.request.budget
    rules = Comparison(budget.objective, FINALIST_NOISE)
    found: dict[str, tuple[str, float]] = {}
    for item in figures_of(kind.heats.known.candidates(), budget, seed=0):
        value, file = rules.value(item), item.candidate.variant.artifact.digest
        hopeful = not item.problem and all(miss.soft for miss in misses(item, budget))
        if hopeful and value < found.get(file, ("", math.inf))[1]:
            found[file] = (item.key, value)
    return found
