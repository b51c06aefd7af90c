"""What is known of single layers of a network: how sensitive they are, and how long they take on a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerFigures:
    """One layer.

    Attributes:
        name: As in the network's file.
        share: Its share of the quantisation error, 0 to 1; ``None`` where it was not ranked.
        milliseconds: What it takes on the device in float; ``None`` where it was not measured alone.
    """

    name: str
    share: float | None = None
    milliseconds: float | None = None
