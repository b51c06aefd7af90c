"""What a pipeline of stages was measured to do on a device or over several, beside sessions of the whole model."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from edgeopt.core.profile import Settings

MODES = ("one session", "sessions", "pipeline")
"""What is compared, in this order: one session, as many sessions as the pipeline has stages, the pipeline."""

DEVICE_MODES = ("one session", "sequential", "pipeline")
"""The same over devices: the whole on the first one, one request at a time through all of them, the pipeline."""


@dataclass(frozen=True)
class Mode:
    """One way to serve requests, in rounds that took turns with the others'.

    Attributes:
        name: One of `MODES` or of `DEVICE_MODES`.
        latency_ns: Median time of a request under load, by round.
        items_per_second: Requests served a second under that load, by round.
        alone_ns: Median time of a request with no other on its way, by round; only of the pipeline, whose requests wait
            for each other under load.
        pss_bytes: Memory of its processes, shared pages by halves; ``None`` where the kernel does not tell.
    """

    name: str
    latency_ns: tuple[int, ...]
    items_per_second: tuple[float, ...]
    alone_ns: tuple[int, ...] = ()
    pss_bytes: int | None = None

    @property
    def throughput(self) -> float:
        """Median over the rounds, requests a second."""
        return statistics.median(self.items_per_second)

    @property
    def request_ns(self) -> float:
        """Median over the rounds of the time of one request: alone where that is known."""
        return statistics.median(self.alone_ns or self.latency_ns)


@dataclass(frozen=True)
class Place:
    """Where a stage ran: the device, and how it was run there."""

    device: str
    settings: Settings


@dataclass(frozen=True)
class Edge:
    """What the host carries from one stage to the next.

    Attributes:
        source, sink: Names of what is at its ends; a device and its stage, or the host.
        tensors: What travels.
        size_bytes: Of one request, where it arrives.
        relay_ns: Median time of its way, from the end of one inference to the beginning of the next, by round.
    """

    source: str
    sink: str
    tensors: tuple[str, ...]
    size_bytes: int
    relay_ns: tuple[int, ...]

    @property
    def way_ns(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.relay_ns)

    @property
    def bytes_per_second(self) -> float:
        """What gets through in that time, latency and the host's own work with it."""
        return self.size_bytes * 1e9 / max(1.0, self.way_ns)


@dataclass(frozen=True)
class PipelineFigures:
    """The three of them.

    Attributes:
        modes: In the order of `MODES` or of `DEVICE_MODES`.
        stage_ns: Median time that each stage computed, by round.
        sessions: Stages, and sessions of the second mode.
        settings: Of each session and each stage; over devices of the whole on the first one.
        cosine, max_abs: The pipeline's outputs against the references.
        flags: What weakens the figures (`Measurement.flags`).
        places: Over devices: where each stage ran.
        edges: Over devices: into the first stage, between stages, out of the last.
        direct: Over devices: the whole on the first one as it is measured elsewhere, without the way there and back.
    """

    modes: tuple[Mode, ...]
    stage_ns: tuple[tuple[int, ...], ...]
    sessions: int
    settings: Settings
    cosine: float
    max_abs: float
    flags: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    edges: tuple[Edge, ...] = ()
    direct: Mode | None = None

    def gain(self, over: str) -> tuple[float, float, float]:
        """Throughput of the pipeline over that of another mode: median over the rounds, least and most.

        Args:
            over: Name of a mode.
        """
        mine, theirs = (self.mode(name).items_per_second for name in (MODES[2], over))
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)

    def mode(self, name: str) -> Mode:
        """The mode of that name."""
        return next(mode for mode in self.modes if mode.name == name)
