"""What boards that pull are offered, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from edgeopt.report import quantities as q
from edgeopt.report.layout import table, text
from edgeopt_runner.protocol.offers import Offer


def print_offers(rows: Sequence[tuple[Offer, str, int, int]], console: Console) -> None:
    """A line an offer.

    Args:
        rows: Each with its window in words, and how many of the boards that were enrolled here take it now, and how
            many it is for.
        console: Where to.
    """
    if not rows:
        console.print("Nothing is offered. Next: edgeopt fleet offer APP@VERSION --to all")
        return
    made = table("release", "to", "share", "boards", "begins, UTC", "window", "since, UTC", "rollout", right=(2, 3))
    for offer, window, taking, fitting in rows:
        made.add_row(
            text(f"{offer.app}@{offer.release}", limit=60),
            text(",".join(f"{name}={value}" for name, value in sorted(offer.labels.items())) or "all", limit=60),
            f"{q.significant(offer.fraction_per_10000 / 100)} %",
            f"{taking} of {fitting}",
            q.moment(offer.not_before) if offer.not_before else "at once",
            text(window or "always"),
            q.moment(offer.created),
            offer.rollout_id,
        )
    console.print(made)
