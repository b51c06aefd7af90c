"""A whole run of the main job, as the ledger keeps it and the report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.deployment import Deployment
from edgeopt.core.device import Device, DeviceFacts
from edgeopt.core.kinds import BoardPart, Common
from edgeopt.core.layers import LayerFigures
from edgeopt.core.model import Artifact, Model
from edgeopt.core.selection import Selection
from edgeopt.core.space import Trial
from edgeopt.core.variant import Rejection, Variant
from edgeopt.core.work import Forecast


@dataclass(frozen=True)
class DataSummary:
    """Where calibration and evaluation samples came from.

    Attributes:
        source: What the user typed, or ``generated``.
        digest: Of samples, split, preprocessing code and seed.
        calibration_samples, evaluation_samples: Sizes; the sets are disjoint unless `overlap`.
        metric: ``top1``, ``fidelity`` or the user's function.
        labelled: Whether labels came with the samples.
        generated: Whether the samples are random numbers: then fidelity says nothing about accuracy.
        seed: Seed of the split.
        overlap: Whether one set serves as both because the user said so.
        training_source: What the user typed for training samples; empty where there are none.
        training_digest: Of those samples and of the loss.
        training_samples: How many.
    """

    source: str
    digest: str
    calibration_samples: int
    evaluation_samples: int
    metric: str
    labelled: bool
    generated: bool
    seed: int
    overlap: bool = False
    training_source: str = ""
    training_digest: str = ""
    training_samples: int = 0


@dataclass(frozen=True)
class RunRecord:
    """Everything that the report shows.

    Attributes:
        run_id: Short unique name.
        command: The command line that reproduces it.
        state: ``running``, ``done``, ``infeasible`` or ``failed``.
        started_at, finished_at: Seconds since the epoch; 0 where it has not finished.
        model, device, facts, profile_name, data: What went in.
        variants: Every variant that was made.
        rejections: Every one that was not, with the reason.
        selection: The decision; ``None`` before there is one.
        deployment: What is active on the device; ``None`` where nothing was activated.
        versions: Library versions on the host.
        trials: What a search tried, in order; empty where there was none.
        notes: What the user should know (reused measurements, fall-backs), in order.
        golden: The sample file with inputs and the outputs that every variant must give; ``None`` in records of before.
        layers: What is known of single layers; empty where neither ranking nor pruning needed it.
        group: Of a run for several boards: what the runs of its kinds have in common of their names; else empty.
        boards: Of such a run: every board of this kind; `device` and `facts` are the first one's.
        common: The winner for all kinds, where one was asked for and found.
        unreached: Of such a run: boards of any kind that could not be used at all, with the reason.
        forecast: What was expected of the candidates before they were measured; ``None`` in records of before.
    """

    run_id: str
    command: str
    state: str
    started_at: float
    finished_at: float
    model: Model
    device: Device
    facts: DeviceFacts
    profile_name: str
    data: DataSummary
    variants: tuple[Variant, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    selection: Selection | None = None
    deployment: Deployment | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()
    golden: Artifact | None = None
    layers: tuple[LayerFigures, ...] = ()
    group: str = ""
    boards: tuple[BoardPart, ...] = ()
    common: Common | None = None
    unreached: Mapping[str, str] = field(default_factory=dict)
    forecast: Forecast | None = None
