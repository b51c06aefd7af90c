"""Exact keys of what the ledger remembers: canonical JSON, hashed; equal keys mean that a result may be reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.core.plan import Plan
from edgeopt.core.profile import Settings
from edgeopt.core.variant import Provenance
from edgeopt.documents import plain
from edgeopt.store.finite import finite


@dataclass(frozen=True)
class Conditions:
    """Everything that a measurement depends on.

    Attributes:
        variant_digest: The file.
        device_fingerprint: The device (ISA, cores, governor, power mode, OS).
        runtime_version: Version of the runtime on the device.
        runner: Digest or version of the runner.
        settings: How it is run.
        plan: How it is measured.
        golden_digest: The golden samples, with their reference outputs.
        min_cosine: What the golden outputs must reach.
        evaluation_digest: The evaluation set, or ``None``.
        metric: What is computed over it.
    """

    variant_digest: str
    device_fingerprint: str
    runtime_version: str
    runner: str
    settings: Settings
    plan: Plan
    golden_digest: str
    min_cosine: float
    evaluation_digest: str | None
    metric: str


def exact_key(kind: str, value: object) -> str:
    """SHA-256 of any plain data or noun, for example of what a command was asked to do.

    Args:
        kind: Keeps keys of different things apart.
        value: Nouns, mappings, sequences, strings, numbers; the order of mappings does not matter, 1 equals 1.0.

    Raises:
        ValueError: It holds a NaN or an infinity, which equal nothing.
    """
    if not finite(value):
        raise ValueError(f"the {kind} holds a number that is NaN or infinite, so it has no key")
    text = json.dumps([kind, _canonical(plain(value))], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def variant_key(provenance: Provenance, *, isa: Sequence[str], max_drop: float | None) -> str:
    """Key of a variant: two equal ones are the same file.

    Args:
        provenance: Source model, recipe, calibration data, tools and seed.
        isa: Flags of the device that the passes may look at, in any order.
        max_drop: The accuracy budget; it matters only to a recipe that may recover layers.

    Raises:
        ValueError: An option or the budget is not a finite number.
    """
    limit = max_drop if provenance.recipe.recover else None
    return exact_key("variant", {"provenance": provenance, "isa": sorted(set(isa)), "max_drop": limit})


def measurement_key(conditions: Conditions) -> str:
    """Key of a measurement; without evaluation the evaluation set and metric do not matter.

    Raises:
        ValueError: A number in it is not finite.
    """
    if not conditions.plan.evaluate:
        conditions = replace(conditions, evaluation_digest=None, metric="")
    return exact_key("measurement", {**plain(conditions), "settings": conditions.settings.document()})


def _canonical(value: Any) -> Any:
    """Whole floats as integers, so that the way a number was written does not matter."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value
