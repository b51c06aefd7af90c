"""One optimised form of a network and how it came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeopt.core.model import Artifact
from edgeopt.core.recipe import Recipe
from edgeopt.core.work import Work


@dataclass(frozen=True)
class Provenance:
    """Everything that is needed to make the same file again.

    Attributes:
        model_digest: The source network.
        recipe: What was done.
        data_digest: Calibration data, split, preprocessing and seed in one digest; empty where no data was used.
        tools: Library versions, by name.
        seed: Seed of every random choice.
        training_digest: Of training samples and loss; empty where nothing was trained on them.
    """

    model_digest: str
    recipe: Recipe
    data_digest: str
    tools: Mapping[str, str]
    seed: int
    training_digest: str = ""


@dataclass(frozen=True)
class Variant:
    """A form of the network that may be deployed.

    Attributes:
        name: The recipe's name; unique within a run.
        artifact: The file.
        provenance: How it came to be.
        metric: Value of the metric on the host's evaluation subset, or ``None`` when it was not computed.
        cosine: Smallest cosine similarity to the source model's outputs on the parity inputs.
        kept_float: Names of the layers that were kept in float to hold the accuracy budget.
        notes: What passes had to say (fall-backs, layers left out).
        work: What a sample takes; ``None`` where it could not be counted.
    """

    name: str
    artifact: Artifact
    provenance: Provenance
    metric: float | None = None
    cosine: float | None = None
    kept_float: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    work: Work | None = None


@dataclass(frozen=True)
class Rejection:
    """A variant or candidate that is out before it was measured, with the reason.

    Attributes:
        name: The recipe's or candidate's name.
        stage: ``rule``, ``pass``, ``parity``, ``host_accuracy``, ``size``, ``roofline``.
        reason: One sentence for the user.
    """

    name: str
    stage: str
    reason: str
    details: Mapping[str, str] = field(default_factory=dict)
