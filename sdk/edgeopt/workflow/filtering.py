"""Keeps variants off the board that could tell nothing new there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeopt.core.formats import ONNX
from edgeopt.core.recipe import BASELINE
from edgeopt.core.variant import Rejection, Variant
from edgeopt.graph.inspect import structure_digest
from edgeopt.store.artifacts import ArtifactStore


def unless_twin(outcome: Variant | Rejection, before: Sequence[Variant | Rejection]) -> Variant | Rejection:
    """A file that is there already under another name is not measured twice."""
    for other in before:
        if isinstance(outcome, Variant) and isinstance(other, Variant) and outcome.artifact == other.artifact:
            return Rejection(outcome.name, "pass", f"came out the same file as {other.name}")
    return outcome


def without_siblings(outcomes: Sequence[Variant | Rejection], artifacts: ArtifactStore) -> list[Variant | Rejection]:
    """Of variants that differ in the values of weights and scales alone (calibrators), the most faithful one.

    They take the same time and memory on any board, so measuring all of them would tell nothing but noise.
    """
    best: dict[str, Variant] = {}
    structures = {outcome.name: _structure(outcome, artifacts) for outcome in outcomes if isinstance(outcome, Variant)}
    for outcome in outcomes:
        if isinstance(outcome, Variant):
            sibling = best.setdefault(structures[outcome.name], outcome)
            if _faithful(outcome) > _faithful(sibling):
                best[structures[outcome.name]] = outcome
    return [_kept_or_told(outcome, best, structures) for outcome in outcomes]


def _structure(variant: Variant, artifacts: ArtifactStore) -> str:
    """Equal for networks that differ in values alone; only ONNX files are looked into."""
    artifact = variant.artifact
    return structure_digest(artifacts.path(artifact)) if artifact.format == ONNX else artifact.digest


def _faithful(variant: Variant) -> tuple[bool, float, float]:
    return variant.name == BASELINE.name, variant.metric or 0.0, variant.cosine or 0.0


def _kept_or_told(
    outcome: Variant | Rejection, best: Mapping[str, Variant], structures: Mapping[str, str]
) -> Variant | Rejection:
    if isinstance(outcome, Rejection) or best[structures[outcome.name]] is outcome:
        return outcome
    winner = best[structures[outcome.name]]
    figures = [f"metric {v.metric:.4g}, cosine {v.cosine:.4f}" for v in (winner, outcome) if v.metric and v.cosine]
    told = f" ({' against '.join(figures)})" if len(figures) == 2 else ""
    reason = f"the same layers as {winner.name}, which is at least as true to the original here{told}"
    return Rejection(outcome.name, "host_accuracy", reason)
