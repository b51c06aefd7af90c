"""What the benchmark makes of each network, what it is to show, and who competes with whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

RECIPES: dict[str, tuple[str, ...]] = {
    "residual": (
        *("int8-static", "int8-qat", "prune-trained", "prune-latency", "prune-int8", "prune-deep-int8"),
        *("prune", "sparse-groups", "shallow", "low-resolution", "distil-int8", "low-rank"),
        *("int4-packed", "int4-qat", "int2-qat", "binary", "clustered"),
    ),
    "depthwise": (
        *("int8-static", "int8-mixed", "int8-qat", "prune-trained", "prune-int8"),
        *("int4-packed", "int4-qat", "binary"),
    ),
    "uneven": ("int8-static", "int8-equalised", "int8-qat"),
    "transformer": (
        *("int8-static", "int8-smooth", "int8-qat", "fewer-heads", "prune-int8", "low-rank"),
        *("int4-packed", "int4-qat", "binary"),
    ),
    "recurrent": ("int8-dynamic", "low-rank", "clustered", "int4-packed", "int4-qat", "binary"),
}
RIVALS = {
    "peer-ort-static": "int8-static",
    "peer-ort-dynamic": "int8-dynamic",
    "peer-nncf": "int8-static",
    "peer-torch-ao-qat": "int8-qat",
    "peer-torch-pruning": "prune-trained",
}
"""Which recipe does what a peer does."""

LITTLE, POINT = 0.3, 1.0
"""Points of top-1."""

_SAME_SPEED, _SAME_SIZE = 0.97, 1.03


@dataclass(frozen=True)
class Row:
    """A form of a network, as it was measured.

    Attributes:
        network, form, maker: What of what by whom.
        top1: On held-out samples, on the device, in per cent.
        lost: Points less than the original has.
        macs: Multiply-accumulates at batch 1.
        fewer: The original's over these.
        size_bytes: The file.
        smaller: The original's over it.
        faster: Median over the rounds of the original's latency over this one's in the same round.
    """

    network: str
    form: str
    maker: str
    top1: float
    lost: float
    macs: int
    fewer: float
    size_bytes: int
    smaller: float
    faster: float


@dataclass(frozen=True)
class Target:
    """What the forms are to reach: at least one of those asked about, or every one."""

    text: str
    networks: Sequence[str]
    forms: Sequence[str]
    holds: Callable[[Row], bool]
    every: bool = False


TARGETS = (
    Target(
        "pruned, at most 1 point: 2 times fewer MACs and 1.5 times faster",
        ["residual"],
        ["prune-trained", "prune-latency"],
        lambda row: row.lost <= POINT and row.fewer >= 2 and row.faster >= 1.5,
    ),
    Target(
        "pruned, distilled, int8, at most 1 point: 4 times faster",
        [],
        ["prune-int8", "prune-deep-int8"],
        lambda row: row.lost <= POINT and row.faster >= 4,
    ),
    Target(
        "pruned, distilled, int8, at most 1 point: 8 times smaller",
        [],
        ["prune-int8", "prune-deep-int8"],
        lambda row: row.lost <= POINT and row.smaller >= 8,
    ),
    Target("int8 by training: at most 0.3 points", [], ["int8-qat"], lambda row: row.lost <= LITTLE, every=True),
    Target("there plain int8 loses more", ["uneven"], ["int8-static"], lambda row: row.lost > LITTLE),
    Target("weights of 4 bits: at most 1 point", [], ["int4-qat"], lambda row: row.lost <= POINT, every=True),
)


def judged(target: Target, rows: Sequence[Row]) -> str:
    """``met``, ``missed``, or nothing where none of its forms was measured."""
    asked = [row for row in rows if row.form in target.forms and row.network in (target.networks or [row.network])]
    if not asked:
        return ""
    holds = [target.holds(row) for row in asked]
    return "met" if (all(holds) if target.every else any(holds)) else "missed"


def against(peer: Row, rows: Mapping[tuple[str, str], Row]) -> str:
    """How the recipe that does what a peer does compares: no less top-1 at no more time or no larger a file."""
    own = rows.get((peer.network, RIVALS[peer.form]))
    if own is None:
        return ""
    better = own.top1 >= peer.top1
    cheaper = own.faster >= peer.faster * _SAME_SPEED or own.size_bytes <= peer.size_bytes * _SAME_SIZE
    return f"{own.form} {'wins' if better and cheaper else 'LOST'}"
