"""The table of peers, and whether the targets were met."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from competing import EDGEOPT, ORIGINAL, Result

MOST_LOST, LEAST_OF_BEST, TIMES_BEST = 0.01, 0.98, 1.25
HEADINGS = ("network", "by", "ms", "edgeopt is faster", "fidelity lost", "MB", "peak MiB", "made in s", "")


def rows(results: Sequence[Result]) -> Iterator[str]:
    """Markdown: every entry of every network, fastest first, and then what has no figures, with the reason."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" * len(HEADINGS)
    for result in results:
        network = result.entered.network
        best = result.best_peer(MOST_LOST)
        for name in sorted(result.figures, key=lambda name: result.figures[name].median_ms):
            one, entry = result.figures[name], result.entered.entries[name]
            told = "best peer" if name == best else "over the budget" if one.lost > MOST_LOST else ""
            cells = (
                *(network, f"**{name}** ({entry.what})" if name == EDGEOPT else name, f"{one.median_ms:.3f}"),
                *(f"{result.ratio(name):.2f}x", f"{one.lost:.4f}", f"{entry.size_bytes / 1e6:.2f}"),
                *(f"{one.peak_bytes / 2**20:.0f}", f"{entry.seconds:.0f}" if entry.seconds else "-", told),
            )
            yield f"| {' | '.join(cells)} |"
        for name, reason in result.problems.items():
            yield f"| {network} | {name} | - | - | - | - | - | - | {reason} |"


def verdicts(results: Sequence[Result]) -> Iterator[str]:
    """The targets; where edgeopt has nothing within the budget it is as slow as can be."""
    pairs = [(one, best) for one in results if (best := one.best_peer(MOST_LOST))]
    ratios = {one.entered.network: _advantage(one, best) for one, best in pairs}
    behind = [f"{name} {ratio:.2f}" for name, ratio in ratios.items() if ratio < LEAST_OF_BEST]
    verdict = f"**missed** ({', '.join(behind)})" if behind else "**met**"
    yield f"* never slower than the best peer within the budget (at least {LEAST_OF_BEST}): {verdict}"
    usable = sum(one.usable(EDGEOPT, MOST_LOST) for one in results)
    yield f"* runs that ended with a usable model: {usable} of {len(results)}"
    means = {name: _mean_against(name, results) for name in _peers(results)}
    for name in sorted(means, key=lambda name: means[name])[:1]:
        verdict = "met" if means[name] >= TIMES_BEST else "missed"
        yield (
            f"* times as fast as the best single peer ({name}), geometric mean of {len(results)}: {means[name]:.3f} "
            f"(at least {TIMES_BEST}): **{verdict}**"
        )


def _peers(results: Sequence[Result]) -> list[str]:
    """Names of all that gave something within the budget anywhere."""
    names = [name for one in results for name in one.figures if one.usable(name, MOST_LOST)]
    return [name for name in dict.fromkeys(names) if name != EDGEOPT]


def _advantage(result: Result, peer: str) -> float:
    return result.ratio(peer) if result.usable(EDGEOPT, MOST_LOST) else 0.0


def _mean_against(peer: str, results: Sequence[Result]) -> float:
    """Geometric mean of edgeopt's advantage; the float network stands in where the peer has nothing usable."""
    ratios = [_advantage(one, peer if one.usable(peer, MOST_LOST) else ORIGINAL) for one in results]
    return statistics.geometric_mean(ratios) if all(ratios) else 0.0
