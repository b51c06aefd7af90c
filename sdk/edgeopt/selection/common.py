"""One winner for several kinds of boards: within the budget on each, and nowhere far behind what is best there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from edgeopt.core.kinds import Common
from edgeopt.core.selection import Assessment, Selection
from edgeopt.selection.comparison import Comparison
from edgeopt.selection.figures import Figures, figures_of

_Verdict = Literal["winner", "tie", "dominated"]


def common_winner(kinds: Mapping[str, Selection], *, seed: int = 0) -> Common | None:
    """The file whose worst ratio to a kind's own best is the least.

    The objective of the file on a kind, with its best settings there, is divided by the objective of the kind's own
    winner; of files that are feasible on all kinds, that with the least of the largest ratio wins (Savage: The Theory
    of Statistical Decision, 1951: minimax regret, here relative). Files within the noise of that are equal, and the
    one that loses least of the metric on any kind is taken, then the smallest. Files measured in the finals of
    all kinds go before those that were not.

    Args:
        kinds: Each kind's own decision, by its profile.
        seed: Of the bootstrap.

    Returns:
        ``None`` where no file is feasible on all of them.
    """
    tables = {profile: _by_file(selection, seed) for profile, selection in kinds.items()}
    files = set.intersection(*(set(table) for table in tables.values())) if tables else set()
    if not files:
        return None
    deepest = {profile: max(item.depth for item, _ in table.values()) for profile, table in tables.items()}
    final = {one for one in files if all(tables[name][one][0].depth == deepest[name] for name in tables)}
    ratios = {one: _ratios(one, tables) for one in final or files}
    noise = max(selection.noise for selection in kinds.values())
    least = min(max(shares.values()) for shares in ratios.values())
    equal = [one for one, shares in ratios.items() if max(shares.values()) <= least * (1 + noise)]
    chosen = min(equal, key=lambda one: (_most_lost(one, tables), _size(one, tables), one))
    item, _ = next(iter(tables.values()))[chosen]
    return Common(item.candidate.variant.name, chosen, ratios[chosen])


_Table = Mapping[str, tuple[Figures, float]]
"""By file: the feasible candidate with least of the objective, and that."""


def _by_file(selection: Selection, seed: int) -> dict[str, tuple[Figures, float]]:
    feasible = {one.candidate.key for one in selection.assessments if one.feasible}
    rules = Comparison(selection.budget.objective, selection.noise)
    figures = figures_of([one.candidate for one in selection.assessments], selection.budget, seed=seed)
    found: dict[str, tuple[Figures, float]] = {}
    for item in sorted(figures, key=lambda one: (-one.depth, rules.value(one), one.key)):
        if item.key in feasible:
            found.setdefault(item.candidate.variant.artifact.digest, (item, rules.value(item)))
    return found


def _ratios(file: str, tables: Mapping[str, _Table]) -> dict[str, float]:
    return {profile: table[file][1] / max(1e-9, _own_best(table)) for profile, table in tables.items()}


def _own_best(table: _Table) -> float:
    depth = max(item.depth for item, _ in table.values())
    return min(value for item, value in table.values() if item.depth == depth)


def _most_lost(file: str, tables: Mapping[str, _Table]) -> float:
    drops = [table[file][0].drop for table in tables.values()]
    return max((drop.value if drop else math.inf) for drop in drops)


def _size(file: str, tables: Mapping[str, _Table]) -> int:
    return next(iter(tables.values()))[file][0].size_bytes


def overruled(selection: Selection, common: Common | None, profile: str) -> Selection:
    """A kind's decision with the common winner in place of its own; with none where there is no common one.

    Args:
        selection: The kind's own.
        common: What was chosen for all, or ``None``.
        profile: Of the kind.
    """
    if common is None:
        return withheld(selection, "no file is so on every kind of board, as --one-for-all asks")
    mine = [one for one in selection.assessments if one.feasible and _digest(one) == common.digest]
    best = min(mine, key=lambda one: -_depth(one))  # of those measured best, the first: the order is best first
    if best.candidate.key == selection.winner:
        return selection
    told = f"the one for all kinds: {common.ratios[profile]:.2f} times the best here, {common.worst:.2f} at worst"
    loses = f"best here alone; {common.name} is the one for all kinds"
    others = [one for one in selection.assessments if one is not best]
    others = [_changed(one, "dominated", loses) if one.verdict == "winner" else one for one in others]
    key = best.candidate.key
    return dataclasses.replace(
        selection, winner=key, best_so_far=key, assessments=(_changed(best, "winner", told), *others)
    )


def withheld(selection: Selection, why: str) -> Selection:
    """A kind's decision without its winner, which `why` goes against."""
    told = tuple(
        _changed(one, "tie", f"within the budget here; {why}") if one.verdict == "winner" else one
        for one in selection.assessments
    )
    return dataclasses.replace(selection, winner=None, assessments=told)


def _digest(one: Assessment) -> str:
    return one.candidate.variant.artifact.digest


def _depth(one: Assessment) -> int:
    return max((launch.plan.min_samples for launch in one.candidate.measurements), default=0)


def _changed(one: Assessment, verdict: _Verdict, reason: str) -> Assessment:
    return dataclasses.replace(one, verdict=verdict, reason=reason)
